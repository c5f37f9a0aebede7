//! A headless Chromium: where it lies, how it is started, and what it says it asked the network for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// What it is called.
const NAMES: [&str; 5] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];
/// Where macOS keeps it.
const ON_MACOS: [&str; 2] = [
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];
/// Neither asks nor tells anyone anything (no name is resolved), and may run as root in a container: it opens our own files only.
const FLAGS: [&str; 13] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
    "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND",
];
/// Longer than this it does not take: then it hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// How a page is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether the system says it likes dark pages.
    pub dark: bool,
    /// Pixels.
    pub width: u32,
}

impl Look {
    /// `dark` or `light`.
    pub fn scheme(self) -> &'static str {
        if self.dark { "dark" } else { "light" }
    }
}

/// The program; the variable `CHROMIUM` names another.
fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CHROMIUM") {
        return Some(PathBuf::from(named));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let on_path = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    on_path.chain(ON_MACOS.iter().map(PathBuf::from)).find(|program| program.is_file())
}

/// Why there is nothing to run; nothing where there is a browser.
pub fn missing() -> Option<String> {
    match program() {
        Some(_) => None,
        None => Some(format!("no browser: none of {} is installed", NAMES.join(", "))),
    }
}

/// Opens a page and prints what became of it. With a look, its scripts get all the time they ask for; without one, it is
/// printed as soon as it is loaded, and its clock is the real one.
///
/// # Errors
/// When the browser cannot be started, fails or hangs.
pub fn dom(page: &Path, folder: &Path, log: &Path, look: Option<Look>) -> Result<String> {
    let profile = tempfile::tempdir_in(folder)?;
    let out = profile.path().join("printed.html");
    let mut command = Command::new(program().context("no browser")?);
    command.args(FLAGS).arg(format!("--user-data-dir={}", profile.path().display()));
    command.arg(format!("--log-net-log={}", log.display())).arg("--dump-dom");
    if let Some(look) = look {
        command.arg("--virtual-time-budget=60000").arg(format!("--window-size={},900", look.width));
        if look.dark {
            command.arg("--blink-settings=preferredColorScheme=0");
        }
    }
    command.arg(format!("file://{}", page.display()));
    let mut child = command
        .stdout(fs::File::create(&out)?)
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("could not start {}", command.get_program().display()))?;
    let begun = Instant::now();
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if begun.elapsed() > LIMIT => {
                child.kill()?;
                child.wait()?;
                bail!("the browser did not end within {} s", LIMIT.as_secs());
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    if !status.success() {
        bail!("the browser ended with {status}");
    }
    fs::read_to_string(&out).context("what the browser printed")
}

/// What a page asked anyone for: every address in the log that has the page for its initiator, but those of files and of the page's
/// own data. What the browser asks for by itself (its updates, say) has none.
pub fn requests(log: &str) -> Vec<String> {
    // The log of a browser that ended in a hurry lacks its end; each event has a line of its own.
    let events = log.lines().filter_map(|line| {
        let line = line.trim().trim_end_matches(',').trim_start_matches("\"events\": [");
        serde_json::from_str::<Value>(line).ok()
    });
    let asked = |params: &Value| params["initiator"].as_str().is_some_and(|from| from != "not an origin");
    let mut found: Vec<String> = events
        .filter_map(|event| Some(event.get("params")?.clone()))
        .filter(asked)
        .filter_map(|params| Some(params.get("url")?.as_str()?.to_owned()))
        .filter(|url| {
            !["file:", "data:", "chrome:", "chrome-extension:", "devtools:"].iter().any(|own| url.starts_with(own))
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_the_log_are_found_though_its_end_is_missing() {
        let log = "{\"constants\": {},\n\"events\": [\n{\"params\":{\"initiator\":\"null\",\"url\":\"file:///a\"}},\n{\"params\":{\"initiator\":\"null\",\"url\":\"elsewhere:b\"}},\n\
                   {\"params\":{\"initiator\":\"not an origin\",\"url\":\"update:c\"}},\n{\"par";
        assert_eq!(requests(log), ["elsewhere:b"]);
        assert!(requests("").is_empty());
    }

    #[test]
    fn a_page_that_asks_is_caught() {
        // Where there is no browser, `missing` says so and the stage is reported as not run.
        if missing().is_some() {
            return;
        }
        let folder = tempfile::tempdir().expect("a temporary directory");
        let page = folder.path().join("page.html");
        let address = concat!("http", "://127.0.0.1:9/picture.png");
        fs::write(&page, format!("<img src=\"{address}\"><p>text")).expect("written");
        let log = folder.path().join("log.json");
        let look = Look { dark: false, width: 400 };
        let dom = dom(&page, folder.path(), &log, Some(look)).expect("opened");
        assert!(dom.contains("<p>text"), "{dom}");
        assert_eq!(requests(&fs::read_to_string(&log).expect("a log")), [address]);
    }
}
