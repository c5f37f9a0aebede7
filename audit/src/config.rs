//! Config fields that decide numbers: the release's against the MLX side's, and what the port takes where a field is gone.

use serde_json::{Value, json};

use crate::defaults;
pub use crate::fields::read;
use crate::fields::{Fields, fields};
use crate::layers;
use crate::report::{DroppedTensor, Finding, Severity};

/// Fields that keep the books and decide no number of a forward pass.
const BOOKKEEPING: &[&str] = &[
    "_name_or_path",
    "name_or_path",
    "transformers_version",
    "torch_dtype",
    "dtype",
    "architectures",
    "use_cache",
    "initializer_range",
    "initializer_factor",
    "pretraining_tp",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "input_jitter_noise",
    "aux_loss_alpha",
    "seq_aux",
    "id2label",
    "label2id",
    "problem_type",
    "auto_map",
    "return_dict",
    "torchscript",
    "is_encoder_decoder",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "add_cross_attention",
    "tie_encoder_decoder",
    "finetuning_task",
    "prefix",
    "task_specific_params",
    "tokenizer_class",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "sep_token_id",
    "decoder_start_token_id",
    "quantization",
    "quantization_config",
    "mlxport",
    "rescale_prenorm_residual",
    "residual_in_fp32",
    "time_step_floor",
    "time_step_min",
    "time_step_max",
    "time_step_init_scheme",
    "time_step_scale",
    "ep_size",
    "_attn_implementation",
    "attn_implementation",
    "_attn_implementation_autoset",
    "use_mamba_kernels",
    "use_mambapy",
    "reorder_and_upcast_attn",
    "scale_attn_by_inverse_layer_idx",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "gradient_checkpointing",
    "keep_router_fp32",
    "pruned_heads",
    "temperature",
    "top_k",
    "top_p",
    "do_sample",
    "max_length",
    "min_length",
    "repetition_penalty",
    "num_beams",
    "use_bfloat16",
    "use_liger_kernel",
    "unsloth_fixed",
    "unsloth_version",
];

/// Fields that count only for long texts or some kinds of rotary scaling.
const LONG: &[&str] = &["max_position_embeddings", "max_window_layers", "original_max_position_embeddings"];

/// Fields whose default decides numbers in every forward pass: both sides may leave them out, and mean different things.
const DECISIVE: &[&str] = &[
    "rope_theta",
    "rms_norm_eps",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "norm_eps",
    "logit_scale",
    "routed_scaling_factor",
    "norm_topk_prob",
    "partial_rotary_factor",
    "query_pre_attn_scalar",
    "final_logit_softcapping",
    "attn_logit_softcapping",
    "embedding_multiplier",
    "attention_multiplier",
    "residual_multiplier",
    "logits_scaling",
    "num_experts_per_tok",
    "n_group",
    "topk_group",
];

/// The length of an attention head, where the config says.
pub fn head_len(config: &Value) -> Option<u64> {
    let get = |name: &str| {
        let inside = config.get("text_config").and_then(|text| text.get(name));
        config.get(name).or(inside).and_then(Value::as_u64)
    };
    get("head_dim").or_else(|| Some(get("hidden_size")? / get("num_attention_heads").filter(|&heads| heads > 0)?))
}

/// The size of the vocabulary.
pub fn vocab(config: &Value) -> Option<u64> {
    config.get("vocab_size").or_else(|| config.pointer("/text_config/vocab_size")).and_then(Value::as_u64)
}

/// What differs between the two in what decides numbers. `written`: the config as a recipe writes it for the port; what it has is right.
pub fn findings(release: &Value, mlx: &Value, written: Option<&Value>, dropped: &[DroppedTensor]) -> Vec<Finding> {
    let tower_gone = dropped.iter().any(|tensor| tensor.reason.starts_with("a part that"));
    let (had, has) = (fields(release), fields(mlx));
    let written = written.map(fields).unwrap_or_default();
    let as_written = |path: &str, found: &Value| lookup(&written, path).is_some_and(|value| same(value, found));
    let types = defaults::Types::of(mlx, release);
    let mut findings = Vec::new();
    for (path, value) in &had {
        if path_is_kept_apart(path, tower_gone) {
            continue;
        }
        match lookup(&has, path) {
            Some(found) if same(value, found) || value.is_null() && defaults::is_derived(leaf(path), found, &had) => {}
            Some(found) if as_written(path, found) => {}
            Some(found) => findings.push(changed(path, value, found, &had)),
            None if layers::is_counted(path, value, &has) => {}
            None => findings.extend(lost(path, value, &types, &had)),
        }
    }
    for (path, value) in &has {
        if path_is_kept_apart(path, tower_gone) || lookup(&had, path).is_some() || as_written(path, value) {
            continue;
        }
        findings.extend(added(path, value, &types, &had));
    }
    findings.extend(left_out_by_both(&had, &has, &types));
    findings.extend(unread(mlx, &has, &types));
    findings.extend(layers::unread(&has, &types));
    findings
}

