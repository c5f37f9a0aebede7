//! What must hold between the fields of a config, and what this model does not compute.

use super::{Config, LanguageConfig, ProjectorConfig, TopkMethod};
use crate::projectors::{ProjectorType, Widths};

/// No width or vocabulary is larger: a claim beyond it is not believed.
const LARGEST_WIDTH: i32 = 1 << 24;
/// No stack of layers is deeper, no image edge longer in pixels, no count of heads or experts larger.
const LARGEST_COUNT: i32 = 1 << 14;

impl Config {
    /// Every contradiction between the fields.
    pub(super) fn violations(&self) -> Vec<String> {
        let mut out = Vec::new();
        let mut demand = |ok: bool, text: String| {
            if !ok {
                out.push(text);
            }
        };
        for (name, value, largest) in self.sizes() {
            demand((1..=largest).contains(&value), format!("{name} = {value}: expected 1 to {largest}"));
        }
        let (l, c, s) = (&self.language_config, &self.vision_config.width.clip, &self.vision_config.width.sam);
        let divides = |a: i32, b: i32| a > 0 && b % a == 0;
        demand(divides(l.num_attention_heads, l.hidden_size), "num_attention_heads must divide hidden_size".into());
        demand(
            l.num_attention_heads < 1 || l.head_dim() % 2 == 0,
            "hidden_size / num_attention_heads must be even: positions rotate pairs".into(),
        );
        demand(
            divides(l.num_key_value_heads, l.num_attention_heads),
            "num_key_value_heads must divide num_attention_heads".into(),
        );
        demand(divides(c.heads, c.width), "clip-l-14-224: heads must divide width".into());
        demand(divides(s.heads, s.width), "sam_vit_b: heads must divide width".into());
        let features = c.width.saturating_add(s.downsample_channels[1]);
        out.extend(self.projector_config.violations(features, l.hidden_size));
        out.extend(self.quantization.violations());
        out.extend(self.language_config.unsupported());
        out.extend(self.language_config.moe_violations());
        out
    }

    /// Every size with the largest value that is believed, so that products of two stay within `i32`.
    fn sizes(&self) -> Vec<(&'static str, i32, i32)> {
        let (l, c, s) = (&self.language_config, &self.vision_config.width.clip, &self.vision_config.width.sam);
        vec![
            ("language_config.vocab_size", l.vocab_size, LARGEST_WIDTH),
            ("language_config.hidden_size", l.hidden_size, LARGEST_WIDTH),
            ("language_config.intermediate_size", l.intermediate_size, LARGEST_WIDTH),
            ("language_config.moe_intermediate_size", l.moe_intermediate_size, LARGEST_COUNT * 4),
            ("language_config.num_hidden_layers", l.num_hidden_layers, LARGEST_COUNT),
            ("language_config.num_attention_heads", l.num_attention_heads, LARGEST_COUNT),
            ("language_config.num_key_value_heads", l.num_key_value_heads, LARGEST_COUNT),
            ("language_config.n_routed_experts", l.n_routed_experts.unwrap_or(1), LARGEST_COUNT),
            ("language_config.n_shared_experts", l.n_shared_experts.unwrap_or(1).max(1), LARGEST_COUNT),
            ("language_config.moe_layer_freq", l.moe_layer_freq, LARGEST_COUNT),
            ("clip-l-14-224.layers", c.layers, LARGEST_COUNT),
            ("clip-l-14-224.width", c.width, LARGEST_WIDTH),
            ("clip-l-14-224.heads", c.heads, LARGEST_COUNT),
            ("clip-l-14-224.ffn_hidden_size", c.ffn_hidden_size, LARGEST_WIDTH),
            ("clip-l-14-224.image_size", c.image_size, LARGEST_COUNT),
            ("clip-l-14-224.patch_size", c.patch_size, LARGEST_COUNT),
            ("sam_vit_b.layers", s.layers, LARGEST_COUNT),
            ("sam_vit_b.width", s.width, LARGEST_WIDTH),
            ("sam_vit_b.heads", s.heads, LARGEST_COUNT),
            ("sam_vit_b.image_size", s.image_size, LARGEST_COUNT),
            ("sam_vit_b.patch_size", s.patch_size, LARGEST_COUNT),
            ("sam_vit_b.window_size", s.window_size.max(1), LARGEST_COUNT),
            ("sam_vit_b.neck_channels", s.neck_channels, LARGEST_WIDTH),
            ("sam_vit_b.downsample_channels[0]", s.downsample_channels[0], LARGEST_WIDTH),
            ("sam_vit_b.downsample_channels[1]", s.downsample_channels[1], LARGEST_WIDTH),
        ]
    }
}

