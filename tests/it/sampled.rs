//! Recordings that keep only samples of each output: how a model too large to keep whole is checked.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{
    code, converted, fixture, parity, stderr,
    tensors::{self, Owned, Tensors},
};

/// Every how-manieth element is kept.
const STRIDE: usize = 7;

/// Elements 0, stride, 2·stride … of a float32 tensor.
fn sample(tensor: &Owned) -> Owned {
    let kept: Vec<[u8; 4]> = tensor.bytes.as_chunks::<4>().0.iter().copied().step_by(STRIDE).collect();
    Owned { dtype: tensor.dtype, shape: vec![kept.len()], bytes: kept.concat() }
}

/// Samples the outputs of `tiny-small` into `dir`, as a recorder of large models keeps them.
fn record(dir: &Path) -> Value {
    let whole = fixture("tiny-small");
    std::fs::create_dir_all(dir).expect("created");
    std::fs::copy(whole.join("inputs.safetensors"), dir.join("inputs.safetensors")).expect("copied");
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(whole.join("manifest.json")).expect("there")).expect("JSON");
    let all = tensors::read(&whole.join("activations.safetensors"));
    let mut samples = Tensors::new();
    let mut points = Vec::new();
    for point in manifest["order"].as_array().expect("points") {
        let text = |field: &str| point[field].as_str().expect("text").to_owned();
        let inside_expert = text("point").contains(".experts.");
        if text("kind") != "out" || text("dtype") != "torch.float32" || text("point") == "logits" || inside_expert {
            continue;
        }
        let name = format!("{}#{}.out", text("point"), point["call"]);
        samples.insert(name.clone(), sample(&all[&text("tensor")]));
        points.push(json!({
            "point": point["point"], "call": point["call"], "shape": point["shape"], "stride": STRIDE, "tensor": name,
            "noise_floor": point["noise_floor"],
        }));
    }
    tensors::write(&dir.join("samples.safetensors"), &samples);
    let sampled = json!({"torch": manifest["torch"], "points": points});
    std::fs::write(dir.join("manifest.json"), sampled.to_string()).expect("written");
    sampled
}

#[test]
fn a_sampled_recording_passes_and_catches_a_fault() {
    let dir = converted("tiny-small", "mlx-vlm");
    let (model, recording) = (dir.path().join("model"), dir.path().join("sampled"));
    let points = record(&recording)["points"].as_array().expect("points").len();
    let passed = parity(&model, &recording, &["--mode", "cumulative", "--json"]);
    assert_eq!(code(&passed), 0, "{}", stderr(&passed));
    let verdict: Value = serde_json::from_slice(&passed.stdout).expect("JSON");
    assert_eq!(verdict["summary"]["cumulative"]["compared"], points);
    let tap = &verdict["taps"][0];
    assert_eq!(tap["sampled"], tap["metrics"]["numel"], "the record says how many elements were compared");

    let weights = model.join("model.safetensors");
    let mut all = tensors::read(&weights);
    all.get_mut("sam_model.neck.2.weight").expect("there").swap_middle_axes();
    tensors::write(&weights, &all);
    let failed = parity(&model, &recording, &["--mode", "cumulative", "--json"]);
    assert_eq!(code(&failed), 1, "{}", stderr(&failed));
    let verdict: Value = serde_json::from_slice(&failed.stdout).expect("JSON");
    let first = &verdict["summary"]["first_divergence"];
    assert_eq!(first["point"], "model.sam_model.neck.2");
    let tap = verdict["taps"].as_array().expect("taps").iter().find(|tap| tap["point"] == first["point"]);
    let worst = &tap.expect("recorded")["metrics"]["max_abs"]["coordinate"];
    assert_eq!(worst.as_array().map(Vec::len), Some(4), "the coordinate is one of the whole tensor: {worst}");
}

#[test]
fn without_inputs_of_modules_there_is_no_isolated_mode() {
    let dir = converted("tiny-small", "mlx-vlm");
    let recording = dir.path().join("sampled");
    record(&recording);
    let output = parity(&dir.path().join("model"), &recording, &["--mode", "both"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("--mode cumulative"), "{}", stderr(&output));
}

#[test]
fn samples_that_do_not_fit_are_refused() {
    let dir = converted("tiny-small", "mlx-vlm");
    let recording = dir.path().join("sampled");
    let mut manifest = record(&recording);
    manifest["points"][0]["stride"] = json!(STRIDE * 1000);
    manifest["points"][1]["stride"] = json!(0);
    manifest["points"][2]["shape"] = json!([u64::MAX, u64::MAX]);
    std::fs::write(recording.join("manifest.json"), manifest.to_string()).expect("written");
    let output = parity(&dir.path().join("model"), &recording, &["--mode", "cumulative"]);
    assert_eq!(code(&output), 2);
    for part in ["do not fit shape", "stride 0", "more elements than can be"] {
        assert!(stderr(&output).contains(part), "{part}:\n{}", stderr(&output));
    }
}
