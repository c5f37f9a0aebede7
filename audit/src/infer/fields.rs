//! The numbers of configs: which fields there are, and which of them a size is likely to come from.

use serde_json::Value;

/// A number that expressions may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Atom {
    /// How expressions name it: a dim, or an item of one that is a list.
    pub text: String,
    /// The field.
    pub field: usize,
    /// Its value in each example, where that has it.
    pub values: Vec<Option<u64>>,
}

/// A config field that expressions may use.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Where it stands, dotted.
    pub path: String,
    /// The dim's name.
    pub dim: String,
    /// Its value in each example, where that has it.
    pub values: Vec<Option<Value>>,
}

/// How deep fields lie.
const MAX_DEPTH: usize = 4;
/// The longest list whose items may be sizes.
const MAX_ITEMS: usize = 8;
/// A number's largest value as recipes read it.
const MAX_SIZE: u64 = 1 << 26;

/// Fields that are integers but no sizes.
const NO_SIZES: &[&str] =
    &["token_id", "token_ids", "token_index", "eps", "version", "seed", "dropout", "architectures", "return_dict"];
/// Objects whose members are no fields.
const NO_PARTS: &[&str] = &["id2label", "label2id", "task_specific_params", "auto_map"];

/// Every field of the configs that is a number, a list or a truth value.
pub fn fields(configs: &[&Value]) -> Vec<Field> {
    let mut paths: Vec<String> = Vec::new();
    for config in configs {
        collect(config, "", 0, &mut paths);
    }
    let leaf = |path: &str| path.rsplit('.').next().unwrap_or(path).to_owned();
    let mut all: Vec<Field> = Vec::new();
    for path in paths {
        if all.iter().any(|field| field.path == path) {
            continue;
        }
        let name = identifier(&leaf(&path));
        let taken = all.iter().any(|field| field.dim == name);
        let dim = if taken { identifier(&path) } else { name };
        if all.iter().any(|field| field.dim == dim) {
            continue;
        }
        let at = |config: &&Value| mlxport_convert::recipe::config::lookup(config, &path).cloned();
        let values: Vec<Option<Value>> = configs.iter().map(at).collect();
        // A field that a config says in several places is one field.
        let again = |field: &&Field| leaf(&field.path) == leaf(&path) && part(&field.path) == part(&path);
        if all.iter().find(again).is_some_and(|field| field.values == values) {
            continue;
        }
        all.push(Field { values, path, dim });
    }
    all
}

/// Which part of a model a path or a key is about; the language model has no word of its own.
fn part(path: &str) -> Option<&'static str> {
    TOWERS
        .iter()
        .find(|(part, words)| path.contains(part) || words.iter().any(|word| path.contains(word)))
        .map(|it| it.0)
}

fn collect(value: &Value, path: &str, depth: usize, paths: &mut Vec<String>) {
    let Value::Object(members) = value else { return };
    for (name, member) in members {
        let plain = !name.is_empty() && !name.contains('.');
        if !plain
            || NO_PARTS.contains(&name.as_str())
            || NO_SIZES.iter().any(|word| name.ends_with(word))
            || name.starts_with("quantization")
        {
            continue;
        }
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match member {
            Value::Object(_) if depth < MAX_DEPTH => collect(member, &path, depth + 1, paths),
            Value::Number(_) | Value::Bool(_) | Value::Array(_) => paths.push(path),
            _ => {}
        }
    }
}

/// A name that expressions allow.
fn identifier(path: &str) -> String {
    let name: String = path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let reserved = matches!(name.as_str(), "i" | "in" | "sum" | "index_of" | "count_of");
    if reserved || name.starts_with(|c: char| c.is_ascii_digit()) { format!("n_{name}") } else { name }
}

/// A value as a size.
pub fn size(value: &Value) -> Option<u64> {
    value.as_u64().filter(|&size| size <= MAX_SIZE)
}

