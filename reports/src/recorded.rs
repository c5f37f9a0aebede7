//! Records that `mlxport parity` wrote (`testdata/`), in every text format: what people read is reviewed as they would see it.
//!
//! Both are whole runs of `fixtures/data/tiny-squares`, in compact JSON: `pass.json` of its model as converted, `fail.json` with the
//! `rms_norm_eps` of config.json (both places) at 1e-3 instead of 1e-6. `tests/it/parity.rs` holds a fresh run against the first.

use mlxport_verdict::{Run, Verdict, diff::diff};
use serde_json::Value;

use crate::schema_tests::{REFERRED, errors, validator};
use crate::{Style, diff_text, from_json, json, junit, markdown, taps_csv, terminal};

const PASS: &str = include_str!("../testdata/pass.json");
const FAIL: &str = include_str!("../testdata/fail.json");
/// No colour, and a width of its own: the same on every terminal.
const PLAIN: Style = Style { color: false, width: 100 };

fn records() -> [(&'static str, &'static str, Run); 2] {
    [("pass", PASS), ("fail", FAIL)].map(|(name, text)| (name, text, from_json(text).expect("a sound record")))
}

#[test]
fn they_are_read_and_written_whole_and_as_published() {
    let validator = validator(REFERRED[0].1);
    for (name, text, run) in records() {
        let stored: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(errors(&validator, &stored), Vec::<String>::new(), "{name}");
        let written: Value = serde_json::from_str(&json(&run)).expect("JSON");
        assert_eq!(written, stored, "{name}: nothing is lost or added");
    }
    let [(.., pass), (.., fail)] = records();
    assert_eq!((pass.summary.verdict, fail.summary.verdict), (Verdict::Pass, Verdict::Fail));
    let ids = |run: &Run| run.taps.iter().map(|tap| (tap.id(), tap.mode, tap.shape.clone())).collect::<Vec<_>>();
    assert_eq!(ids(&pass), ids(&fail), "the same points are compared");
}

#[test]
fn they_read_well() {
    for (name, _, run) in records() {
        insta::assert_snapshot!(format!("{name}_terminal"), terminal(&run, &PLAIN));
        insta::assert_snapshot!(format!("{name}_markdown"), markdown(&run));
        insta::assert_snapshot!(format!("{name}_junit"), junit(&run).expect("in memory"));
        insta::assert_snapshot!(format!("{name}_csv"), taps_csv(&run).expect("in memory"));
    }
}

#[test]
fn what_changed_from_one_to_the_other_reads_well() {
    let [(.., pass), (.., fail)] = records();
    insta::assert_snapshot!("pass_to_fail", diff_text(&diff(&pass, &fail), &PLAIN));
}
