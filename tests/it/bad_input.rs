//! Bad input to the binary: one clear error that lists everything wrong, exit code 2, and nothing left behind.

use std::path::Path;

use crate::support::{
    checkpoint_copy, code, converted, edit_config, fixture, mlxport, parity, stderr,
    tensors::{self, Owned, Tensors},
};

/// Converts a damaged checkpoint: must end with 2, name all of `expected`, and leave nothing.
fn refused(damage: impl FnOnce(&Path), expected: &[&str]) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let source = dir.path().join("release");
    checkpoint_copy("tiny-small", &source);
    damage(&source);
    let output = mlxport(["convert".as_ref(), source.as_os_str(), dir.path().join("model").as_os_str()]);
    let text = stderr(&output);
    assert_eq!(code(&output), 2, "{text}");
    for part in expected {
        assert!(text.contains(part), "expected `{part}` in:\n{text}");
    }
    assert!(!text.contains("panicked"), "{text}");
    let left: Vec<_> = std::fs::read_dir(dir.path()).expect("listed").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["release"], "nothing is left beside the source");
}

fn edit_weights(source: &Path, edit: impl FnOnce(&mut Tensors)) {
    let path = source.join("model.safetensors");
    let mut all = tensors::read(&path);
    edit(&mut all);
    tensors::write(&path, &all);
}

#[test]
fn missing_extra_misshapen_and_wrongly_typed_tensors_are_all_listed_at_once() {
    refused(
        |source| {
            edit_weights(source, |all| {
                all.remove("model.layers.1.mlp.experts.2.up_proj.weight").expect("there");
                let zero = Owned { dtype: safetensors::Dtype::F32, shape: vec![2], bytes: vec![0; 8] };
                all.insert("model.layers.9.surprise".into(), zero);
                let norm = all.get_mut("model.norm.weight").expect("there");
                norm.shape = vec![2, norm.shape[0] / 2];
                let head = all.get_mut("lm_head.weight").expect("there");
                head.dtype = safetensors::Dtype::I16;
            });
        },
        &["experts.2.up_proj.weight", "model.layers.9.surprise", "model.norm.weight", "lm_head.weight"],
    );
}

#[test]
fn a_truncated_file_is_refused() {
    refused(
        |source| {
            let path = source.join("model.safetensors");
            let bytes = std::fs::read(&path).expect("readable");
            std::fs::write(path, &bytes[..bytes.len() - 1000]).expect("written");
        },
        &["model.safetensors"],
    );
}

#[test]
fn a_missing_shard_is_named() {
    refused(
        |source| {
            let names: Vec<String> = tensors::read(&source.join("model.safetensors")).into_keys().collect();
            std::fs::rename(source.join("model.safetensors"), source.join("model-00001-of-00002.safetensors"))
                .expect("renamed");
            let shard = |i: usize| format!("model-0000{}-of-00002.safetensors", 1 + i % 2);
            let map: serde_json::Map<_, _> =
                names.iter().enumerate().map(|(i, n)| (n.clone(), shard(i).into())).collect();
            let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map});
            std::fs::write(source.join("model.safetensors.index.json"), index.to_string()).expect("written");
        },
        &["model-00002-of-00002.safetensors"],
    );
}

#[test]
fn a_config_that_disagrees_with_the_weights_is_refused() {
    refused(
        |source| {
            edit_config(&source.join("config.json"), "/n_routed_experts", 7.into());
            edit_config(&source.join("config.json"), "/language_config/n_routed_experts", 7.into());
        },
        &["experts.7"],
    );
    refused(|source| edit_config(&source.join("config.json"), "/hidden_size", 64.into()), &["hidden_size"]);
    refused(|source| std::fs::write(source.join("config.json"), "{").expect("written"), &["config.json"]);
}

#[test]
fn a_hostile_header_is_refused_at_once() {
    for length in [u64::MAX, 1 << 40, 0] {
        refused(
            |source| {
                let mut bytes = length.to_le_bytes().to_vec();
                bytes.extend(b"{}");
                std::fs::write(source.join("model.safetensors"), bytes).expect("written");
            },
            &["model.safetensors"],
        );
    }
}