/// The integers among the fields, and the items of short lists of integers.
pub fn atoms(fields: &[Field]) -> Vec<Atom> {
    let mut all = Vec::new();
    for (at, field) in fields.iter().enumerate() {
        let whole: Vec<Option<u64>> = field.values.iter().map(|value| value.as_ref().and_then(size)).collect();
        if whole.iter().any(Option::is_some) {
            all.push(Atom { text: field.dim.clone(), field: at, values: whole });
            continue;
        }
        let lists: Vec<Option<Vec<u64>>> = field.values.iter().map(|value| list(value.as_ref()?)).collect();
        let longest = lists.iter().flatten().map(Vec::len).max().unwrap_or(0);
        if longest > MAX_ITEMS {
            continue;
        }
        for item in 0..longest {
            let values = lists.iter().map(|list| list.as_ref().and_then(|list| list.get(item).copied())).collect();
            all.push(Atom { text: format!("{}[{item}]", field.dim), field: at, values });
        }
    }
    all
}

/// A list of sizes.
pub fn list(value: &Value) -> Option<Vec<u64>> {
    let items = value.as_array()?;
    items.iter().map(size).collect()
}

/// Where a number stands that an expression is wanted for.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    /// The key.
    pub key: &'a str,
    /// Which axis.
    pub axis: usize,
    /// Of how many.
    pub rank: usize,
}

/// Words in a key, the axis (from the front, or the last), and the fields that sizes there usually are.
const USUAL: &[(&[&str], Option<bool>, &[&str])] = &[
    (
        &["embed_tokens", "wte", "lm_head", "word_embeddings", "embed_out", "tok_embeddings", "embeddings"],
        Some(true),
        &["vocab_size", "n_vocab"],
    ),
    (
        &["q_proj", "q_lin", "query", "q_b_proj"],
        Some(true),
        &["num_attention_heads", "head_dim", "n_head", "n_heads", "qk_nope_head_dim", "qk_rope_head_dim", "num_heads"],
    ),
    (&["k_proj", "v_proj", "key.", "value."], Some(true), &["num_key_value_heads", "head_dim", "num_kv_heads"]),
    (
        &["qkv", "query_key_value", "c_attn", "Wqkv"],
        Some(true),
        &["num_attention_heads", "num_key_value_heads", "head_dim", "n_head"],
    ),
    (&["o_proj", "out_proj", "attn.dense"], Some(false), &["num_attention_heads", "head_dim", "v_head_dim"]),
    (&["q_norm", "k_norm"], None, &["head_dim"]),
    (
        &["kv_b_proj", "embed_q", "unembed_out"],
        None,
        &["num_attention_heads", "qk_nope_head_dim", "v_head_dim", "kv_lora_rank"],
    ),
    (&["kv_a_proj"], Some(true), &["kv_lora_rank", "qk_rope_head_dim"]),
    (&["kv_a_layernorm"], None, &["kv_lora_rank"]),
    (&["q_a_"], Some(true), &["q_lora_rank"]),
    (&["q_b_proj"], Some(false), &["q_lora_rank"]),
    (
        &["shared_expert.", "shared_experts."],
        None,
        &["shared_expert_intermediate_size", "moe_intermediate_size", "n_shared_experts"],
    ),
    (
        &["expert"],
        None,
        &[
            "moe_intermediate_size",
            "intermediate_size",
            "num_experts",
            "num_local_experts",
            "n_routed_experts",
            "expert_ffn_hidden_size",
        ],
    ),
    (&["gate.", "router"], Some(true), &["num_experts", "num_local_experts", "n_routed_experts"]),
    (
        &["gate_proj", "up_proj", "fc1", "c_fc", "fc_in", "w1", "w3", "gate_up", "h_to_4h", "mlp.wi"],
        Some(true),
        &["intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"],
    ),
    (
        &["down_proj", "fc2", "fc_out", "w2", "4h_to_h", "mlp.c_proj", "mlp.wo"],
        Some(false),
        &["intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"],
    ),
    (&["position", "wpe"], Some(true), &["max_position_embeddings", "n_positions", "n_ctx"]),
    (
        &["mixer", "mamba", "ssm", "A_log", "dt_", "conv1d"],
        None,
        &[
            "intermediate_size",
            "state_size",
            "conv_kernel",
            "num_heads",
            "n_groups",
            "time_step_rank",
            "expand",
            "mamba_expand",
            "mamba_n_heads",
            "mamba_d_head",
            "mamba_d_state",
            "mamba_d_conv",
            "mamba_n_groups",
            "mamba_d_ssm",
            "mamba_num_heads",
            "mamba_head_dim",
            "ssm_state_size",
        ],
    ),
    (
        &["linear_attn"],
        None,
        &[
            "linear_num_key_heads",
            "linear_num_value_heads",
            "linear_key_head_dim",
            "linear_value_head_dim",
            "linear_conv_kernel_dim",
        ],
    ),
    (&["conv."], None, &["conv_L_cache", "conv_kernel"]),
];
/// The model's width, under its names.
const WIDTHS: &[&str] = &["hidden_size", "n_embd", "d_model", "dim", "n_embed"];
/// Integers that are sizes of few tensors.
const UNLIKELY: &[&str] = &[
    "num_experts_per_tok",
    "moe_topk",
    "num_hidden_layers",
    "n_layer",
    "max_position_embeddings",
    "window",
    "topk",
    "n_group",
    "chunk",
    "layers",
    "period",
    "offset",
    "step",
    "original_max",
    "max_length",
    "beam",
    "interval",
    "n_positions",
    "n_ctx",
    "first_k",
    "freq",
    "num_logits",
    "pattern",
    "beta",
    "factor",
    "theta",
    "pretraining",
    "image_size",
];
/// Parts of a config and of keys that belong together.
const TOWERS: &[(&str, &[&str])] = &[("vision", &["vision", "visual", "image"]), ("audio", &["audio", "speech"])];

