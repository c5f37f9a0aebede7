//! The bfloat16 verdict: judged by PyTorch's own bfloat16 floors, passes where the port is right, fails where it is not.

use mlxport_reports::from_json;
use mlxport_verdict::{Run, Verdict};

use crate::support::{FIXTURES, checkpoint_copy, code, converted, fixture, parity, stderr, tensors};

fn run(name: &str, model: &std::path::Path, expected: i32) -> Run {
    let output = parity(model, &fixture(name), &["--json", "--dtype", "bf16"]);
    assert_eq!(code(&output), expected, "{name}: {}", stderr(&output));
    from_json(&String::from_utf8(output.stdout).expect("UTF-8")).expect("a sound record")
}

#[test]
fn every_small_fixture_passes_in_bfloat16_and_says_so() {
    for (name, layout) in FIXTURES.into_iter().zip(["mlx-vlm", "split", "mlx-vlm", "split"]) {
        let dir = converted(name, layout);
        let run = run(name, &dir.path().join("model"), 0);
        assert_eq!(run.summary.verdict, Verdict::Pass);
        assert_eq!(run.environment.dtype, "bf16");
        assert!(run.summary.cumulative.compared > 300, "{name}: {:?}", run.summary.cumulative);
        assert!(run.summary.isolated.compared > 100, "{name}: {:?}", run.summary.isolated);
        // Per cents, not parts in a million: these are floors of another precision.
        let torch = run.taps.iter().filter_map(|tap| tap.floors.map(|floors| floors.torch)).fold(0.0, f64::max);
        assert!(torch > 1e-3, "{name}: {torch:e}");
    }
}

#[test]
fn two_experts_exchanged_fail_in_bfloat16() {
    let dir = converted("tiny-gundam", "mlx-vlm");
    let model = dir.path().join("model");
    let path = model.join("model.safetensors");
    let mut all = tensors::read(&path);
    for part in ["gate_proj", "up_proj", "down_proj"] {
        let name = format!("language_model.model.layers.1.mlp.switch_mlp.{part}.weight");
        all.get_mut(&name).expect("stacked experts").swap_rows(0, 1);
    }
    tensors::write(&path, &all);
    let run = run("tiny-gundam", &model, 1);
    let first = run.summary.first_isolated_failure.expect("named").id().to_string();
    assert_eq!(first, "model.layers.1.mlp.experts.0.gate_proj#0.out");
}

#[test]
fn a_recording_without_bfloat16_floors_is_refused_with_what_adds_them() {
    let dir = converted("tiny-small", "mlx-vlm");
    let bare = dir.path().join("bare");
    std::fs::create_dir(&bare).expect("made");
    for file in std::fs::read_dir(fixture("tiny-small")).expect("listed").map(|entry| entry.expect("entry").path()) {
        if file.is_file() {
            std::fs::copy(&file, bare.join(file.file_name().expect("named"))).expect("copied");
        }
    }
    checkpoint_copy("tiny-small", &bare.join("checkpoint"));
    let path = bare.join("manifest.json");
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).expect("manifest")).expect("JSON");
    for point in manifest["order"].as_array_mut().expect("order") {
        let point = point.as_object_mut().expect("a point");
        point.retain(|key, _| !key.contains("bf16"));
    }
    std::fs::write(&path, manifest.to_string()).expect("written");
    let output = parity(&dir.path().join("model"), &bare, &["--dtype", "bf16"]);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(stderr(&output).contains("bf16_floors.py"), "{}", stderr(&output));
}
