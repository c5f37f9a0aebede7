//! `mlxport check`, its half of the work: recordings to one verdict. A script stands for the Python package; it leaves recordings as the package
//! does. That the package leaves them so is what its own tests and `cargo xtask test` show.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use mlxport_fixtures::sha256_hex;
use serde_json::{Value, json};

use crate::support::{code, fixture, mlxport, schemas, stderr};

/// A folder with what the package would leave, and a script that leaves it.
struct Package {
    dir: tempfile::TempDir,
}

impl Package {
    fn leaving(said: &Value) -> Self {
        let package = Self { dir: tempfile::tempdir().expect("a temporary directory") };
        let left = package.path("left");
        for side in ["reference", "prefill"] {
            std::fs::create_dir_all(left.join(side)).expect("made");
            for file in ["manifest.json", "inputs.safetensors", "activations.safetensors", "truth.safetensors"] {
                let source = fixture("tiny-small").join(file);
                if source.exists() {
                    std::fs::copy(source, left.join(side).join(file)).expect("copied");
                }
            }
        }
        package.measured("reference", 1e-7);
        std::fs::write(left.join("check.json"), said.to_string()).expect("written");
        package.script(&format!("[ \"$1\" = -c ] || cp -r '{}' \"$4\"", left.display()));
        package
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The runtime's floor at the logits, measured on the recording in `on`.
    fn measured(&self, on: &str, floor: f64) {
        let manifest = std::fs::read(self.path("left").join(on).join("manifest.json")).expect("there");
        let said =
            json!({"schema": 1, "reference_manifest_sha256": sha256_hex(&manifest), "floors": {"logits#0.out": floor}});
        std::fs::write(self.path("left/reference/runtime_floors.json"), said.to_string()).expect("written");
    }

    fn script(&self, body: &str) {
        let path = self.path("python");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    }

    fn check(&self, more: &[&str]) -> Output {
        let python = self.path("python");
        let python = python.to_str().expect("a path");
        mlxport(["check", "--model-type", "small", "--json", "--python", python].iter().chain(more))
    }
}

fn object(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(output)))
}

/// What the package says of one scenario, with these leaves.
fn said(leaves: &Value) -> Value {
    json!({
        "schema": 1, "model": "small", "port": "mlx-lm", "made_by": "MLX 0.32.4", "leaves": leaves, "findings": [], "hints": [],
        "unmapped": [{"side": "pytorch", "name": "model.rope", "reason": "no parameters"}],
        "scenarios": {
            "prefill": {"status": "ran", "reference": "reference", "candidate": "prefill", "isolated": ["reference", "prefill"]},
            "batch": {"status": "not_run", "reason": "the port has no batched cache"},
        },
    })
}

fn two_leaves() -> Value {
    json!([{"point": "model.norm", "call": 0},
           {"point": "model.rope", "call": 0, "reason": "no parameters", "judged_at": "model.norm#0.out"}])
}

#[test]
fn what_is_alike_and_covered_passes_and_the_report_leads_to_each_scenario() {
    let package = Package::leaving(&said(&two_leaves()));
    let report = package.path("report");
    let output = package.check(&["--report", report.to_str().expect("a path")]);
    let found = object(&output);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    schemas::conforms("check", &found);
    assert_eq!(found["verdict"], "pass");
    assert_eq!((&found["coverage"]["compared"], &found["coverage"]["judged_at_next"]), (&json!(2), &json!(1)));
    assert_eq!((&found["scenarios"]["batch"], &found["first"]), (&json!("not_run"), &Value::Null));
    assert!(stderr(&output).contains("2 of 2 leaf outputs compared"), "{}", stderr(&output));
    let page = std::fs::read_to_string(report.join("index.html")).expect("a page");
    assert!(page.contains("prefill/report.html") && report.join("prefill/report.html").is_file());
}

