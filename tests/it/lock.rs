//! The tolerance lockfile end to end: made with a reason, judged by, never loosened behind anyone's back.

use std::{
    path::{Path, PathBuf},
    process::Output,
};

use assert_cmd::Command;

use crate::support::{code, converted, edit_config, fixture, schemas, stderr};

struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Self { dir: converted("tiny-small", "mlx-vlm") }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `mlxport parity` with more flags, in CI or not.
    fn parity(&self, in_ci: bool, more: &[&str]) -> Output {
        let mut command = Command::cargo_bin("mlxport").expect("the binary is built with its tests");
        command.env_remove("CI").current_dir(self.dir.path());
        if in_ci {
            command.env("CI", "true");
        }
        command.args(["parity", "--model", "model", "--fixture"]).arg(fixture("tiny-small")).args(more);
        command.output().expect("it starts")
    }

    fn lock(&self) {
        let output = self.parity(false, &["--tolerances", "mlxport.lock.json", "--update", "--reason", "first"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        schemas::conforms("lock", &read(&self.at("mlxport.lock.json")));
    }

    /// Multiplies every locked tolerance.
    fn scale(&self, file: &str, factor: f64) {
        let path = self.at(file);
        let mut lock: serde_json::Value = read(&path);
        for taps in lock["runs"].as_object_mut().expect("runs").values_mut() {
            for entry in taps.as_object_mut().expect("taps").values_mut() {
                entry["tolerance"] = (entry["tolerance"].as_f64().expect("a number") * factor).into();
            }
        }
        std::fs::write(&path, lock.to_string()).expect("written");
    }
}

fn read(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).expect("there")).expect("JSON")
}

const JUDGED: [&str; 2] = ["--tolerances", "mlxport.lock.json"];
const UPDATED: [&str; 5] = ["--tolerances", "mlxport.lock.json", "--update", "--reason", "second"];

#[test]
fn a_lockfile_is_made_with_a_reason_judged_by_and_stable() {
    let home = Home::new();
    let output = home.parity(false, &["--tolerances", "mlxport.lock.json", "--update"]);
    assert_eq!(code(&output), 2, "no reason: {}", stderr(&output));
    assert_eq!(code(&home.parity(false, &JUDGED)), 2, "no lockfile yet");
    home.lock();
    let first = std::fs::read_to_string(home.at("mlxport.lock.json")).expect("written");
    assert!(first.contains(r#""tiny-small/f32/cpu/cumulative""#) && first.contains(r#""reason":"first""#));
    assert_eq!(code(&home.parity(true, &UPDATED)), 0, "the same again is no loosening");
    let again = std::fs::read_to_string(home.at("mlxport.lock.json")).expect("written");
    assert_eq!(first, again);

    let output = home.parity(true, &[&JUDGED[..], &["--report", "report"]].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let record = std::fs::read_to_string(home.at("report/record.json")).expect("a record");
    let run = mlxport_reports::from_json(&record).expect("sound");
    assert_eq!(run.lock.expect("named").stale, 0);
}

#[test]
fn a_locked_tolerance_is_the_one_that_holds_and_slack_is_told() {
    let home = Home::new();
    home.lock();
    home.scale("mlxport.lock.json", 1e-3);
    assert_eq!(code(&home.parity(false, &JUDGED)), 1, "tighter than what the port is off by");
    home.scale("mlxport.lock.json", 1e4);
    let output = home.parity(false, &JUDGED);
    assert_eq!(code(&output), 0);
    assert!(String::from_utf8_lossy(&output.stdout).contains("stale slack"));
}

#[test]
fn in_ci_nothing_is_loosened_unless_the_base_allows_it() {
    let home = Home::new();
    home.lock();
    std::fs::copy(home.at("mlxport.lock.json"), home.at("base.json")).expect("copied");
    home.scale("mlxport.lock.json", 0.5);
    let tight = std::fs::read(home.at("mlxport.lock.json")).expect("there");
    let output = home.parity(true, &UPDATED);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("is looser than"), "{}", stderr(&output));
    assert_eq!(std::fs::read(home.at("mlxport.lock.json")).expect("there"), tight, "left as it was");
    let with_base = [&UPDATED[..], &["--base", "base.json"]].concat();
    assert_eq!(code(&home.parity(true, &with_base)), 0, "the base allows as much");
    std::fs::write(home.at("mlxport.lock.json"), &tight).expect("written");
    assert_eq!(code(&home.parity(false, &UPDATED)), 0, "a person may, and says why");
    assert!(std::fs::read_to_string(home.at("mlxport.lock.json")).expect("there").contains(r#""reason":"second""#));
}

#[test]
fn what_fails_is_not_locked_and_what_is_not_locked_is_listed() {
    let home = Home::new();
    edit_config(&home.at("model/config.json"), "/language_config/rms_norm_eps", 1e-4.into());
    let output = home.parity(false, &UPDATED);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("only what passes is locked"), "{}", stderr(&output));
    assert!(!home.at("mlxport.lock.json").exists());

    let home = Home::new();
    let one_mode = [&UPDATED[..], &["--mode", "cumulative"]].concat();
    assert_eq!(code(&home.parity(false, &one_mode)), 0);
    let output = home.parity(false, &JUDGED);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("tiny-small/f32/cpu/isolated: "), "{}", stderr(&output));
}

#[test]
fn bad_lockfiles_are_refused_with_what_is_wrong() {
    let home = Home::new();
    home.lock();
    let good = std::fs::read_to_string(home.at("mlxport.lock.json")).expect("there");
    let (head, entry) =
        (r#"{"schema":1,"k":{"value":4,"reason":"r"},"runs":{"a":{"#, r#""floor":"ulp","measured":0,"reason":"r""#);
    for (text, why) in [
        (good[..good.len() / 2].to_owned(), "EOF"),
        (String::new(), "EOF"),
        (good.replacen("\"schema\": 1", "\"schema\": 2", 1), "schema: expected 1, found 2"),
        (format!(r#"{head}"t":{{"tolerance":-1,{entry}}}}}}}}}"#), "tolerance -1: expected"),
        (format!(r#"{head}"t":{{"tolerance":1e999,{entry}}}}}}}}}"#), "number out of range"),
        (format!(r#"{head}"t":{{"tolerance":1,{entry}}},"t":{{"tolerance":1,{entry}}}}}}}}}"#), "\"t\" is there twice"),
        (format!(r#"{head}"t":{{"tolerance":1,"more":1,{entry}}}}}}}}}"#), "unknown field `more`"),
    ] {
        std::fs::write(home.at("mlxport.lock.json"), text).expect("written");
        let output = home.parity(false, &JUDGED);
        assert_eq!(code(&output), 2, "{why}");
        assert!(stderr(&output).contains(why), "{why}: {}", stderr(&output));
    }
}
