//! `cargo xtask browser`: reports in a real, headless Chromium. They render, sort and filter, and fetch nothing.
//!
//! Real reports are made (a pass, a failure, and one of 2,000 taps), and a harness is appended to copies of their pages. What
//! it finds is read from the page that Chromium prints; what went over the network, from Chromium's own log of it.

mod chromium;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{
    cargo,
    stages::{exit_code, succeed},
};

pub use chromium::missing;

const HARNESS: &str = include_str!("browser/harness.js");
const FIXTURE: &str = "fixtures/data/tiny-gundam";
/// As many taps as the largest page is measured with.
const MANY: usize = 2000;
/// How every page is looked at.
const LOOKS: [chromium::Look; 2] =
    [chromium::Look { dark: false, width: 1280 }, chromium::Look { dark: true, width: 420 }];

/// Builds what makes the reports, makes them and looks at them.
///
/// # Errors
/// Everything that does not hold, by page.
pub fn run() -> Result<()> {
    let mut build = cargo::command();
    build.args(["build", "--quiet"]).args(cargo::ALL_BUT_XTASK).args(cargo::BINARY_OF_TESTS);
    succeed(build.args(["--example", "repeated"]))?;
    look()
}

/// Makes reports with the binary and the example that lie in cargo's debug folder, and looks at them: building them is the caller's.
///
/// # Errors
/// Everything that does not hold, by page.
pub fn look() -> Result<()> {
    let folder = cargo::target_folder(&cargo::metadata(&cargo::host_triple()?)?)?.join("browser");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let reports = reports(&folder)?;
    let mut wrong = Vec::new();
    for (name, page) in &reports {
        let copy = with_harness(&folder, name, page)?;
        // Side by side: a browser mostly waits for its own processes.
        let (folder, copy) = (folder.as_path(), copy.as_path());
        let found = std::thread::scope(|scope| {
            let threads = LOOKS.map(|look| scope.spawn(move || looked_at(folder, name, copy, look)));
            threads.map(|thread| {
                thread.join().unwrap_or_else(|_| bail!("{name}: the thread that drives the browser panicked"))
            })
        });
        for (look, found) in LOOKS.into_iter().zip(found) {
            let found = found?;
            eprintln!("   {name}, {} px, {}: {} checks", look.width, look.scheme(), found.checks);
            wrong.extend(found.wrong.into_iter().map(|text| format!("{name} ({} px): {text}", look.width)));
        }
    }
    let (name, page) = &reports[reports.len() - 1];
    let milliseconds = opened(&folder, &with_harness(&folder, name, page)?)?;
    eprintln!("   {name}: loaded and laid out in {milliseconds:.0} ms");
    ensure!(wrong.is_empty(), "{} checks failed:\n  {}", wrong.len(), wrong.join("\n  "));
    Ok(())
}

/// Pages by name: a pass, a failure (a wrong epsilon in SAM), and the failure's taps again and again.
fn reports(folder: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
    let built = folder.parent().unwrap_or(folder).join("debug");
    let binary = built.join("mlxport");
    let model = folder.join("model");
    let mlxport = |arguments: &[&Path], expected: u8| -> Result<()> {
        let mut command = Command::new(&binary);
        command.current_dir(cargo::workspace_root()).stdout(std::process::Stdio::null()).args(arguments);
        let code = exit_code(&mut command)?;
        ensure!(code == expected, "mlxport ended with {code}, expected {expected}");
        Ok(())
    };
    let path = Path::new;
    let checkpoint = PathBuf::from(FIXTURE).join("checkpoint");
    mlxport(&[path("convert"), &checkpoint, &model], 0)?;
    let (pass, fail, many) = (folder.join("pass"), folder.join("fail"), folder.join("many"));
    let parity = |report: &Path, expected| {
        let fixture = path(FIXTURE);
        mlxport(
            &[path("parity"), path("--model"), &model, path("--fixture"), fixture, path("--report"), report],
            expected,
        )
    };
    parity(&pass, 0)?;
    spoil(&model.join("config.json"))?;
    parity(&fail, 1)?;
    let mut repeated = Command::new(built.join("examples/repeated"));
    succeed(repeated.arg(fail.join("record.json")).arg(MANY.to_string()).arg(&many))?;
    Ok([("pass", pass), ("fail", fail), ("2,000 taps", many)].map(|(name, dir)| (name, dir.join("report.html"))).into())
}