#[test]
fn a_leaf_that_nothing_covers_is_incomplete_unless_it_is_allowed_with_a_reason() {
    let leaves = json!([{"point": "model.norm", "call": 0}, {"point": "model.lost", "call": 0, "reason": "no module of the port"}]);
    let package = Package::leaving(&said(&leaves));
    let output = package.check(&[]);
    assert_eq!((code(&output), &object(&output)["verdict"]), (1, &json!("incomplete")));
    assert!(stderr(&output).contains("INCOMPLETE"), "{}", stderr(&output));
    let output = package.check(&["--allow-unmapped", "model.l*=not used in text"]);
    let found = object(&output);
    assert_eq!((code(&output), &found["verdict"]), (0, &json!("pass")));
    assert_eq!(found["coverage"]["missing"][0]["allowed"], "not used in text");
    let output = package.check(&["--allow-unmapped", "model.l*"]);
    assert_eq!(code(&output), 2, "a reason is asked for");
}

#[test]
fn what_was_broken_or_refused_fails_and_is_named() {
    let mut broken = said(&two_leaves());
    broken["scenarios"]["resume"] = json!({"status": "broke", "reason": "KeyError: state"});
    let found = object(&Package::leaving(&broken).check(&[]));
    assert_eq!((&found["verdict"], &found["first"]["cause"]), (&json!("fail"), &json!("KeyError: state")));
    let mut refused = said(&json!([]));
    refused["refused"] = json!("ValueError: missing lm_head.weight");
    refused["scenarios"] = json!({});
    let output = Package::leaving(&refused).check(&[]);
    let found = object(&output);
    assert_eq!((code(&output), &found["first"]["point"]), (1, &json!("load")));
    schemas::conforms("check", &found);
}

#[test]
fn floors_of_another_recording_or_beyond_belief_are_refused() {
    let package = Package::leaving(&said(&two_leaves()));
    for (floor, part) in [(0.5, "expected 0 to 1e-2"), (-1.0, "expected 0 to 1e-2")] {
        package.measured("reference", floor);
        let output = package.check(&[]);
        assert_eq!(code(&output), 2);
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
    }
    let manifest = package.path("left/reference/manifest.json");
    let text = std::fs::read_to_string(&manifest).expect("there");
    package.measured("reference", 1e-7);
    std::fs::write(&manifest, format!("{text} ")).expect("written");
    let output = package.check(&[]);
    assert!(stderr(&output).contains("measured on another recording"), "{}", stderr(&output));
    assert_eq!(code(&output), 2);
}

#[test]
fn what_is_missing_is_told_with_the_pip_line() {
    let package = Package::leaving(&said(&two_leaves()));
    package.script("exit 1");
    let output = package.check(&[]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("pip install"), "{}", stderr(&output));
    let absent = Path::new("/nowhere/python");
    let output = mlxport(["check", "--model-type", "small", "--python", absent.to_str().expect("a path")]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("--python"), "{}", stderr(&output));
    package.script("[ \"$1\" = -c ] || exit 2");
    assert_eq!(code(&package.check(&[])), 2);
}

#[test]
fn a_lockfile_is_made_of_prefill_and_holds_for_it_alone() {
    let mut both = said(&two_leaves());
    // Judged by floors of its own: no lockfile of a float32 run is applied to it.
    both["scenarios"]["bf16"] = both["scenarios"]["prefill"].clone();
    let package = Package::leaving(&both);
    let lock = package.path("mlxport.lock.json");
    let file = lock.to_str().expect("a path");
    let output = package.check(&["--tolerances", file, "--update", "--reason", "first lock"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let locked = std::fs::read_to_string(&lock).expect("written");
    assert!(locked.contains("first lock") && locked.contains("model.norm#0.out"), "{locked}");
    let output = package.check(&["--tolerances", file]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));

    // The recordings are alike, so no tolerance is too tight; an output that is not locked shows that the lockfile is what judges.
    let mut fewer: Value = serde_json::from_str(&locked).expect("JSON");
    for run in fewer["runs"].as_object_mut().expect("runs").values_mut() {
        run.as_object_mut().expect("taps").remove("model.norm#0.out");
    }
    std::fs::write(&lock, fewer.to_string()).expect("written");
    let output = package.check(&["--tolerances", file]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("model.norm#0.out"), "{}", stderr(&output));

    let mut without = said(&two_leaves());
    without["scenarios"] = json!({"batch": {"status": "not_run", "reason": "the port has no batched cache"}});
    let output = Package::leaving(&without).check(&["--tolerances", file]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("prefill"), "{}", stderr(&output));
}
