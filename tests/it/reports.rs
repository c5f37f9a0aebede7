//! What is made of records: rendered again, compared, written down over time. Broken ones are located, with exit code 2. And
//! the action that does all of it in CI.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{
    action, checkpoint_copy, code, converted, edit_config, fixture, mlxport, parity, schemas, stderr,
};

/// Report directories of one model as it is (`pass`) and with a wrong epsilon in SAM (`fail`).
fn reports() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = converted("tiny-small", "mlx-vlm");
    let model = dir.path().join("model");
    let at = |name: &str| dir.path().join(name);
    let run = |report: &Path| {
        let report = report.to_str().expect("UTF-8");
        code(&parity(&model, &fixture("tiny-small"), &["--report", report]))
    };
    let (pass, fail) = (at("pass"), at("fail"));
    assert_eq!(run(&pass), 0);
    edit_config(&model.join("config.json"), "/vision_config/width/sam_vit_b/layer_norm_eps", 1e-5.into());
    assert_eq!(run(&fail), 1);
    (dir, pass, fail)
}

/// Runs `mlxport report …`; the exit code must be as expected. Returns stdout and stderr.
fn report(args: &[&dyn AsRef<std::ffi::OsStr>], expected: i32) -> (String, String) {
    let all: Vec<_> = std::iter::once("report".as_ref()).chain(args.iter().map(|arg| (*arg).as_ref())).collect();
    let output = mlxport(all);
    assert_eq!(code(&output), expected, "{}", stderr(&output));
    (String::from_utf8(output.stdout.clone()).expect("UTF-8"), stderr(&output))
}

fn object(text: &str) -> Value {
    serde_json::from_str(text).expect("exactly one object")
}

#[test]
fn records_are_rendered_compared_and_written_down() {
    let (dir, pass, fail) = reports();
    rendered(&dir, &fail);
    compared(&pass, &fail);
    written_down(&dir, &pass, &fail);
    broken(&dir, &pass);
}

/// Every format made again is the file that the run itself wrote.
fn rendered(dir: &tempfile::TempDir, fail: &Path) {
    let again = dir.path().join("again");
    schemas::conforms("record", &object(&std::fs::read_to_string(fail.join("record.json")).expect("a record")));
    report(&[&"render", &fail.join("record.json"), &"--out", &again], 0);
    for (name, format) in [
        ("record.json", "json"),
        ("report.md", "markdown"),
        ("report.html", "html"),
        ("junit.xml", "junit"),
        ("taps.csv", "csv"),
    ] {
        let written = std::fs::read_to_string(fail.join(name)).expect("written by the run");
        assert_eq!(std::fs::read_to_string(again.join(name)).expect("rendered"), written, "{name}");
        assert_eq!(report(&[&"render", &fail, &"--format", &format], 0).0, written, "{name}");
    }
    let (text, _) = report(&[&"render", &fail, &"--format", &"text"], 0);
    assert!(text.starts_with("FAIL tiny-small: ") && !text.contains('\u{1b}'), "{text}");
    report(&[&"render", &fail], 2);
    for (absent, named) in [("absent", "absent/record.json: "), ("absent.json", "absent.json: ")] {
        let (_, said) = report(&[&"render", &dir.path().join(absent), &"--format", &"csv"], 2);
        assert!(said.contains(named), "{said}");
    }
    report(&[&"render", &fail, &"--format", &"csv", &"--base", &fail], 2);
}

fn compared(pass: &Path, fail: &Path) {
    let (text, said) = report(&[&"diff", &pass, &fail, &"--json"], 1);
    let diff = object(&text);
    schemas::conforms("diff", &diff);
    assert_eq!((diff["schema"].as_str(), diff["ok"].as_bool()), (Some("mlxport.diff/1"), Some(false)));
    assert!(diff["counts"]["newly_failing"].as_u64().is_some_and(|count| count > 100), "{}", diff["counts"]);
    // In execution order: the first one is where the fault was planted.
    assert_eq!(diff["taps"][0]["point"], "model.sam_model.blocks.0.norm1");
    assert!(said.contains("Newly failing"), "{said}");
    let (text, _) = report(&[&"diff", &fail.join("record.json"), &pass], 0);
    assert!(text.starts_with("OK: nothing newly fails"), "{text}");
    assert_eq!(object(&report(&[&"diff", &pass, &pass, &"--json"], 0).0)["taps"], serde_json::json!([]));
    let (page, _) = report(&[&"render", &fail, &"--format", &"markdown", &"--base", &pass], 0);
    assert!(page.contains("## Change from the base") && page.contains("## To reproduce"), "{page}");
}