/// Gives SAM's LayerNorm a wrong epsilon.
fn spoil(config: &Path) -> Result<()> {
    let mut value: Value = serde_json::from_slice(&fs::read(config)?)?;
    let epsilon = value.pointer_mut("/vision_config/width/sam_vit_b/layer_norm_eps");
    *epsilon.context("config.json has an epsilon for SAM")? = 1e-5.into();
    fs::write(config, value.to_string()).with_context(|| config.display().to_string())
}

/// What the harness found.
#[derive(Debug, PartialEq)]
struct Found {
    checks: usize,
    wrong: Vec<String>,
    milliseconds: f64,
}

/// Runs the harness in a copy of the page to its end, and reads Chromium's log of the network.
fn looked_at(folder: &Path, name: &str, copy: &Path, look: chromium::Look) -> Result<Found> {
    let log = folder.join(format!("network-{}.json", look.scheme()));
    let dom = chromium::dom(copy, folder, &log, Some(look))?;
    let mut found = read_harness(&dom).with_context(|| name.to_owned())?;
    found.wrong.extend(chromium::requests(&fs::read_to_string(&log)?).into_iter().map(|url| format!("fetched {url}")));
    ensure!(found.checks > 20, "{name}: only {} checks were made", found.checks);
    Ok(found)
}

/// How long the page takes until it is loaded and laid out, by the browser's real clock.
fn opened(folder: &Path, copy: &Path) -> Result<f64> {
    let dom = chromium::dom(copy, folder, &folder.join("network.json"), None)?;
    Ok(harness_object(&dom)?["milliseconds"].as_f64().unwrap_or(f64::NAN))
}

fn with_harness(folder: &Path, name: &str, page: &Path) -> Result<PathBuf> {
    let text = fs::read_to_string(page).with_context(|| page.display().to_string())?;
    let end = text.rfind("</body>").context("the page has no end")?;
    let copy = folder.join(format!("{}.html", name.replace(|c: char| !c.is_alphanumeric(), "-")));
    fs::write(&copy, format!("{}<script>{HARNESS}</script>{}", &text[..end], &text[end..]))?;
    Ok(copy)
}

/// The object that the harness left in the printed page.
fn harness_object(dom: &str) -> Result<Value> {
    const OPEN: &str = "<pre id=\"harness\" hidden=\"\">";
    let Some(start) = dom.rfind(OPEN) else {
        bail!("the harness left nothing: the page did not load, or its script broke")
    };
    let text = &dom[start + OPEN.len()..];
    let text = &text[..text.find("</pre>").context("the harness's element has no end")?];
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", "\u{a0}").replace("&amp;", "&");
    serde_json::from_str(&text).context("the harness left no JSON")
}

fn read_harness(dom: &str) -> Result<Found> {
    let object = harness_object(dom)?;
    let results = object["results"].as_array().context("the harness left no results")?;
    let ended = results.last().is_some_and(|last| last[0] == "the end was reached");
    let broken = results.iter().filter(|result| result[1] != true);
    let mut wrong: Vec<String> = broken.map(|result| format!("{} (found {})", result[0], result[2])).collect();
    if !ended {
        wrong.push("the harness did not come to its end".to_owned());
    }
    Ok(Found { checks: results.len(), wrong, milliseconds: object["milliseconds"].as_f64().unwrap_or(f64::NAN) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dom(object: &str) -> String {
        format!("<html><pre id=\"harness\" hidden=\"\">{object}</pre></html>")
    }

    #[test]
    fn what_the_harness_says_is_believed_only_if_it_came_to_its_end() {
        let whole =
            r#"{"milliseconds":12.5,"results":[["a &lt; b",true,""],["c",false,"d"],["the end was reached",true,""]]}"#;
        let found = read_harness(&dom(whole)).expect("sound");
        assert_eq!((found.checks, found.milliseconds), (3, 12.5));
        assert_eq!(found.wrong, ["\"c\" (found \"d\")"]);
        let cut = r#"{"milliseconds":1,"results":[["a",true,""]]}"#;
        assert_eq!(read_harness(&dom(cut)).expect("sound").wrong.len(), 1);
        assert!(read_harness("<html></html>").is_err());
        assert!(read_harness(&dom("{")).is_err());
    }
}
