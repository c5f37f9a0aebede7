//! Shares of the isolated mode, joined: the same record, byte for byte, as one run gives. And what cannot be joined.

use std::path::Path;

use crate::support::{code, converted, edit_config, fixture, mlxport, parity, stderr};

/// Runs parity into `report` and returns the exit code.
fn run(model: &Path, name: &str, report: &Path, more: &[&str]) -> i32 {
    let report = report.to_str().expect("UTF-8");
    code(&parity(model, &fixture(name), &[more, &["--report", report]].concat()))
}

fn merge(parts: &[&Path], out: &Path) -> std::process::Output {
    let mut args: Vec<&std::ffi::OsStr> = vec!["report".as_ref(), "merge".as_ref()];
    args.extend(parts.iter().map(|part| part.as_os_str()));
    args.extend(["--out".as_ref(), out.as_os_str()]);
    mlxport(args)
}

fn record(report: &Path) -> String {
    std::fs::read_to_string(report.join("record.json")).expect("a record")
}

/// A model of the fixture in `dir`, right or with a wrong epsilon in SAM.
fn model(name: &str, is_wrong: bool) -> tempfile::TempDir {
    let dir = converted(name, "mlx-vlm");
    if is_wrong {
        let pointer = "/vision_config/width/sam_vit_b/layer_norm_eps";
        edit_config(&dir.path().join("model/config.json"), pointer, 1e-5.into());
    }
    dir
}

#[test]
fn shards_joined_are_the_run_that_was_not_cut() {
    for (is_wrong, expected) in [(false, 0), (true, 1)] {
        let dir = model("tiny-small", is_wrong);
        let at = |part: &str| dir.path().join(part);
        let shards: Vec<_> = (1..=3).map(|k| at(&format!("shard-{k}"))).collect();
        for (k, shard) in (1..).zip(&shards) {
            run(&at("model"), "tiny-small", shard, &["--shard", &format!("{k}/3")]);
        }
        assert_eq!(run(&at("model"), "tiny-small", &at("isolated"), &["--mode", "isolated"]), expected);
        let mut parts: Vec<&Path> = shards.iter().rev().map(|shard| shard.as_path()).collect();
        assert_eq!(code(&merge(&parts, &at("joined"))), expected);
        assert_eq!(record(&at("joined")), record(&at("isolated")));

        let cumulative = at("cumulative");
        assert_eq!(run(&at("model"), "tiny-small", &cumulative, &["--mode", "cumulative"]), expected);
        assert_eq!(run(&at("model"), "tiny-small", &at("both"), &[]), expected);
        parts.push(&cumulative);
        assert_eq!(code(&merge(&parts, &at("joined"))), expected);
        assert_eq!(record(&at("joined")), record(&at("both")));
    }
}

#[test]
fn what_is_not_one_run_is_not_joined() {
    let (dir, other) = (model("tiny-small", false), model("tiny-small", true));
    let at = |part: &str| dir.path().join(part);
    let (one, two, foreign) = (at("one"), at("two"), at("foreign"));
    assert_eq!(run(&at("model"), "tiny-small", &one, &["--shard", "1/2"]), 0);
    assert_eq!(run(&at("model"), "tiny-small", &two, &["--shard", "2/2"]), 0);
    run(&other.path().join("model"), "tiny-small", &foreign, &["--shard", "2/2"]);
    let broken = at("broken");
    std::fs::create_dir(&broken).expect("created");
    std::fs::write(broken.join("record.json"), &record(&one)[..5000]).expect("written");
    for (parts, why) in [
        (vec![one.as_path()], "shard 2/2: expected once, found 0 times"),
        (vec![&one, &two, &two], "shard 2/2: expected once, found 2 times"),
        (vec![&one, &foreign], "another model than in"),
        (vec![&one, &broken], "record.json"),
        (vec![&one, &at("absent")], "absent/record.json"),
    ] {
        let output = merge(&parts, &at("joined"));
        assert_eq!(code(&output), 2, "{why}");
        assert!(stderr(&output).contains(why), "{why}: {}", stderr(&output));
        assert!(!at("joined").exists(), "{why}");
    }
}

#[test]
fn bad_shares_are_usage_errors_and_the_cumulative_mode_is_not_cut() {
    let dir = model("tiny-small", false);
    let model = dir.path().join("model");
    for share in ["0/2", "3/2", "1/0", "1", "a/b", "-1/2", "1/99999999999"] {
        assert_eq!(code(&parity(&model, &fixture("tiny-small"), &["--shard", share])), 2, "{share}");
    }
    let output = parity(&model, &fixture("tiny-small"), &["--shard", "1/2", "--mode", "cumulative"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("only the isolated mode"), "{}", stderr(&output));
    // More shares than modules: this one has nothing to compare, which is no pass.
    assert_eq!(code(&parity(&model, &fixture("tiny-small"), &["--shard", "1/100000"])), 2);
}

#[test]
fn repeats_that_agree_are_counted() {
    let dir = model("tiny-small", false);
    let report = dir.path().join("report");
    assert_eq!(run(&dir.path().join("model"), "tiny-small", &report, &["--repeat", "3"]), 0);
    let record: serde_json::Value = serde_json::from_str(&record(&report)).expect("JSON");
    assert_eq!(record["repeats"], serde_json::json!({ "count": 3, "disagreeing": [] }));
}
