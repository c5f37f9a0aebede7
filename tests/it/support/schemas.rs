//! The published schemas (`schemas/`): what a command prints with `--json` is held against them.

use std::path::{Path, PathBuf};

use jsonschema::{Registry, Validator};
use serde_json::Value;

/// Where a schema's relative references lead.
const BASE: &str = "json-schema:///";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas")
}

fn read(name: &str) -> Value {
    let text = std::fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("schemas/{name}: {error}"));
    let mut schema: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("schemas/{name}: {error}"));
    assert_eq!(schema["$id"], name, "a schema's id is its file's name");
    schema["$id"] = format!("{BASE}{name}").into();
    schema
}

fn validator(name: &str) -> Validator {
    let mut registry = Registry::new();
    for referred in ["record", "ledger", "convert", "error", "page"].map(|name| format!("{name}.schema.json")) {
        registry = registry.add(format!("{BASE}{referred}"), read(&referred)).expect("a schema");
    }
    let registry = registry.prepare().expect("schemas that refer to each other");
    jsonschema::options().with_registry(&registry).build(&read(name)).expect("a sound schema")
}

/// The object must be as `schemas/NAME.schema.json` says.
pub fn conforms(name: &str, object: &Value) {
    let validator = validator(&format!("{name}.schema.json"));
    let errors: Vec<String> =
        validator.iter_errors(object).take(10).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{name}: {errors:#?}\n{object:#}");
}
