//! What a tensor's name says: its layer and expert numbers, its role, and whether it is the same place under another spelling.
//!
//! Names only propose where a tensor should come from. Content decides.

use std::collections::BTreeMap;

/// Wrappers that ports and releases add and leave out at will.
const WRAPPERS: &[&str] = &[
    "model",
    "language_model",
    "transformer",
    "backbone",
    "base_model",
    "module",
    "text_model",
    "gpt_neox",
    "thinker",
];

/// Spellings of one part of a name: (as ports or releases write it, the common word).
const SPELLINGS: &[(&str, &str)] = &[
    ("attn", "self_attn"),
    ("attention", "self_attn"),
    ("self_attention", "self_attn"),
    ("feed_forward", "mlp"),
    ("block_sparse_moe", "mlp"),
    ("ffn", "mlp"),
    ("moe", "mlp"),
    ("switch_mlp", "experts"),
    ("switch_glu", "experts"),
    ("wq", "q_proj"),
    ("wk", "k_proj"),
    ("wv", "v_proj"),
    ("wo", "o_proj"),
    ("w1", "gate_proj"),
    ("w2", "down_proj"),
    ("w3", "up_proj"),
    ("tok_embeddings", "embed_tokens"),
    ("wte", "embed_tokens"),
    ("router", "gate"),
    ("h", "layers"),
    ("blocks", "layers"),
    ("visual", "vision_tower"),
    ("vision_model", "vision_tower"),
];

/// What a projection does, as far as its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Query, key, value and output of attention.
    Q,
    /// Key.
    K,
    /// Value.
    V,
    /// Output.
    O,
    /// The gate of a gated MLP.
    Gate,
    /// What the gate multiplies.
    Up,
    /// Back to the model's width.
    Down,
    /// Anything else.
    Other,
}

/// The role that a key names.
pub fn role(key: &str) -> Role {
    let parts = canonical(key);
    for part in parts.iter().rev() {
        let found = match part.as_str() {
            "q_proj" | "query" | "q_lin" => Role::Q,
            "k_proj" | "key" | "k_lin" => Role::K,
            "v_proj" | "value" | "v_lin" => Role::V,
            "o_proj" | "out_proj" => Role::O,
            "gate_proj" => Role::Gate,
            "up_proj" => Role::Up,
            "down_proj" => Role::Down,
            _ => continue,
        };
        return found;
    }
    Role::Other
}

/// The parts of a key in the common spelling, wrappers left out, `weight` added where a bare parameter stands.
pub fn canonical(key: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for part in key.split('.') {
        if WRAPPERS.contains(&part) {
            continue;
        }
        let word = SPELLINGS.iter().find(|(from, _)| *from == part).map_or(part, |(_, to)| to);
        if parts.last().is_some_and(|last| last == word && !is_number(word)) {
            continue;
        }
        parts.push(word.to_owned());
    }
    parts
}

/// Whether a part of a key is a number.
pub fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

/// The numbers in a key, in order.
pub fn indices(key: &str) -> Vec<u64> {
    key.split('.').filter(|part| is_number(part)).filter_map(|part| part.parse().ok()).collect()
}

/// The key with every number as `*`.
pub fn pattern(key: &str) -> String {
    let parts: Vec<&str> = key.split('.').map(|part| if is_number(part) { "*" } else { part }).collect();
    parts.join(".")
}

/// The key without its last part.
pub fn module(key: &str) -> &str {
    key.rsplit_once('.').map_or(key, |(module, _)| module)
}

