//! What a config may say, and what of it is refused.

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
