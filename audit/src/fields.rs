//! config.json as it is read, and as fields by dotted path with rotary settings in one spelling.

use std::collections::BTreeMap;
use std::path::Path;

use mlxport_convert::checkpoint::MAX_JSON_BYTE_LEN;
use mlxport_convert::error::{ConvertError, Violation, ViolationKind, Violations};
use mlxport_convert::files::read_bounded;
use serde_json::{Map, Value};

/// A config as fields by dotted path, rotary settings in one spelling.
pub type Fields = BTreeMap<String, Value>;

/// config.json beside the weights. Bare `Infinity` and `NaN`, which Python writes, are read.
///
/// # Errors
/// When it is missing, too long or no JSON.
pub fn read(root: &Path) -> Result<Value, ConvertError> {
    let wrong = |kind, expected: &str, found: String| {
        let place = root.join("config.json").display().to_string();
        ConvertError::Violations(Violations(vec![Violation::new(kind, place, expected, found)]))
    };
    let bytes = read_bounded(&root.join("config.json"), MAX_JSON_BYTE_LEN)
        .map_err(|error| wrong(ViolationKind::MissingFile, "a config beside the weights", error.to_string()))?;
    let config: Value = serde_json::from_slice(&quoted(&bytes))
        .map_err(|error| wrong(ViolationKind::Config, "JSON", error.to_string()))?;
    if config.is_object() {
        Ok(config)
    } else {
        Err(wrong(ViolationKind::Config, "an object", "another value".to_owned()))
    }
}

/// JSON with Python's bare words for what is no number as mlx-lm writes them: `{"__float__": "Infinity"}`.
pub fn quoted(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let (mut inside, mut at) = (false, 0);
    while at < bytes.len() {
        let word =
            ["-Infinity", "Infinity", "NaN"].iter().find(|word| !inside && bytes[at..].starts_with(word.as_bytes()));
        if let Some(word) = word {
            out.extend_from_slice(format!("{{\"__float__\": \"{word}\"}}").as_bytes());
            at += word.len();
            continue;
        }
        match bytes[at] {
            b'"' => inside = !inside,
            b'\\' if inside => {
                out.push(bytes[at]);
                at += 1;
            }
            _ => {}
        }
        out.extend(bytes.get(at));
        at += 1;
    }
    out
}

/// A config's fields. Parts (`text_config`, …) are gone into; other objects stay whole.
pub fn fields(config: &Value) -> Fields {
    let mut all = Fields::new();
    if let Some(object) = config.as_object() {
        collect("", object, &mut all);
    }
    all
}

fn collect(prefix: &str, object: &Map<String, Value>, all: &mut Fields) {
    let object = rotary(object);
    for (name, value) in &object {
        match value {
            Value::Object(inner) if name.ends_with("_config") => collect(&format!("{prefix}{name}."), inner, all),
            _ => {
                all.insert(format!("{prefix}{name}"), value.clone());
            }
        }
    }
}

/// Rotary settings in one spelling: `rope_theta`, `rope_local_base_freq`, `partial_rotary_factor`, and `rope_scaling` or null.
fn rotary(object: &Map<String, Value>) -> Map<String, Value> {
    let mut out = object.clone();
    if let Some(Value::Object(parameters)) = out.shift_remove("rope_parameters") {
        let full = parameters.get("full_attention").and_then(Value::as_object).unwrap_or(&parameters).clone();
        let local = parameters.get("sliding_attention").and_then(|local| local.get("rope_theta")).cloned();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                out.entry(name.to_owned()).or_insert(value);
            }
        };
        put("rope_theta", full.get("rope_theta").cloned());
        put("partial_rotary_factor", full.get("partial_rotary_factor").cloned());
        put("rope_local_base_freq", local);
        let rest: Map<String, Value> = full
            .into_iter()
            .filter(|(name, _)| !["rope_theta", "partial_rotary_factor", "sliding_attention"].contains(&name.as_str()))
            .collect();
        put("rope_scaling", Some(Value::Object(rest)));
    }
    if let Some(Value::Object(scaling)) = out.get("rope_scaling").cloned() {
        let mut scaling = scaling;
        if let Some(kind) = scaling.shift_remove("type") {
            scaling.entry("rope_type").or_insert(kind);
        }
        scaling.shift_remove("rope_theta");
        // Along two axes, as pictures have them, nothing is scaled either.
        let plain = scaling.get("rope_type").is_none_or(|kind| kind == "default" || kind == "axial");
        let value = if plain && scaling.len() <= 1 { Value::Null } else { Value::Object(scaling) };
        out.insert("rope_scaling".to_owned(), value);
    }
    out
}