fn written_down(dir: &tempfile::TempDir, pass: &Path, fail: &Path) {
    let (ledger, page) = (dir.path().join("ledger.jsonl"), dir.path().join("ledger.html"));
    let lines = || std::fs::read_to_string(&ledger).expect("a ledger").lines().count();
    for (at, run) in [pass, fail, pass].into_iter().enumerate() {
        let (commit, time) = (format!("{at}abc"), "2026-01-02T03:04:05Z");
        report(&[&"ledger", &ledger, &"--add", &run, &"--commit", &commit, &"--time", &time], 0);
        assert_eq!(lines(), at + 1, "one line per run");
    }
    let (text, _) = report(&[&"ledger", &ledger, &"--json", &"--html", &page], 0);
    let summary = object(&text);
    schemas::conforms("ledger-summary", &summary);
    for line in std::fs::read_to_string(&ledger).expect("a ledger").lines() {
        schemas::conforms("ledger", &object(line));
    }
    assert_eq!(summary["runs"], 3);
    assert_eq!(summary["series"][0]["last"]["commit"], "2abc");
    assert!(std::fs::read_to_string(&page).expect("a page").contains("<svg "));

    let sound = std::fs::read_to_string(&ledger).expect("a ledger");
    let broken: String =
        sound.lines().enumerate().map(|(at, l)| if at == 1 { "{\n".into() } else { format!("{l}\n") }).collect();
    std::fs::write(&ledger, &broken).expect("written");
    let (_, said) = report(&[&"ledger", &ledger, &"--add", &pass, &"--commit", &"x"], 2);
    assert!(said.contains("ledger.jsonl: line 2, column 1: "), "{said}");
    assert_eq!(std::fs::read_to_string(&ledger).expect("there"), broken, "nothing is written to a broken ledger");
    let (text, _) = report(&[&"ledger", &dir.path().join("absent"), &"--json"], 2);
    schemas::conforms("error", &object(&text));
    report(&[&"ledger", &ledger, &"--add", &pass, &"--commit", &"x", &"--time", &"noon"], 2);
}

fn broken(dir: &tempfile::TempDir, pass: &Path) {
    let text = std::fs::read_to_string(pass.join("record.json")).expect("a record");
    let path = dir.path().join("broken.json");
    let line = text.lines().position(|line| line.contains("\"threads\"")).expect("an environment") + 1;
    for (broken, at) in [
        (text.lines().take(40).collect::<Vec<_>>().join("\n"), "line 40, column ".to_owned()),
        (text.replacen("\"threads\": ", "\"threads\": !", 1), format!("line {line}, column ")),
        (text.replacen("\"schema\": 1", "\"schema\": 9", 1), "the record has schema 9, expected 1".to_owned()),
    ] {
        std::fs::write(&path, &broken).expect("written");
        for args in [
            vec![&"render" as &dyn AsRef<std::ffi::OsStr>, &path, &"--format", &"html"],
            vec![&"diff", &path, &pass],
            vec![&"diff", &pass, &path],
            vec![&"ledger", &path, &"--add", &path, &"--commit", &"x"],
        ] {
            let (out, said) = report(&args, 2);
            assert!(out.is_empty() && said.contains("broken.json: ") && !said.contains("panicked"), "{said}");
            assert!(said.contains(&at) || args.len() > 4, "expected {at} in {said}");
        }
    }
}