impl ProjectorConfig {
    /// What this projector cannot be between `features` and a decoder of width `hidden`.
    fn violations(&self, features: i32, hidden: i32) -> Vec<String> {
        use ProjectorType::{HybridSplitFeatureMlpGelu, Identity, LowHighHybridSplitMlpGelu, LowHighSplitMlpGelu};
        let kind = self.projector_type;
        let is_split = kind == HybridSplitFeatureMlpGelu;
        let ratio = self.downsample_ratio.unwrap_or(1);
        let within = |value: i32, largest: i32| (1..=largest).contains(&value);
        let squares = i64::from(ratio).pow(2).saturating_mul(i64::from(self.width()));
        let rules = [
            (
                !matches!(kind, LowHighHybridSplitMlpGelu | LowHighSplitMlpGelu) && !self.conv_fusion_high_low_features,
                format!(
                    "{kind:?}, conv_fusion {}: takes two inputs, the whole model gives one",
                    self.conv_fusion_high_low_features
                ),
            ),
            (
                matches!(self.input_dim, Some(Widths::Two(_))) == is_split && self.width() == features,
                format!("input_dim = {}: expected CLIP width + SAM channels = {features}", shown(self.input_dim)),
            ),
            (
                self.n_embed.is_some() && (kind == Identity || self.output() == hidden),
                format!("n_embed = {}: expected hidden_size = {hidden}", shown(self.n_embed)),
            ),
            (kind != Identity || features == hidden, format!("identity: expected {features} features = hidden_size")),
            (within(self.depth, 1 << 10), format!("depth = {}: expected 1 to 1024", self.depth)),
            (within(self.mlp_ratio, 1 << 6), format!("mlp_ratio = {}: expected 1 to 64", self.mlp_ratio)),
            (
                within(ratio, 1 << 10)
                    && squares <= i64::from(LARGEST_WIDTH) * 4
                    && (self.downsample_ratio.is_some() || !kind.downsamples()),
                format!("downsample_ratio = {:?}: expected a small number of tokens", self.downsample_ratio),
            ),
            (
                !is_split || (1..self.output()).contains(&self.high_width()),
                format!("channel_div = {:?}: expected a share of n_embed", self.channel_div),
            ),
            (!(is_split && self.token_pooling), "token_pooling needs one input_dim".to_owned()),
        ];
        rules.into_iter().filter_map(|(holds, text)| (!holds).then(|| format!("projector_config: {text}"))).collect()
    }
}

/// A field's value, or that it is not there.
fn shown(value: Option<impl std::fmt::Debug>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| format!("{value:?}"))
}

impl LanguageConfig {
    /// What this decoder does not compute, where the config asks for it.
    fn unsupported(&self) -> Vec<String> {
        let found = [
            (self.hidden_act != "silu", format!("hidden_act `{}`: only `silu` is supported", self.hidden_act)),
            (self.rope_scaling.is_some(), "rope_scaling: only null is supported".to_owned()),
            (self.attention_bias, "attention_bias: only false is supported".to_owned()),
            (self.use_mla, "use_mla: only false is supported".to_owned()),
            (self.tie_word_embeddings, "tie_word_embeddings: only false is supported".to_owned()),
        ];
        found.into_iter().filter_map(|(wrong, text)| wrong.then_some(text)).collect()
    }