/// Fields that count what keys number.
const COUNTS: &[(&[&str], &[&str])] = &[
    (&["expert"], &["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"]),
    (
        &["layers", "blocks", "h"],
        &["num_hidden_layers", "n_layer", "n_layers", "num_layers", "depth", "encoder_layers", "decoder_layers"],
    ),
];

/// How likely a field is a size there: higher is likelier, 0 where nothing is known. Of a context without axes: how likely it is what
/// the numbers behind the key's last word count.
pub fn affinity(field: &Field, context: &Context<'_>) -> i32 {
    let leaf = field.path.rsplit('.').next().unwrap_or(&field.path);
    if context.rank == 0 {
        let counts = COUNTS.iter().any(|(words, names)| {
            words.iter().any(|word| context.key.rsplit('.').next().is_some_and(|last| last.starts_with(word)))
                && names.contains(&leaf)
        });
        return if counts { 8 } else { 0 } + tower(field, context);
    }
    let (first, last) = (context.axis == 0, context.axis + 1 == context.rank);
    let (mut score, mut others) = (0, false);
    for (words, axis, names) in USUAL {
        let there = words.iter().any(|word| context.key.contains(word));
        let on_axis = match axis {
            Some(true) => first,
            Some(false) => last,
            None => true,
        };
        if there && on_axis {
            others |= axis.is_some();
            if names.contains(&leaf) {
                score = score.max(if axis.is_some() { 7 } else { 6 });
            }
        }
    }
    if WIDTHS.contains(&leaf) {
        // Where the key says what stands there, the model's width is the least likely.
        score = if others { score - 3 } else { score.max(5) };
    }
    if score < 6 && UNLIKELY.iter().any(|word| leaf.contains(word)) {
        score -= 10;
    }
    score + tower(field, context)
}

/// Whether sizes of some tensors are usually made of a field.
pub fn is_usual(field: &Field) -> bool {
    let leaf = field.path.rsplit('.').next().unwrap_or(&field.path);
    USUAL.iter().any(|(_, _, names)| names.contains(&leaf))
}

/// What speaks against a field of another part of the model.
fn tower(field: &Field, context: &Context<'_>) -> i32 {
    match (part(&field.path), part(context.key)) {
        (own, key) if own == key => 0,
        (Some(_), _) => -20,
        (None, _) => -8,
    }
}