fn path_is_kept_apart(path: &str, tower_gone: bool) -> bool {
    let tower = ["vision_config", "audio_config"].iter().any(|part| path.starts_with(part));
    tower && tower_gone
        || path.split('.').any(|part| {
            BOOKKEEPING.contains(&part)
                || part.ends_with("dropout")
                || part.ends_with("dropout_prob")
                || part.ends_with("pdrop")
                || part.ends_with("_token_id")
                || part.ends_with("_token_index")
                || part.ends_with("_token")
        })
}

/// A field where it is, or where tools move it: out of the text part, or into it.
fn lookup<'a>(fields: &'a Fields, path: &str) -> Option<&'a Value> {
    let parts = [("text_config.", "language_config."), ("text_config.", "llm_config."), ("text_config.", "")];
    let moved = parts.iter().find_map(|(from, to)| fields.get(&format!("{to}{}", path.strip_prefix(from)?)));
    fields
        .get(path)
        .or(moved)
        .or_else(|| (!path.contains('.')).then(|| fields.get(&format!("text_config.{path}"))).flatten())
}

/// Whether two values are the same number or the same thing.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap_or(f64::NAN), b.as_f64().unwrap_or(f64::NAN));
            a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => one == other,
    }
}

fn leaf(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

fn config_finding(path: &str, severity: Severity, detail: String) -> Finding {
    Finding::new("config", severity, detail).at([path.to_owned()])
}

fn changed(path: &str, had: &Value, has: &Value, fields: &Fields) -> Finding {
    let leaf = leaf(path);
    let scaled = fields.iter().any(|(path, value)| path.ends_with("rope_scaling") && value.is_object());
    let severity = match leaf {
        "max_window_layers" => Severity::Minor,
        _ if LONG.contains(&leaf) && !scaled => Severity::Minor,
        "model_type" if defaults::same_port(had, has) || same_part(had, has) => Severity::Note,
        _ => Severity::Fault,
    };
    let finding = config_finding(path, severity, format!("{path} is {}, the release says {}", shown(has), shown(had)));
    let (Some(had), Some(has)) = (had.as_object(), has.as_object()) else { return finding };
    let differs = |name: &&String| !had.get(*name).zip(has.get(*name)).is_some_and(|(a, b)| same(a, b));
    let inner: Vec<String> = had
        .keys()
        .chain(has.keys().filter(|name| !had.contains_key(*name)))
        .filter(differs)
        .map(|name| format!("{path}.{name}"))
        .collect();
    finding.at(inner)
}

/// Whether two types of a model's part are one: transformers 5 says of which part it is (`qwen3_vl_vision`), ports do not.
fn same_part(had: &Value, has: &Value) -> bool {
    let bare = |value: &Value| {
        let name = value.as_str()?;
        Some(name.strip_suffix("_vision").or_else(|| name.strip_suffix("_text")).unwrap_or(name).to_owned())
    };
    bare(had).is_some() && bare(had) == bare(has)
}

/// A field of the release that is gone.
fn lost(path: &str, value: &Value, types: &defaults::Types<'_>, had: &Fields) -> Option<Finding> {
    let leaf = leaf(path);
    let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    let port = types.port(path);
    match port {
        Some(default) if same(default, value) => return None,
        Some(default) if default == "__required__" => {
            let detail =
                format!("{path} is gone (the release says {}), and the port cannot load without it", shown(value));
            return Some(config_finding(path, Severity::Fault, detail));
        }
        Some(default) if default.is_null() && defaults::is_derived(leaf, value, had) => return None,
        Some(default) => {
            let detail =
                format!("{path} is gone: the port takes {}, the release says {}", shown(default), shown(value));
            let severity = if empty { Severity::Minor } else { Severity::Fault };
            return Some(config_finding(path, severity, detail));
        }
        None => {}
    }
    if empty || value == &json!(false) || LONG.contains(&leaf) || defaults::is_derived(leaf, value, had) {
        return None;
    }
    if types.released(path).is_some_and(|default| same(default, value)) && !types.port_is_known() {
        return None;
    }
    let detail = format!("{path} is gone; the release says {}", shown(value));
    Some(config_finding(path, Severity::Fault, detail))
}

/// A field that the release does not have.
fn added(path: &str, value: &Value, types: &defaults::Types<'_>, had: &Fields) -> Option<Finding> {
    let leaf = leaf(path);
    let follows = defaults::derived(leaf, had).filter(|_| types.released(path).is_none_or(Value::is_null));
    if let (Some(follows), Some(_), Some(found)) = (follows, types.port(path), value.as_u64()) {
        // The release's other fields say what it is, and the port believes what is written.
        let detail =
            format!("{path} is {found}; the release leaves it out, and {follows} follows from its other fields");
        return (follows != found).then(|| config_finding(path, Severity::Fault, detail));
    }
    let usual = types.released(path)?;
    let derived = usual.is_null() || LONG.contains(&leaf) || path.contains('.');
    if same(usual, value) || value.is_null() || derived {
        return None;
    }
    let detail = format!("{path} is {}; the release leaves it out, which means {}", shown(value), shown(usual));
    Some(config_finding(path, Severity::Fault, detail))
}

/// Neither side says it, and PyTorch and the port take different defaults.
fn left_out_by_both(had: &Fields, has: &Fields, types: &defaults::Types<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for leaf in DECISIVE {
        for path in [(*leaf).to_owned(), format!("text_config.{leaf}")] {
            if lookup(had, &path).is_some() || lookup(has, &path).is_some() {
                continue;
            }
            let (Some(torch), Some(port)) = (types.released(&path), types.port(&path)) else { continue };
            if same(torch, port) || torch.is_null() || port.is_null() || port == "__required__" {
                continue;
            }
            let detail =
                format!("{path} is left out: PyTorch then takes {}, the port takes {}", shown(torch), shown(port));
            findings.push(config_finding(&path, Severity::Fault, detail));
        }
    }
    findings
}

/// A value that is there, but only where transformers 5 writes it and the port does not look.
fn unread(mlx: &Value, has: &Fields, types: &defaults::Types<'_>) -> Vec<Finding> {
    let top = |name: &str| mlx.get(name).is_some();
    if !mlx.get("rope_parameters").is_some_and(Value::is_object) || types.port_reads_rope_parameters() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for path in ["rope_theta", "partial_rotary_factor", "rope_scaling"] {
        let (Some(port), false) = (types.port(path), top(path)) else { continue };
        let value = has.get(path).cloned().unwrap_or(Value::Null);
        if value.is_null() || same(port, &value) {
            continue;
        }
        let takes = if port == "__required__" { "cannot load".to_owned() } else { format!("takes {}", shown(port)) };
        let detail = format!(
            "{path} ({}) stands in rope_parameters only, where the port does not look: it {takes}",
            shown(&value)
        );
        findings.push(config_finding(path, Severity::Fault, detail));
    }
    findings
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 80 { text.chars().take(77).collect::<String>() + "…" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::quoted;

    #[test]
    fn rotary_settings_have_one_spelling() {
        let new = json!({"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "rope_theta": 5e5}});
        let old = json!({"rope_theta": 500000, "rope_scaling": {"type": "llama3", "factor": 8}});
        let (new, old) = (fields(&new), fields(&old));
        assert!(new.iter().all(|(path, value)| same(value, &old[path])), "{new:?} {old:?}");
        let none = fields(&json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}));
        assert_eq!(none["rope_scaling"], Value::Null);
    }

    #[test]
    fn what_a_recipe_writes_is_right() {
        let release = json!({"model_type": "deepseek_vl_v2", "width": {"clip": {"heads": 16}}});
        let mlx =
            json!({"model_type": "deepseekocr", "width": {"clip": {"heads": 16, "eps": 1e-5}}, "rms_norm_eps": 1e-6});
        assert!(findings(&release, &mlx, Some(&mlx), &[]).is_empty());
        let found = findings(&release, &mlx, None, &[]);
        assert!(found.iter().any(|finding| finding.keys.iter().any(|key| key == "width")), "{found:?}");
        let mut changed = mlx.clone();
        changed["width"]["clip"]["heads"] = json!(8);
        assert!(!findings(&release, &changed, Some(&mlx), &[]).is_empty());
    }

    #[test]
    fn bare_infinity_is_read() {
        let text = br#"{"a": [0.0, Infinity], "b": "NaN \" Infinity"}"#;
        let value: Value = serde_json::from_slice(&quoted(text)).expect("JSON");
        assert_eq!(value["a"][1]["__float__"], "Infinity");
        assert_eq!(value["b"], "NaN \" Infinity");
    }
}
