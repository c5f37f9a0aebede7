//! The verdict on packed weights: judged by what PyTorch says that quantization costs, passes where the port is right, fails where not.

use std::path::{Path, PathBuf};

use mlxport_reports::from_json;
use mlxport_verdict::{Run, Verdict};

use crate::support::{code, fixture, mlxport, parity, stderr, tensors};

/// `tiny-base` packed to `bits` bits in groups of `group_size`.
fn packed(dir: &Path, bits: &str, group_size: &str) -> PathBuf {
    let model = dir.join(format!("packed-{bits}-{group_size}"));
    let (source, target) = (fixture("tiny-base").join("checkpoint"), model.to_string_lossy().into_owned());
    let source = source.to_string_lossy().into_owned();
    let packing = ["--quantize", "affine", "--bits", bits, "--group-size", group_size];
    let output = mlxport([&["convert", &source, &target][..], &packing].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    model
}

fn run(model: &Path, dtype: &str, expected: i32) -> Run {
    let output = parity(model, &fixture("tiny-base"), &["--json", "--dtype", dtype]);
    assert_eq!(code(&output), expected, "{}", stderr(&output));
    from_json(&String::from_utf8(output.stdout).expect("UTF-8")).expect("a sound record")
}

#[test]
fn packed_weights_pass_by_the_floors_of_their_own_quantization() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let model = packed(dir.path(), "4", "32");
    for dtype in ["f32", "bf16"] {
        let run = run(&model, dtype, 0);
        assert_eq!(run.summary.verdict, Verdict::Pass);
        assert_eq!(run.environment.dtype, format!("{dtype}+affine-4-32"));
        assert!(run.summary.isolated.compared > 200, "{:?}", run.summary.isolated);
        // In float32 the port is off by what PyTorch is with the same rounded weights, not merely by less than four times that.
        let off = run.taps.iter().filter(|tap| tap.floors.is_some_and(|floors| floors.torch > 1e-2));
        let ratios: Vec<f64> = off.filter_map(|tap| tap.ratio).collect();
        if dtype == "f32" {
            // But for experts, whose floors are pooled.
            let as_pytorch = ratios.iter().filter(|ratio| (0.24..0.26).contains(*ratio)).count();
            assert!(as_pytorch > 150 && ratios.iter().all(|&ratio| ratio < 0.3), "{as_pytorch} of {ratios:?}");
        }
    }
}

#[test]
fn the_scales_of_two_experts_exchanged_are_found() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let model = packed(dir.path(), "4", "32");
    let path = model.join("model.safetensors");
    let mut all = tensors::read(&path);
    let name = "language_model.model.layers.1.mlp.switch_mlp.down_proj";
    for part in ["weight", "scales", "biases"] {
        all.get_mut(&format!("{name}.{part}")).expect("stacked experts").swap_rows(0, 1);
    }
    tensors::write(&path, &all);
    let run = run(&model, "f32", 1);
    let first = run.summary.first_isolated_failure.expect("named").id().to_string();
    assert_eq!(first, "model.layers.1.mlp.experts.0.down_proj#0.out");
}

#[test]
fn another_quantization_than_the_recorded_one_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let output = parity(&packed(dir.path(), "8", "32"), &fixture("tiny-base"), &[]);
    assert_eq!(code(&output), 2);
    let said = stderr(&output);
    let expected = "quantized to 8 bits in groups of 32, tiny-base holds floors for 4 bits in groups of 32";
    assert!(said.contains(expected), "{said}");
}
