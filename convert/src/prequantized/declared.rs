//! What a release says of its quantization: in `quantization_config` (also of a nested model's config), or in a file of its own beside
//! config.json, as older tools write it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use regex::Regex;
use serde_json::Value;

use crate::checkpoint::MAX_JSON_BYTE_LEN;
use crate::files::read_bounded;

/// Where config sections are looked for, by the names that tools give them.
const SECTIONS: [&str; 2] = ["quantization_config", "compression_config"];
/// How deep models are nested in a config (`thinker_config.text_config`).
const MAX_DEPTH: usize = 4;
/// Files beside config.json that say what `quantization_config` says elsewhere: auto-gptq's, autoawq's, ModelOpt's.
const FILES: [&str; 3] = ["quantize_config.json", "quant_config.json", "hf_quant_config.json"];
/// Lists of modules that are left as they are.
const LEFT_OUT: [&str; 5] =
    ["modules_to_not_convert", "ignore", "ignored_layers", "exclude_modules", "llm_int8_skip_modules"];

/// A method that weights are quantized by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// FP8 codes with scales.
    Fp8,
    /// compressed-tensors in any of its formats.
    CompressedTensors,
    /// GPTQ.
    Gptq,
    /// AWQ.
    Awq,
    /// One that is not read, by its name.
    Other(String),
}

impl Method {
    /// Its name, for people.
    pub fn name(&self) -> &str {
        match self {
            Self::Fp8 => "FP8",
            Self::CompressedTensors => "compressed-tensors",
            Self::Gptq => "GPTQ",
            Self::Awq => "AWQ",
            Self::Other(name) => name,
        }
    }
}

/// A section that says how a release is quantized.
#[derive(Debug, Clone)]
pub struct Declared {
    /// Where it stands: `config.json: quantization_config`.
    pub place: String,
    /// The method.
    pub method: Method,
    /// The section.
    pub section: Value,
    patterns: Patterns,
}

impl Declared {
    /// The section of a release at `root` with this config. An MLX directory's own section is none.
    pub fn find(config: &Value, root: Option<&Path>) -> Option<Self> {
        let mut found = Vec::new();
        sections(config, "", 0, &mut found);
        let nested = found.into_iter().find_map(|(path, section)| Self::of(format!("config.json: {path}"), section));
        nested.or_else(|| FILES.iter().find_map(|name| Self::of((*name).to_owned(), &beside(root?, name)?)))
    }

    fn of(place: String, section: &Value) -> Option<Self> {
        // ModelOpt's file has the fields one level down.
        let section = section.get("quantization").filter(|inner| inner.is_object()).unwrap_or(section);
        let method = method_of(section, &place)?;
        Some(Self { place, method, section: section.clone(), patterns: Patterns::default() })
    }

    /// A whole number of the section, by any of these names.
    pub fn number(&self, names: &[&str]) -> Option<i64> {
        names.iter().find_map(|name| self.section.get(*name)?.as_i64())
    }

    /// Rows and columns of a block that shares a scale.
    pub fn block(&self) -> Option<(u64, u64)> {
        pair(self.section.get("weight_block_size")?)
    }

    /// Whether the release says that `module` is left as it is.
    pub fn leaves_out(&self, module: &str) -> bool {
        let lists = LEFT_OUT.iter().filter_map(|name| self.section.get(*name)?.as_array()).flatten();
        lists.filter_map(Value::as_str).any(|pattern| self.patterns.name(pattern, module))
    }

    /// What compressed-tensors says of `module`'s weights: the group that names it, else the one for its class (which a key does not
    /// tell, so any class).
    pub fn weights_of(&self, module: &str) -> Option<&Value> {
        let groups = self.section.get("config_groups")?.as_object()?;
        let targets = |group: &Value, test: &dyn Fn(&str) -> bool| {
            let list = group.get("targets").and_then(Value::as_array);
            list.is_some_and(|list| list.iter().filter_map(Value::as_str).any(test))
        };
        let class =
            |target: &str| target.chars().all(|c| c.is_ascii_alphanumeric()) && target.starts_with(char::is_uppercase);
        let named = groups
            .values()
            .find(|group| targets(group, &|target| !class(target) && self.patterns.name(target, module)));
        let group = named.or_else(|| groups.values().find(|group| targets(group, &class)))?;
        group.get("weights").filter(|weights| weights.is_object())
    }

