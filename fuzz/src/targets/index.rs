//! `model.safetensors.index.json` and `pytorch_model.bin.index.json`. Input: the text.

use mlxport_convert::checkpoint::index::{self, IndexForm, PICKLES, SAFETENSORS};
use mlxport_convert::files::is_plain_name;
use serde_json::{Map, Value, json};

/// The one field that counts; of the others only the form is looked at (a number may be larger than any that a program holds).
#[derive(serde::Deserialize)]
struct Raw {
    weight_map: Map<String, Value>,
}

/// Parses it as either index.
pub fn run(data: &[u8]) {
    [SAFETENSORS, PICKLES].into_iter().for_each(|form| check(data, form));
}

fn check(data: &[u8], form: IndexForm) {
    let (found, violations) = index::parse(data, form);
    for (key, file) in &found.weight_map {
        assert!(is_plain_name(file) && file.ends_with(form.ending), "{key}: {file:?}");
        assert!(!file.contains(['/', '\\', '\0']) && file != "..", "{key}: {file:?}");
    }
    assert!(found.unusable.len() <= violations.len(), "every unusable name has its reason");
    if violations.is_empty() {
        let raw: Raw = serde_json::from_slice(data).expect("what is taken is JSON with a map");
        assert_eq!(found.weight_map.len(), raw.weight_map.len(), "nothing is left out in silence");
    }
    let text = json!({ "weight_map": found.weight_map }).to_string();
    let (again, violations) = index::parse(text.as_bytes(), form);
    assert!(violations.is_empty(), "{violations:?}");
    assert_eq!(again.weight_map, found.weight_map);
}