#[test]
fn what_commands_print_is_as_published() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (release, model) = (fixture("tiny-small").join("checkpoint"), dir.path().join("model"));
    let print = |args: &[&dyn AsRef<std::ffi::OsStr>], expected: i32| -> Value {
        let args: Vec<_> = args.iter().map(|arg| (*arg).as_ref()).chain(["--json".as_ref()]).collect();
        let output = mlxport(args);
        assert_eq!(code(&output), expected, "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).expect("exactly one object")
    };
    let absent = dir.path().join("absent");
    schemas::conforms("inspect", &print(&[&"inspect", &release], 0));
    schemas::conforms("inspect", &print(&[&"inspect", &absent], 2));
    schemas::conforms("convert", &print(&[&"convert", &release, &model, &"--dry-run"], 0));
    schemas::conforms("convert", &print(&[&"convert", &release, &model], 0));
    schemas::conforms("convert", &print(&[&"convert", &absent, &model], 2));
    schemas::conforms("verify", &print(&[&"verify", &model], 0));
    let packed = dir.path().join("packed");
    schemas::conforms(
        "convert",
        &print(&[&"convert", &release, &packed, &"--quantize", &"affine", &"--bits", &"8"], 0),
    );
    for written in [&model, &packed] {
        let manifest = std::fs::read_to_string(written.join("mlxport.manifest.json")).expect("a manifest");
        schemas::conforms("manifest", &object(&manifest));
    }
    let recording = fixture("tiny-small");
    let parity = [&"parity" as &dyn AsRef<std::ffi::OsStr>, &"--model", &model, &"--fixture", &recording];
    schemas::conforms("record", &print(&[&parity[..], &[&"--select", &"lm_head"]].concat(), 0));
    schemas::conforms("error", &print(&[&parity[..4], &[&absent]].concat(), 2));
    schemas::conforms(
        "decode",
        &print(&[&"decode", &"--model", &model, &"--fixture", &recording, &"--steps", &"2"], 0),
    );
    std::fs::write(model.join("config.json"), "{}").expect("written");
    schemas::conforms("verify", &print(&[&"verify", &model], 1));
    schemas::conforms("verify", &print(&[&"verify", &absent], 2));
}

/// The action's own steps, run as a runner would: a pass, a divergence, input that cannot be used.
#[test]
fn the_action_reports_and_ends_with_the_verdicts_code() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let recording = fixture("tiny-small").to_string_lossy().into_owned();
    let release = fixture("tiny-small").join("checkpoint").to_string_lossy().into_owned();
    let inputs = [("release", release.as_str()), ("fixture", recording.as_str()), ("ledger", "history/ledger.jsonl")];

    let ran = action::run(dir.path(), &[&inputs[..], &[("base", "base/record.json")]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.summary.starts_with("# PASS: tiny-small"), "{}", ran.summary);
    assert!(ran.summary.contains("`base/record.json` is not there"), "{}", ran.summary);
    assert_eq!(ran.outputs["exit-code"], "0");
    assert_eq!(ran.uploaded, [("mlxport-report".to_owned(), "mlxport-report".to_owned())]);
    assert!(dir.path().join("mlxport-report/ledger.html").exists());
    std::fs::copy(dir.path().join("mlxport-report/record.json"), at("base.json")).expect("copied");

    let lock = at("lock.json");
    std::fs::write(&lock, "{}").expect("written");
    let ran = action::run(dir.path(), &[&inputs[..], &[("tolerances", lock.as_str())]].concat());
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.summary.ends_with("# No verdict\n\nmlxport could not convert or compare: the log says why.\n"));
    assert!(ran.uploaded.is_empty() && !ran.outputs.contains_key("record"), "an old report is not this run's");

    let wrong = dir.path().join("wrong");
    checkpoint_copy("tiny-small", &wrong);
    for pointer in ["/rms_norm_eps", "/language_config/rms_norm_eps"] {
        edit_config(&wrong.join("config.json"), pointer, 1e-3.into());
    }
    let wrong = wrong.to_string_lossy().into_owned();
    let ran = action::run(
        dir.path(),
        &[("release", &wrong), ("fixture", &recording), ("base", "base.json"), ("artifact", "")],
    );
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(
        ran.summary.contains("# FAIL: tiny-small") && ran.summary.contains("comparisons newly fail"),
        "{}",
        ran.summary
    );
    assert!(ran.uploaded.is_empty());
    assert_eq!(std::fs::read_to_string(at("history/ledger.jsonl")).expect("a ledger").lines().count(), 1);

    let ran = action::run(dir.path(), &[("release", &at("absent")), ("fixture", &recording)]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
}