/// The last part of a key.
pub fn leaf(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// Whether a key is a norm's.
pub fn is_norm(key: &str) -> bool {
    let place = module(key);
    let last = leaf(place);
    last.contains("norm") || last.starts_with("ln_") || last == "ln_f"
}

/// Whether a module chooses experts.
pub fn is_router(module: &str) -> bool {
    let last = leaf(module);
    let inside = canonical(module).iter().any(|part| part == "mlp" || part == "experts");
    matches!(last, "router" | "shared_expert_gate") || (last == "gate" && inside) || module.ends_with("router.layer")
}

/// Whether a module is a table of positions.
pub fn is_position_table(module: &str) -> bool {
    let last = leaf(module);
    ["position_embedding", "pos_embed", "position_embeddings", "wpe", "embed_positions", "position_table"]
        .iter()
        .any(|name| last.contains(name))
}

/// Whether a release's tensor is a buffer that no port needs: masks, ids, tables of rotary frequencies.
pub fn is_buffer(key: &str) -> bool {
    let last = leaf(key);
    matches!(
        last,
        "inv_freq" | "position_ids" | "masked_bias" | "causal_mask" | "original_inv_freq" | "num_batches_tracked"
    ) || key.contains("rotary_emb.")
        || key.ends_with(".attn.bias") && !key.contains("vision")
        || key.ends_with(".attention.bias")
}

/// Whether a release's tensor belongs to extra layers that predict several tokens at once; ports leave them out.
pub fn is_multi_token(key: &str) -> bool {
    key.split('.')
        .any(|part| matches!(part, "mtp" | "mtp_layers" | "mtp_block" | "eh_proj" | "enorm" | "hnorm" | "shared_head"))
}

/// Whether a key is the language model's head.
pub fn is_head(key: &str) -> bool {
    matches!(leaf(module(key)), "lm_head" | "embed_out") && leaf(key) == "weight"
}

/// Whether a key is the language model's embedding of tokens.
pub fn is_embedding(key: &str) -> bool {
    matches!(
        leaf(module(key)),
        "embed_tokens" | "wte" | "embeddings" | "embed_in" | "tok_embeddings" | "word_embeddings"
    ) && leaf(key) == "weight"
        && !key.contains("vision")
        && !key.contains("visual")
}

/// Finds a release's keys by what the end of a name says.
#[derive(Debug, Default)]
pub struct Lookup {
    by_suffix: BTreeMap<String, Vec<String>>,
    exact: BTreeMap<String, String>,
}

impl Lookup {
    /// All keys of a release.
    pub fn new<'a>(keys: impl Iterator<Item = &'a String>) -> Self {
        let mut lookup = Self::default();
        for key in keys {
            let parts = canonical(key);
            lookup.exact.insert(key.clone(), parts.join("."));
            for from in 0..parts.len() {
                lookup.by_suffix.entry(parts[from..].join(".")).or_default().push(key.clone());
            }
        }
        lookup
    }

    /// The release's keys that stand where `key` stands, best first; all are as good as each other in name. Empty where none is.
    pub fn find(&self, key: &str) -> Vec<&str> {
        if let Some((same, _)) = self.exact.get_key_value(key) {
            return vec![same];
        }
        for spelled in spellings(key) {
            let found = self.find_spelled(key, &spelled);
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }

    fn find_spelled(&self, key: &str, parts: &[String]) -> Vec<&str> {
        let numbers: Vec<&String> = parts.iter().filter(|part| is_number(part)).collect();
        for from in 0..parts.len() {
            let suffix = &parts[from..];
            let whole = numbers.iter().all(|number| suffix.contains(number));
            if !whole || suffix.len() < 2 && parts.len() > 1 {
                break;
            }
            let Some(keys) = self.by_suffix.get(&suffix.join(".")) else { continue };
            let wanted = indices(key);
            let fitting: Vec<&String> = keys.iter().filter(|found| indices(found) == wanted).collect();
            let best = fitting.iter().map(|found| overlap(key, found)).max().unwrap_or(0);
            return fitting.into_iter().filter(|found| overlap(key, found) == best).map(String::as_str).collect();
        }
        Vec::new()
    }
}

/// The canonical parts of a key, with and without `weight` at the end.
fn spellings(key: &str) -> Vec<Vec<String>> {
    let parts = canonical(key);
    let mut all = vec![parts.clone()];
    if parts.last().is_some_and(|last| last == "weight") {
        all.push(parts[..parts.len() - 1].to_vec());
    }
    all
}

/// How many words two keys share, those that only one has counted against it.
pub(crate) fn overlap(one: &str, other: &str) -> i64 {
    let words = |key: &str| -> Vec<String> {
        key.split(['.', '_']).filter(|word| !is_number(word)).map(str::to_owned).collect()
    };
    let (one, other) = (words(one), words(other));
    let shared = one.iter().filter(|word| other.contains(word)).count() as i64;
    4 * shared - (one.len() + other.len()) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_place_under_other_names() {
        let keys: Vec<String> = [
            "model.language_model.layers.0.self_attn.q_proj.weight",
            "model.vision_tower.encoder.layers.0.self_attn.q_proj.weight",
            "model.language_model.embed_tokens.weight",
        ]
        .map(str::to_owned)
        .to_vec();
        let lookup = Lookup::new(keys.iter());
        assert_eq!(lookup.find("language_model.model.layers.0.self_attn.q_proj.weight"), [keys[0].as_str()]);
        assert_eq!(
            lookup.find("vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight"),
            [keys[1].as_str()]
        );
        assert!(lookup.find("language_model.model.layers.1.self_attn.q_proj.weight").is_empty());
    }

    #[test]
    fn roles_and_places() {
        assert_eq!(role("model.layers.0.block_sparse_moe.experts.3.w3.weight"), Role::Up);
        assert_eq!(pattern("a.12.b.3"), "a.*.b.*");
        assert!(is_router("model.layers.0.mlp.gate") && !is_router("model.layers.0.mlp.gate_proj"));
        assert!(is_norm("model.layers.0.self_attn.q_norm.weight") && !is_norm("model.embed_tokens.weight"));
    }
}