#[test]
fn an_existing_target_is_kept_unless_forced() {
    let dir = converted("tiny-small", "mlx-vlm");
    let (source, target) = (fixture("tiny-small").join("checkpoint"), dir.path().join("model"));
    let before = std::fs::read(target.join("mlxport.manifest.json")).expect("manifest");
    let refused = mlxport(["convert".as_ref(), source.as_os_str(), target.as_os_str()]);
    assert_eq!(code(&refused), 2, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("--force"), "{}", stderr(&refused));
    assert_eq!(before, std::fs::read(target.join("mlxport.manifest.json")).expect("manifest"));
    let forced = mlxport(["convert".as_ref(), source.as_os_str(), target.as_os_str(), "--force".as_ref()]);
    assert_eq!(code(&forced), 0, "{}", stderr(&forced));
}

#[test]
fn parity_refuses_a_model_that_does_not_load_strictly() {
    let dir = converted("tiny-small", "mlx-vlm");
    let path = dir.path().join("model/model.safetensors");
    let mut all = tensors::read(&path);
    let norm = all.remove("language_model.model.norm.weight").expect("there");
    all.insert("language_model.model.norm.wight".into(), norm);
    tensors::write(&path, &all);
    std::fs::remove_file(dir.path().join("model/model.safetensors.index.json")).expect("removed");
    let (model, recording) = (dir.path().join("model"), fixture("tiny-small"));
    let output = parity(&model, &recording, &[]);
    let text = stderr(&output);
    assert_eq!(code(&output), 2, "{text}");
    assert!(text.contains("norm.weight: missing") && text.contains("norm.wight: unknown"), "{text}");
}

#[test]
fn parity_refuses_a_fixture_that_is_broken() {
    let dir = converted("tiny-small", "mlx-vlm");
    let broken = dir.path().join("fixture");
    std::fs::create_dir(&broken).expect("created");
    for file in ["manifest.json", "inputs.safetensors"] {
        std::fs::copy(fixture("tiny-small").join(file), broken.join(file)).expect("copied");
    }
    let model = dir.path().join("model");
    let output =
        mlxport(["parity".as_ref(), "--model".as_ref(), model.as_os_str(), "--fixture".as_ref(), broken.as_os_str()]);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(stderr(&output).contains("activations.safetensors"), "{}", stderr(&output));
}

#[test]
fn with_json_an_error_is_one_object_too() {
    let recording = fixture("tiny-small");
    let output = parity("no/such/model".as_ref(), &recording, &["--json"]);
    assert_eq!(code(&output), 2);
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(object["ok"], false);
    assert!(object["error"].as_str().is_some_and(|e| e.contains("no/such/model")), "{object}");
}

#[test]
fn usage_errors_are_code_two() {
    assert_eq!(code(&mlxport(["parity"])), 2);
    assert_eq!(code(&mlxport(["convert", "no/such/place", "anywhere"])), 2);
    assert_eq!(code(&mlxport(["frobnicate"])), 2);
}

#[test]
fn quantized_weights_are_not_compared_and_the_way_back_is_named() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (source, model) = (fixture("tiny-gundam").join("checkpoint"), home.path().join("model"));
    let flags = ["--quantize", "affine", "--group-size", "32"].map(std::ffi::OsStr::new);
    let arguments = ["convert".as_ref(), source.as_os_str(), model.as_os_str()].into_iter().chain(flags);
    assert_eq!(code(&mlxport(arguments)), 0);
    let output = parity(&model, &fixture("tiny-gundam"), &[]);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(stderr(&output).contains("--dequantize"), "{}", stderr(&output));
    let floats = home.path().join("floats");
    let back = mlxport(["convert".as_ref(), model.as_os_str(), floats.as_os_str(), "--dequantize".as_ref()]);
    assert_eq!(code(&back), 0, "{}", stderr(&back));
    // It runs, and four bits are far from what PyTorch recorded.
    assert_eq!(code(&parity(&floats, &fixture("tiny-gundam"), &[])), 1);
}
