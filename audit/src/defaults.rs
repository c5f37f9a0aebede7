//! What PyTorch's classes and the ports take where a config says nothing: facts of transformers 5.24, mlx-lm 0.32.2 and mlx-vlm 0.7.10.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::fields::quoted;

type Table = Map<String, Value>;

static MLX_LM: LazyLock<Table> = LazyLock::new(|| parsed(include_str!("../data/mlx-lm.json")));
static MLX_VLM: LazyLock<Table> = LazyLock::new(|| parsed(include_str!("../data/mlx-vlm.json")));
static TRANSFORMERS: LazyLock<Table> = LazyLock::new(|| parsed(include_str!("../data/transformers.json")));

/// Model types that mlx-lm loads with another one's class.
const REMAPPED: &[(&str, &str)] = &[
    ("mistral", "llama"),
    ("llava", "mistral3"),
    ("falcon_mamba", "mamba"),
    ("joyai_llm_flash", "deepseek_v3"),
    ("kimi_k2", "deepseek_v3"),
    ("qwen2_5_vl", "qwen2_vl"),
    ("minimax_m2", "minimax"),
    ("iquestcoder", "llama"),
    ("xverse", "llama"),
];

/// Ports that look into `rope_parameters` themselves, besides those whose table has it as a field.
const READ_ROPE_PARAMETERS: &[&str] = &["mellum", "minimax_m3_vl", "muse_spark"];

/// A table of `data/`; Python writes bare `Infinity` into some.
fn parsed(text: &str) -> Table {
    serde_json::from_slice(&quoted(text.as_bytes())).expect("a table of data/ is JSON")
}

/// The model types of both sides.
#[derive(Debug)]
pub struct Types<'a> {
    port: &'a str,
    release: &'a str,
    has_parts: bool,
    text: &'a str,
}

fn kind(config: &Value) -> &str {
    config.get("model_type").and_then(Value::as_str).unwrap_or("")
}

fn remapped(kind: &str) -> &str {
    REMAPPED.iter().find(|(from, _)| *from == kind).map_or(kind, |(_, to)| to)
}

/// Whether two model types are loaded by the same class, or name one architecture with and without its parts.
pub fn same_port(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (one.as_str(), other.as_str()) else { return false };
    let bare = |kind: &str| remapped(kind).trim_end_matches("_text").replace(['-', '_'], "");
    bare(one) == bare(other)
}

impl<'a> Types<'a> {
    /// Of two configs.
    pub fn of(mlx: &'a Value, release: &'a Value) -> Self {
        let has_parts = mlx.get("text_config").is_some() || mlx.get("vision_config").is_some();
        let text = release.pointer("/text_config/model_type").and_then(Value::as_str).unwrap_or("");
        Self { port: remapped(kind(mlx)), release: kind(release), has_parts, text }
    }

    /// What the port takes where `path` is missing; `None` where that is not known.
    pub fn port(&self, path: &str) -> Option<&'static Value> {
        let (part, leaf) = path.rsplit_once('.').unwrap_or(("", path));
        if self.has_parts {
            return MLX_VLM.get(self.port)?.get(part)?.get(leaf);
        }
        if part.is_empty() { MLX_LM.get(self.port)?.get(leaf) } else { None }
    }

    /// Whether the port's defaults are known at all.
    pub fn port_is_known(&self) -> bool {
        if self.has_parts { MLX_VLM.contains_key(self.port) } else { MLX_LM.contains_key(self.port) }
    }

    /// Whether the port finds rotary settings where transformers 5 writes them.
    pub fn port_reads_rope_parameters(&self) -> bool {
        let is_field = || MLX_LM.get(self.port).is_some_and(|table| table.get("rope_parameters").is_some());
        self.has_parts || is_field() || READ_ROPE_PARAMETERS.contains(&self.port)
    }

    /// What PyTorch's class takes where `path` is missing.
    pub fn released(&self, path: &str) -> Option<&'static Value> {
        let of = |kind: &str| TRANSFORMERS.get(kind).or_else(|| TRANSFORMERS.get(&kind.replace('_', "-")));
        let (part, leaf) = path.rsplit_once('.').unwrap_or(("", path));
        let table = match part {
            "" => of(self.release)?,
            "text_config" if !self.text.is_empty() => of(self.text).or_else(|| of(self.release)?.get(part))?,
            _ => of(self.release)?.get(part)?,
        };
        let inside = |name: &str| table.get("rope_parameters").and_then(|rope| rope.get(name));
        table.get(leaf).or_else(|| inside(leaf))
    }
}

/// What is taken where a field is null or missing and its value follows from others: key and value heads, the length of a head, the width
/// inside GPT-2's blocks. `None` where it does not follow, or where the others are missing.
pub fn derived(leaf: &str, fields: &BTreeMap<String, Value>) -> Option<u64> {
    let number = |name: &str| {
        let found = fields.iter().find(|(path, _)| path.rsplit('.').next() == Some(name));
        found.and_then(|(_, value)| value.as_u64())
    };
    match leaf {
        "head_dim" => Some(number("hidden_size")? / number("num_attention_heads").filter(|&heads| heads > 0)?),
        "num_key_value_heads" => number("num_attention_heads"),
        "n_inner" => number("n_embd")?.checked_mul(4),
        _ => None,
    }
}

/// Whether this value is the one that follows from other fields.
pub fn is_derived(leaf: &str, value: &Value, fields: &BTreeMap<String, Value>) -> bool {
    value.as_u64().is_some_and(|value| derived(leaf, fields) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_read() {
        assert!(MLX_LM.len() > 80 && MLX_VLM.len() > 80 && TRANSFORMERS.len() > 80);
    }
}
