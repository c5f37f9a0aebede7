//! Faults of the config: a number read wrongly, or a default taken for the released value.

use mlxport_model::{architectures::Config, fault::Fault, parts::deepseek_v2::ScoringFunc};

use super::{catalogue::Mutant, facts::Facts};

/// All of them, the image encoders' first.
pub(super) fn all(facts: &Facts) -> Vec<Mutant> {
    let language = &facts.config.language_config;
    let clip = &facts.config.vision_config.width.clip;
    let no_experts = facts.moe_layer().is_none();
    let mlp = format!("model.layers.{}.mlp", facts.moe_layer().unwrap_or(0));
    let few = language.num_experts_per_tok.unwrap_or(1) < 2;
    let fault = |name, planted_in: &str, edit: fn(&mut Config)| Mutant::new(name, planted_in, Fault::Config(edit));
    let attention = "model.layers.0.self_attn";
    let odd_head = |heads: i32, width: i32| heads < 1 || width % (2 * heads) != 0 || (width / (2 * heads)) % 2 != 0;
    vec![
        fault("CLIP's eps ten times smaller", "model.vision_model.pre_layrnorm", |c| {
            c.vision_config.width.clip.layer_norm_eps /= 10.0;
        }),
        fault("SAM's eps ten times larger", "model.sam_model.blocks.0.norm1", |c| {
            c.vision_config.width.sam.layer_norm_eps *= 10.0;
        }),
        fault("CLIP with half as many heads", "model.vision_model.transformer.layers.0.self_attn", |c| {
            c.vision_config.width.clip.heads /= 2;
        })
        .impossible_if(clip.heads % 2 != 0, "the number of heads is odd"),
        fault("the decoder's eps ten times larger", "model.layers.0.input_layernorm", |c| {
            c.language_config.rms_norm_eps *= 10.0;
        }),
        fault("rotary base 500000", attention, |c| c.language_config.rope_theta = 500_000.0),
        fault("decoder with twice as many heads", attention, |c| {
            c.language_config.num_attention_heads *= 2;
            c.language_config.num_key_value_heads *= 2;
        })
        .impossible_if(
            odd_head(language.num_attention_heads, language.hidden_size),
            "half the heads' width is odd or none",
        ),
        fault("experts' weights renormalized, or not, against the config", &mlp, |c| {
            c.language_config.norm_topk_prob = !c.language_config.norm_topk_prob;
        })
        .impossible_if(no_experts, "no layer has experts")
        .unless(few, "one expert per token"),
        fault("router scores by the other function", &mlp, |c| {
            c.language_config.scoring_func = match c.language_config.scoring_func {
                ScoringFunc::Softmax => ScoringFunc::Sigmoid,
                ScoringFunc::Sigmoid => ScoringFunc::Softmax,
            };
        })
        .impossible_if(no_experts, "no layer has experts"),
        fault("experts' weights scaled by 2.5", &mlp, |c| c.language_config.routed_scaling_factor *= 2.5)
            .impossible_if(no_experts, "no layer has experts"),
        fault("one expert fewer per token", &mlp, |c| {
            c.language_config.num_experts_per_tok = c.language_config.num_experts_per_tok.map(|k| k - 1);
        })
        .impossible_if(no_experts, "no layer has experts")
        .impossible_if(few, "one expert per token"),
    ]
}
