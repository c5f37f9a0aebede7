//! Unlimited-OCR and DeepSeek-OCR-2: recordings of transformers' own classes pass in both layouts and all modes, every recorded point is compared
//! or listed with its reason, and planted faults are caught.

use mlxport_reports::from_json;
use mlxport_verdict::{MutationReport, Run, Verdict};

use crate::support::{code, converted, fixture, mlxport, parity, stderr};

const RECORDINGS: [&str; 4] = ["unlimited-gundam", "unlimited-base", "deepseek-ocr-2-tiles", "deepseek-ocr-2-large"];

fn judged(name: &str, layout: &str) -> Run {
    let dir = converted(name, layout);
    let output = parity(&dir.path().join("model"), &fixture(name), &["--json"]);
    assert_eq!(code(&output), 0, "{name}, {layout}: {}", stderr(&output));
    from_json(&String::from_utf8(output.stdout).expect("UTF-8")).expect("a sound record")
}

fn passes(name: &str) {
    for layout in ["mlx-vlm", "split"] {
        let run = judged(name, layout);
        assert_eq!(run.summary.verdict, Verdict::Pass, "{name}, {layout}");
        assert!(run.summary.tuned.compared >= 2, "{name}, {layout}: {:?}", run.summary.tuned);
        let summary = &run.summary;
        assert_eq!(summary.points_mapped, summary.points_recorded, "{name}, {layout}: every point has a module");
        assert_eq!(summary.points_unaccounted, 0, "{name}, {layout}");
        assert!(run.not_compared.iter().all(|skipped| !skipped.reason.is_empty()));
        let unmapped = run.not_compared.iter().find(|skipped| skipped.reason.contains("not mapped"));
        assert!(unmapped.is_none(), "{name}, {layout}: {unmapped:?}");
    }
}

#[test]
fn unlimited_ocr_passes_with_tiles_and_without() {
    passes(RECORDINGS[0]);
    passes(RECORDINGS[1]);
}

#[test]
fn deepseek_ocr_2_passes_with_either_bank() {
    passes(RECORDINGS[2]);
    passes(RECORDINGS[3]);
}

#[test]
fn decoding_is_pytorchs_far_past_the_window() {
    let dir = converted("unlimited-gundam", "split");
    let (model, recording) = (dir.path().join("model"), fixture("unlimited-gundam"));
    let (model, recording) = (model.to_string_lossy(), recording.to_string_lossy());
    for more in [
        &[][..],
        &["--chunk", "7"],
        &["--no-repeat-ngram", "4"],
        &["--no-repeat-ngram", "2", "--window", "10", "--count-prompt"],
    ] {
        let output = mlxport([&["decode", "--model", &model, "--fixture", &recording, "--json"], more].concat());
        assert_eq!(code(&output), 0, "{more:?}: {}{}", stderr(&output), String::from_utf8_lossy(&output.stdout));
    }
}

fn all_caught(name: &str, layout: &str, faults: &[&str]) {
    let dir = converted(name, layout);
    let output = parity(&dir.path().join("model"), &fixture(name), &["--mutate", "--json"]);
    assert_eq!(code(&output), 0, "{name}: {}{}", stderr(&output), String::from_utf8_lossy(&output.stdout));
    let report: MutationReport = serde_json::from_slice(&output.stdout).expect("a mutation report");
    assert!(report.summary.passes() && report.summary.score == 1.0, "{name}: {:?}", report.summary);
    for fault in faults {
        assert!(report.mutants.iter().any(|mutant| mutant.name == *fault), "{name}: no fault `{fault}`");
    }
}

#[test]
fn every_fault_in_unlimited_ocr_is_caught_in_place() {
    all_caught("unlimited-gundam", "mlx-vlm", &["newline rows empty", "two experts exchanged"]);
}

#[test]
fn every_fault_in_the_query_encoder_is_caught_in_place() {
    let faults = ["image tokens see only those before them", "image tokens come out, not queries"];
    all_caught("deepseek-ocr-2-tiles", "split", &faults);
}
