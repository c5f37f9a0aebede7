//! `mlxport parity --parts`: every projector in both layouts and every operation passes; faults and unusable files are told.

use std::path::Path;

use crate::support::{code, mlxport, schemas, stderr, tensors};

/// A directory of parts that a test may damage.
fn copy() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let data = root.join("fixtures/data/parts");
    let operations = root.join("model/testdata/operations.safetensors");
    for file in [data.join("projectors.json"), data.join("projectors.safetensors"), operations] {
        std::fs::copy(&file, dir.path().join(file.file_name().expect("named"))).expect("copied");
    }
    dir
}

fn parts(dir: &Path) -> (i32, serde_json::Value) {
    let output = mlxport(["parity", "--json", "--parts", &dir.to_string_lossy()]);
    let object = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)));
    (code(&output), object)
}

fn failed(object: &serde_json::Value) -> Vec<&str> {
    let taps = object["taps"].as_array().expect("taps").iter();
    taps.filter(|tap| tap["status"] != "pass").map(|tap| tap["point"].as_str().expect("a name")).collect()
}

#[test]
fn every_projector_passes_in_both_layouts_and_every_operation() {
    let dir = copy();
    let (code, object) = parts(dir.path());
    assert_eq!((code, object["verdict"].as_str()), (0, Some("pass")), "{object:#}");
    schemas::conforms("parts", &object);
    let names: Vec<&str> =
        object["taps"].as_array().expect("taps").iter().filter_map(|tap| tap["point"].as_str()).collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("projectors/")).count(), 32, "16 cases, two layouts");
    for operation in ["sam_pos_embed", "rel_pos", "window"] {
        assert!(names.iter().any(|name| name.starts_with(&format!("operations/{operation}/"))), "{names:?}");
    }
    assert_eq!(object["compared"].as_u64(), Some(names.len() as u64));
}

#[test]
fn a_wrong_weight_fails_its_own_case_only() {
    for (weight, case) in [
        ("downsample_mlp_gelu_r2_9/weight/layers.0.weight", "downsample_mlp_gelu_r2_9"),
        ("linear_token_pooling/weight/token_pooling_layer.weight", "linear_token_pooling"),
        ("low_high_split_mlp_gelu/weight/low_layers.3.weight", "low_high_split_mlp_gelu"),
        ("hybrid_split_feature_mlp_gelu/weight/high_up_proj.weight", "hybrid_split_feature_mlp_gelu"),
    ] {
        let dir = copy();
        let path = dir.path().join("projectors.safetensors");
        let mut all = tensors::read(&path);
        all.get_mut(weight).expect("there").swap_rows(0, 1);
        tensors::write(&path, &all);
        let (code, object) = parts(dir.path());
        let expected = ["mlx-vlm", "split"].map(|layout| format!("projectors/{case} ({layout})"));
        assert_eq!((code, failed(&object)), (1, expected.iter().map(String::as_str).collect()), "{weight}");
    }
}

#[test]
fn one_element_in_another_place_fails_an_operation_that_only_moves() {
    let dir = copy();
    let path = dir.path().join("operations.safetensors");
    let mut all = tensors::read(&path);
    all.get_mut("window/3_9x9/out").expect("there").swap_rows(0, 1);
    tensors::write(&path, &all);
    let (code, object) = parts(dir.path());
    assert_eq!((code, failed(&object)), (1, vec!["operations/window/3_9x9"]));
}

#[test]
fn what_is_not_known_or_not_there_ends_with_2_and_its_name() {
    let error = |damage: &dyn Fn(&Path)| {
        let dir = copy();
        damage(dir.path());
        let (code, object) = parts(dir.path());
        assert_eq!(code, 2, "{object:#}");
        object["error"].as_str().expect("an error").to_owned()
    };
    let replace = |from: &'static str, to: &'static str| {
        move |dir: &Path| {
            let path = dir.join("projectors.json");
            let text = std::fs::read_to_string(&path).expect("read");
            assert!(text.contains(from), "{from}");
            std::fs::write(&path, text.replacen(from, to, 1)).expect("written");
        }
    };
    assert!(error(&replace("\"mlp_gelu\"", "\"mlp_relu\"")).contains("mlp_relu"));
    assert!(error(&replace("\"token_pooling\"", "\"token_pouring\"")).contains("token_pouring"));
    assert!(error(&replace("\"case\": \"linear\"", "\"case\": \"linear_2\"")).contains("linear_2/in/0"));
    assert!(error(&replace("\"n_embed\"", "\"x\": [\"n_embed\"")).contains("projectors.json"));
    let renamed = error(&|dir| {
        let path = dir.join("operations.safetensors");
        let mut all = tensors::read(&path);
        for kind in ["in", "out"] {
            let tensor = all.remove(&format!("window/3_9x9/{kind}")).expect("there");
            all.insert(format!("windows/3_9x9/{kind}"), tensor);
        }
        tensors::write(&path, &all);
    });
    assert!(renamed.contains("windows/3_9x9"), "{renamed}");
    let missing = error(&|dir| {
        let path = dir.join("projectors.safetensors");
        let mut all = tensors::read(&path);
        all.remove("linear/weight/layers.bias");
        tensors::write(&path, &all);
    });
    assert!(missing.contains("layers.bias"), "{missing}");
    let cut = error(&|dir| {
        let path = dir.join("projectors.safetensors");
        let bytes = std::fs::read(&path).expect("read");
        std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("written");
    });
    assert!(cut.contains("projectors.safetensors"), "{cut}");
    let none = error(&|dir| {
        for file in std::fs::read_dir(dir).expect("listed").map(|entry| entry.expect("entry").path()) {
            std::fs::remove_file(file).expect("removed");
        }
    });
    assert!(none.contains("found none of them"), "{none}");
}
