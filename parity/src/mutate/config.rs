//! Faults of the config: a number read wrongly, or a default taken for the released value.

use mlxport_model::{contract::Scoring, loading::ConfigEdit, parts::deepseek_v2::LanguageConfig};
use serde_json::{Value, json};

use super::{
    catalogue::Mutant,
    model_shape::{CLIP, ENCODER, ModelShape, SAM},
};
use crate::fault::Fault;

const LANGUAGE: &str = "/language_config";

/// All of them, the image encoders' first.
pub(super) fn all(facts: &ModelShape) -> Vec<Mutant> {
    let mut all = vision(facts);
    if let Some(language) = &facts.language {
        all.extend(decoder(facts, language));
        all.extend(experts(facts, language));
    }
    all
}

/// Fields of one part with other values.
fn fault(name: &str, planted_in: &str, part: &str, fields: &[(&str, Value)]) -> Mutant {
    let edit = |(field, value): &(&str, Value)| ConfigEdit { pointer: format!("{part}/{field}"), value: value.clone() };
    Mutant::new(name, planted_in, Fault::Config(fields.iter().map(edit).collect()))
}

/// A field times a factor.
fn times(facts: &ModelShape, part: &str, field: &str, factor: f64) -> Value {
    json!(facts.config.pointer(&format!("{part}/{field}")).and_then(Value::as_f64).unwrap_or(0.0) * factor)
}

fn vision(facts: &ModelShape) -> Vec<Mutant> {
    let mut all = Vec::new();
    let eps = "layer_norm_eps";
    if let Some(clip) = &facts.clip {
        let smaller = times(facts, CLIP, eps, 0.1);
        all.push(fault("CLIP's eps ten times smaller", "model.vision_model.pre_layrnorm", CLIP, &[(eps, smaller)]));
        let heads = [("heads", json!(clip.heads / 2))];
        let attention = "model.vision_model.transformer.layers.0.self_attn";
        all.push(
            fault("CLIP with half as many heads", attention, CLIP, &heads)
                .impossible_if(clip.heads % 2 != 0, "the number of heads is odd"),
        );
    }
    if facts.encoder.is_some() {
        let larger = times(facts, ENCODER, "rms_norm_eps", 10.0);
        let layer = "model.qwen2_model.model.model.layers.0";
        let normed = format!("{layer}.input_layernorm");
        all.push(fault("the encoder's eps ten times larger", &normed, ENCODER, &[("rms_norm_eps", larger)]));
        let rotary = "model.qwen2_model.model.model.rotary_emb";
        let one_pair = facts.encoder.as_ref().is_some_and(|encoder| encoder.head_dim() == 2);
        all.push(
            fault("the encoder's rotary base 10000", rotary, ENCODER, &[("rope_theta", json!(10_000.0))])
                .unless(one_pair, "a head has one pair, which turns by the position itself"),
        );
    }
    if facts.sam.is_some() {
        let larger = times(facts, SAM, eps, 10.0);
        all.push(fault("SAM's eps ten times larger", "model.sam_model.blocks.0.norm1", SAM, &[(eps, larger)]));
    }
    all
}

fn decoder(facts: &ModelShape, language: &LanguageConfig) -> Vec<Mutant> {
    // Where the rotary tables are shown before the layers, there.
    let own = facts.junction.positions;
    let attention = if own.ends_with(".rotary_emb") { own } else { "model.layers.0.self_attn" };
    let (heads, width) = (language.num_attention_heads, language.hidden_size);
    let is_odd = heads < 1 || width % (2 * heads) != 0 || (width / (2 * heads)) % 2 != 0;
    let more =
        [("num_attention_heads", json!(2 * heads)), ("num_key_value_heads", json!(2 * language.num_key_value_heads))];
    let larger = times(facts, LANGUAGE, "rms_norm_eps", 10.0);
    let normed = "model.layers.0.input_layernorm";
    vec![
        fault("the decoder's eps ten times larger", normed, LANGUAGE, &[("rms_norm_eps", larger)]),
        fault("rotary base 500000", attention, LANGUAGE, &[("rope_theta", json!(500_000.0))]),
        fault("decoder with twice as many heads", attention, LANGUAGE, &more)
            .impossible_if(is_odd, "half the heads' width is odd or none"),
    ]
}

fn experts(facts: &ModelShape, language: &LanguageConfig) -> Vec<Mutant> {
    let mlp = format!("model.layers.{}.mlp", facts.moe_layer().unwrap_or(0));
    let few = language.num_experts_per_tok.unwrap_or(1) < 2;
    let other = if language.scoring_func == Scoring::Softmax { "sigmoid" } else { "softmax" };
    let fault = |name, field, value| {
        fault(name, &mlp, LANGUAGE, &[(field, value)])
            .impossible_if(facts.moe_layer().is_none(), "no layer has experts")
    };
    vec![
        fault(
            "experts' weights renormalized, or not, against the config",
            "norm_topk_prob",
            json!(!language.norm_topk_prob),
        )
        .unless(few, "one expert per token"),
        fault("router scores by the other function", "scoring_func", json!(other)),
        fault(
            "experts' weights scaled by 2.5",
            "routed_scaling_factor",
            times(facts, LANGUAGE, "routed_scaling_factor", 2.5),
        ),
        fault("one expert fewer per token", "num_experts_per_tok", json!(language.num_experts_per_tok.map(|k| k - 1)))
            .impossible_if(few, "one expert per token"),
    ]
}