    /// GPTQModel's own settings for `module`, where its `dynamic` has any.
    pub fn dynamic(&self, module: &str) -> Option<&Value> {
        let rules = self.section.get("dynamic")?.as_object()?;
        let positive = rules.iter().filter(|(pattern, _)| !pattern.starts_with("-:"));
        let found = positive.into_iter().find(|(pattern, _)| {
            let pattern = pattern.strip_prefix("+:").unwrap_or(pattern);
            self.patterns.name(&format!("re:{pattern}"), module)
        });
        found.map(|(_, settings)| settings)
    }
}

/// Two positive numbers.
pub fn pair(value: &Value) -> Option<(u64, u64)> {
    match value.as_array()?.as_slice() {
        [height, width] => Some((height.as_u64().filter(|&n| n > 0)?, width.as_u64().filter(|&n| n > 0)?)),
        _ => None,
    }
}

fn beside(root: &Path, name: &str) -> Option<Value> {
    crate::json::parse(&read_bounded(&root.join(name), MAX_JSON_BYTE_LEN).ok()?).ok()
}

/// Every section of a config with its dotted path.
fn sections<'a>(config: &'a Value, path: &str, depth: usize, found: &mut Vec<(String, &'a Value)>) {
    let Some(object) = config.as_object() else { return };
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    for name in SECTIONS {
        if let Some(section) = object.get(name).filter(|section| section.is_object()) {
            found.push((below(name), section));
        }
    }
    if depth < MAX_DEPTH {
        let inner = object.iter().filter(|(name, _)| !SECTIONS.contains(&name.as_str()) && *name != "quantization");
        inner.for_each(|(name, value)| sections(value, &below(name), depth + 1, found));
    }
}

/// Takes every section, nested ones and MLX's too, out of a config; their paths.
pub fn remove_sections(config: &mut Value) -> Vec<String> {
    let mut removed = Vec::new();
    remove_from(config, "", 0, &mut removed);
    removed
}

fn remove_from(config: &mut Value, path: &str, depth: usize, removed: &mut Vec<String>) {
    let Value::Object(object) = config else { return };
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    for name in SECTIONS.into_iter().chain(["quantization"]) {
        if object.shift_remove(name).is_some() {
            removed.push(below(name));
        }
    }
    if depth < MAX_DEPTH {
        object.iter_mut().for_each(|(name, value)| remove_from(value, &below(name), depth + 1, removed));
    }
}

/// The method a section names; `None` for MLX's own and for what names none.
fn method_of(section: &Value, place: &str) -> Option<Method> {
    let text = |name: &str| section.get(name).and_then(Value::as_str);
    let has = |name: &str| section.get(name).is_some();
    let Some(name) = text("quant_method") else {
        return match () {
            () if has("config_groups") => Some(Method::CompressedTensors),
            () if has("quant_algo") => Some(model_opt(section)),
            () if place == "quant_config.json" && (has("w_bit") || has("bits")) => Some(Method::Awq),
            () if place == "quantize_config.json" && has("bits") => Some(Method::Gptq),
            () if has("load_in_4bit") || has("load_in_8bit") => Some(bitsandbytes(section)),
            () => None,
        };
    };
    Some(match name.to_lowercase().as_str() {
        "fp8" | "fbgemm_fp8" => Method::Fp8,
        "compressed-tensors" | "compressed_tensors" => Method::CompressedTensors,
        "gptq" | "gptqmodel" => Method::Gptq,
        "awq" => Method::Awq,
        "auto-round" | "intel/auto-round" => match text("packing_format") {
            Some(format) if format.contains("awq") => Method::Awq,
            Some(format) if format.contains("gptq") => Method::Gptq,
            format => Method::Other(format!("AutoRound ({})", format.unwrap_or("no packing_format"))),
        },
        "modelopt" => model_opt(section),
        "bitsandbytes" => bitsandbytes(section),
        _ => Method::Other(name.to_owned()),
    })
}

fn model_opt(section: &Value) -> Method {
    match section.get("quant_algo").and_then(Value::as_str) {
        Some("FP8") | None => Method::Fp8,
        Some(algorithm) => Method::Other(format!("ModelOpt {algorithm}")),
    }
}