    fn moe_violations(&self) -> Vec<String> {
        let Some(experts) = self.n_routed_experts else { return Vec::new() };
        let mut out = Vec::new();
        let chosen = self.num_experts_per_tok.unwrap_or(0);
        if experts < 1 || chosen < 1 || chosen > experts {
            out.push(format!("num_experts_per_tok = {chosen}: expected 1 to n_routed_experts = {experts}"));
        }
        if self.topk_method == TopkMethod::GroupLimitedGreedy {
            let (groups, topk) = (self.n_group.unwrap_or(0), self.topk_group.unwrap_or(0));
            if groups < 1 || experts % groups != 0 || topk < 1 || topk > groups {
                out.push(format!("n_group = {groups}, topk_group = {topk}: do not fit {experts} experts"));
            } else if topk * (experts / groups) < chosen {
                out.push(format!("{topk} groups of {} hold fewer than {chosen} experts", experts / groups));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes of a converted `tiny-small`, in the form that `config.json` has.
    fn config() -> serde_json::Value {
        serde_json::json!({
            "language_config": {
                "vocab_size": 512, "hidden_size": 48, "intermediate_size": 96, "moe_intermediate_size": 32,
                "num_hidden_layers": 2, "num_attention_heads": 3, "num_key_value_heads": 3, "n_shared_experts": 2,
                "n_routed_experts": 8, "num_experts_per_tok": 3, "first_k_dense_replace": 1, "moe_layer_freq": 1,
                "topk_method": "greedy", "scoring_func": "softmax", "norm_topk_prob": false, "n_group": 1, "topk_group": 1,
                "routed_scaling_factor": 1.0, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "rope_scaling": null,
                "max_position_embeddings": 256, "hidden_act": "silu", "attention_bias": false, "use_mla": false,
                "tie_word_embeddings": false
            },
            "vision_config": {"width": {
                "clip-l-14-224": {
                    "layers": 3, "width": 32, "heads": 4, "ffn_hidden_size": 128, "image_size": 56, "patch_size": 14,
                    "layer_norm_eps": 1e-5
                },
                "sam_vit_b": {
                    "layers": 4, "width": 32, "heads": 2, "image_size": 192, "patch_size": 16, "window_size": 5,
                    "global_attn_indexes": [1, 3], "neck_channels": 16, "downsample_channels": [24, 32], "mlp_ratio": 4,
                    "layer_norm_eps": 1e-6
                }
            }},
            "projector_config": {"projector_type": "linear", "input_dim": 64, "n_embed": 48}
        })
    }

    fn violations(edits: &[(&str, serde_json::Value)]) -> Vec<String> {
        let mut json = config();
        for (pointer, value) in edits {
            *json.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is there")) = value.clone();
        }
        serde_json::from_value::<Config>(json).expect("fields of the right kinds").violations()
    }

    #[test]
    fn a_sound_config_has_no_violation() {
        assert_eq!(violations(&[]), Vec::<String>::new());
    }

    #[test]
    fn every_violation_is_listed_at_once() {
        let found = violations(&[
            ("/language_config/num_hidden_layers", 1_000_000_000.into()),
            ("/language_config/num_key_value_heads", 2.into()),
            ("/language_config/num_experts_per_tok", 9.into()),
            ("/language_config/hidden_act", "gelu".into()),
            ("/language_config/attention_bias", true.into()),
            ("/vision_config/width/sam_vit_b/heads", 5.into()),
            ("/projector_config/input_dim", 65.into()),
        ]);
        for part in [
            "num_hidden_layers",
            "num_key_value_heads",
            "experts_per_tok",
            "hidden_act",
            "attention_bias",
            "heads",
            "input_dim",
        ] {
            assert!(found.iter().any(|v| v.contains(part)), "{part}: {found:?}");
        }
    }

    #[test]
    fn no_claim_is_large_enough_to_overflow() {
        let found = violations(&[
            ("/vision_config/width/clip-l-14-224/image_size", i32::MAX.into()),
            ("/vision_config/width/sam_vit_b/downsample_channels", serde_json::json!([i32::MAX, i32::MAX])),
            ("/language_config/num_attention_heads", 0.into()),
        ]);
        assert!(found.len() >= 3, "{found:?}");
    }

    #[test]
    fn a_projector_says_what_it_needs_and_whether_it_keeps_the_number_of_tokens() {
        let projector = |fields: serde_json::Value| ("/projector_config", fields);
        let found = violations(&[projector(serde_json::json!({"projector_type": "linear"}))]);
        for part in ["input_dim = none", "n_embed = none"] {
            assert!(found.iter().any(|v| v.contains(part)), "{part}: {found:?}");
        }
        let fewer = |fields: serde_json::Value| {
            let config: ProjectorConfig = serde_json::from_value(fields).expect("a projector");
            config.changes_token_count().join("; ")
        };
        assert_eq!(fewer(serde_json::json!({"projector_type": "linear", "downsample_ratio": 2})), "", "not used");
        assert_eq!(fewer(serde_json::json!({"projector_type": "downsample_mlp_gelu", "downsample_ratio": 1})), "");
        let both = serde_json::json!({
            "projector_type": "normlayer_downsample_mlp_gelu", "downsample_ratio": 2, "token_pooling": true
        });
        let found = fewer(both);
        assert!(found.contains("downsample_ratio = 2") && found.contains("token_pooling = true"), "{found}");
    }

    #[test]
    fn groups_must_hold_the_experts_that_are_chosen() {
        let grouped = ("/language_config/topk_method", "group_limited_greedy".into());
        let with = |groups: i32, kept: i32| {
            violations(&[
                grouped.clone(),
                ("/language_config/n_group", groups.into()),
                ("/language_config/topk_group", kept.into()),
            ])
        };
        assert!(with(4, 2).is_empty());
        assert_eq!((with(3, 1).len(), with(4, 1).len(), with(4, 5).len()), (1, 1, 1));
    }
}
