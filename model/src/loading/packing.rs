//! How a model's matrices are packed: `quantization` of `config.json`, as MLX tools write it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// Bits and group size, for most modules and for those that differ. Empty: every weight is a float.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Packing(BTreeMap<String, Value>);

impl Packing {
    /// Whether weights may be packed at all.
    pub fn is_there(&self) -> bool {
        !self.0.is_empty()
    }

    /// Group size and bits of the packed module `key`.
    ///
    /// # Errors
    /// A text that says what was expected and found.
    pub fn of(&self, key: &str) -> Result<(i32, i32), String> {
        let own = match self.0.get(key) {
            Some(Value::Object(own)) => Some(own),
            Some(Value::Bool(false)) => return Err("has scales, and config.json says it is not quantized".into()),
            _ => None,
        };
        let field = |name: &str| own.and_then(|own| own.get(name)).or_else(|| self.0.get(name));
        let mode = field("mode").and_then(Value::as_str).unwrap_or("affine");
        if mode != "affine" {
            return Err(format!(
                "quantized as {mode}: only affine quantization is run (`mlxport convert MODEL FLOATS --dequantize` makes floats of it)"
            ));
        }
        let number = |name: &str, known: &[i64]| {
            let found = field(name);
            let number = found.and_then(Value::as_i64).filter(|number| known.contains(number));
            number.map(|number| number as i32).ok_or_else(|| {
                format!("quantization.{name}: expected one of {known:?}, found {}", found.unwrap_or(&Value::Null))
            })
        };
        Ok((number("group_size", &[32, 64, 128])?, number("bits", &[2, 3, 4, 5, 6, 8])?))
    }

    /// Group size and bits of most modules, where weights may be packed.
    #[must_use]
    pub fn usual(&self) -> Option<(i32, i32)> {
        if self.is_there() { self.of("").ok() } else { None }
    }

    /// What no module could use.
    pub fn violations(&self) -> Vec<String> {
        if self.is_there() { self.of("").err().into_iter().collect() } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packing(json: Value) -> Packing {
        serde_json::from_value(json).expect("an object")
    }

    #[test]
    fn a_module_of_its_own_differs_and_others_do_not() {
        let mixed = packing(
            serde_json::json!({"group_size": 64, "bits": 4, "mode": "affine", "a.b": {"group_size": 32, "bits": 6}, "c": false}),
        );
        assert_eq!((mixed.of("a.b"), mixed.of("a")), (Ok((32, 6)), Ok((64, 4))));
        assert!(mixed.of("c").is_err() && mixed.violations().is_empty());
    }

    #[test]
    fn what_cannot_be_run_is_told() {
        for (json, part) in [
            (serde_json::json!({"group_size": 32, "bits": 4, "mode": "mxfp4"}), "mxfp4"),
            (serde_json::json!({"group_size": 48, "bits": 4}), "48"),
            (serde_json::json!({"group_size": 64, "bits": "four"}), "four"),
            (serde_json::json!({"bits": 4}), "null"),
        ] {
            let found = packing(json).violations();
            assert!(found.len() == 1 && found[0].contains(part), "{found:?}");
        }
        assert!(Packing::default().violations().is_empty());
    }
}