fn bitsandbytes(section: &Value) -> Method {
    let four = section.get("load_in_4bit").or_else(|| section.get("_load_in_4bit")).and_then(Value::as_bool);
    let kind = section.get("bnb_4bit_quant_type").and_then(Value::as_str).unwrap_or("fp4");
    Method::Other(if four == Some(true) { format!("bitsandbytes {kind}") } else { "bitsandbytes int8".to_owned() })
}

/// Patterns as regular expressions, each made once: a release has thousands of modules.
#[derive(Debug, Clone, Default)]
struct Patterns(RefCell<BTreeMap<String, Option<Regex>>>);

impl Patterns {
    /// Whether a pattern of a list names a module: `re:` and a regular expression (from the beginning, as Python's `match`), a pattern
    /// with `*`, or the name of the module, of a part of it, or of something it is in. An expression that is none names nothing.
    fn name(&self, pattern: &str, module: &str) -> bool {
        let expression = if let Some(expression) = pattern.strip_prefix("re:") {
            format!("^(?:{expression})")
        } else if pattern.contains('*') {
            let parts: Vec<String> = pattern.split('*').map(regex::escape).collect();
            format!("^{}$", parts.join(".*"))
        } else {
            return format!(".{module}.").contains(&format!(".{pattern}."));
        };
        let mut known = self.0.borrow_mut();
        let regex = known.entry(expression).or_insert_with_key(|expression| Regex::new(expression).ok());
        regex.as_ref().is_some_and(|regex| regex.is_match(module))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn modules_are_named_in_every_usual_way() {
        let module = "model.layers.3.mlp.gate";
        for pattern in
            ["re:.*mlp\\.gate$", "re:model", "model.layers.3.mlp.gate", "mlp.gate", "gate", "*.gate", "model.layers.3"]
        {
            assert!(Patterns::default().name(pattern, module), "{pattern}");
        }
        for pattern in ["re:mlp", "gat", "model.layers.3.mlp.gate_proj", "re:(", "layers.30", "*.up"] {
            assert!(!Patterns::default().name(pattern, module), "{pattern}");
        }
    }

    #[test]
    fn a_section_is_found_wherever_it_stands_but_mlx_s_own_is_none() {
        let fp8 =
            json!({ "quant_method": "fp8", "weight_block_size": [128, 64], "modules_to_not_convert": ["lm_head"] });
        for config in [
            json!({ "quantization_config": fp8 }),
            json!({ "text_config": { "quantization_config": fp8 } }),
            json!({ "thinker_config": { "text_config": { "compression_config": fp8 } } }),
        ] {
            let found = Declared::find(&config, None).expect("a section");
            assert_eq!((found.method.clone(), found.block()), (Method::Fp8, Some((128, 64))));
            assert!(found.leaves_out("lm_head") && !found.leaves_out("model.lm_heads"));
            let mut config = config;
            assert_eq!(remove_sections(&mut config).len(), 1);
            assert!(Declared::find(&config, None).is_none());
        }
        let mlx = json!({ "quantization_config": { "group_size": 64, "bits": 4 }, "quantization": { "bits": 4 } });
        assert!(Declared::find(&mlx, None).is_none());
    }

    #[test]
    fn methods_that_are_not_read_have_names() {
        for (section, name) in [
            (
                json!({ "quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4" }),
                "bitsandbytes nf4",
            ),
            (json!({ "quant_method": "bitsandbytes", "load_in_8bit": true }), "bitsandbytes int8"),
            (json!({ "quant_method": "hqq" }), "hqq"),
            (json!({ "quant_method": "modelopt", "quant_algo": "NVFP4" }), "ModelOpt NVFP4"),
        ] {
            let found = Declared::find(&json!({ "quantization_config": section }), None).expect("a section");
            assert_eq!(found.method.name(), name);
        }
    }

    #[test]
    fn the_group_that_names_a_module_comes_before_its_class() {
        let config = json!({ "quantization_config": { "quant_method": "compressed-tensors", "config_groups": {
            "group_0": { "targets": ["Linear"], "weights": { "num_bits": 4 } },
            "group_1": { "targets": ["re:.*down_proj"], "weights": { "num_bits": 8 } },
        } } });
        let found = Declared::find(&config, None).expect("a section");
        assert_eq!(found.weights_of("layers.0.mlp.down_proj"), Some(&json!({ "num_bits": 8 })));
        assert_eq!(found.weights_of("layers.0.mlp.up_proj"), Some(&json!({ "num_bits": 4 })));
    }
}
