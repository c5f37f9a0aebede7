//! What an audit writes: the published schema holds, and every format names the fault.

use std::path::Path;

use mlxport_audit::{html, json, markdown, text};
use safetensors::Dtype;

use crate::model::{audited, config, converted, release, request, write};

#[test]
fn every_format_names_the_fault() {
    let mut mlx = converted(&release(), Dtype::BF16);
    let key = "model.layers.0.self_attn.q_proj.weight";
    let zero = mlx[key].map(|_| 0.0);
    mlx.insert(key.to_owned(), zero);
    let report = audited(&mlx, &config());
    for written in [text(&report), markdown(&report), html(&report), json(&report).expect("JSON")] {
        assert!(written.contains(key) && written.contains("zeroed"), "{written}");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/audit.schema.json");
    let schema = serde_json::from_str(&std::fs::read_to_string(path).expect("there")).expect("JSON");
    let object = serde_json::to_value(&report).expect("JSON");
    assert!(jsonschema::is_valid(&schema, &object));
}

#[test]
fn names_are_data() {
    let mut mlx = converted(&release(), Dtype::BF16);
    mlx.insert("<script>\u{1b}[31m|`".to_owned(), mlx["model.norm.weight"].map(|v| v * 3.3));
    let report = audited(&mlx, &config());
    assert!(!html(&report).contains("<script>") && !text(&report).contains('\u{1b}'));
}

#[test]
fn bad_input_is_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mlx, other) = (dir.path().join("m"), dir.path().join("r"));
    write(&mlx, &converted(&release(), Dtype::BF16), &config());
    assert!(mlxport_audit::audit(&request(&mlx, &other)).is_err());
    write(&other, &release(), &config());
    let file = mlx.join("model.safetensors");
    let bytes = std::fs::read(&file).expect("there");
    std::fs::write(&file, &bytes[..bytes.len() / 2]).expect("writable");
    assert!(mlxport_audit::audit(&request(&mlx, &other)).is_err());
    std::fs::write(mlx.join("config.json"), "{").expect("writable");
    std::fs::write(&file, bytes).expect("writable");
    assert!(mlxport_audit::audit(&request(&mlx, &other)).is_err());
}
