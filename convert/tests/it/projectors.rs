//! Releases with other projectors than the release's own: the weights they must have, where they go in each layout, which are refused.

use std::collections::BTreeMap;

use mlxport_convert::checkpoint::{TensorSource, Unreadable};
use mlxport_convert::plan::plan;
use mlxport_convert::recipe::Recipe;
use mlxport_convert::{DtypeChoice, Violation, ViolationKind};
use serde_json::{Value, json};

use crate::support::{Shapes, Virtual, tiny::Tiny};

/// What one layer has: its name, and the shape of its weight; the bias is as long as that has rows.
type Layer<'a> = (&'a str, &'a [u64]);

/// Plans a small release with this projector; its part of the result, by name, and what is wrong.
fn planned(projector: &Value, layers: &[Layer], layout: &str) -> (BTreeMap<String, Vec<u64>>, Vec<Violation>) {
    let (mut config, mut shapes): (Value, Shapes) = (Tiny::default().config(), Tiny::default().shapes());
    config["projector_config"] = projector.clone();
    shapes.retain(|key, _| !key.starts_with("model.projector."));
    for (name, shape) in layers {
        shapes.insert(format!("model.projector.{name}.weight"), shape.to_vec());
        shapes.insert(format!("model.projector.{name}.bias"), shape[..1].to_vec());
    }
    let recipe = Recipe::named("deepseek-ocr").expect("the built-in recipe parses");
    let source = Virtual::new(&shapes);
    let normalized = recipe.config.normalize(&config);
    let (plan, violations) =
        plan(&recipe, layout, DtypeChoice::Keep, normalized, source.tensors(), &Unreadable::default());
    let own =
        plan.tensors.iter().filter_map(|t| Some((t.name.strip_prefix("projector.")?.to_owned(), t.shape.clone())));
    (own.collect(), violations)
}

/// CLIP's and SAM's 12 features each, side by side; a decoder of width 16.
fn config(kind: &str, more: Value) -> Value {
    let mut config = json!({ "projector_type": kind, "input_dim": 24, "n_embed": 16 });
    for (name, value) in more.as_object().expect("an object") {
        config[name] = value.clone();
    }
    config
}

fn cases() -> Vec<(Value, Vec<Layer<'static>>)> {
    let hybrid = |more: Value| {
        let mut config = config("hybrid_split_feature_mlp_gelu", more);
        config["input_dim"] = json!([10, 14]);
        config
    };
    vec![
        (
            config("linear", json!({ "token_pooling": true })),
            vec![("token_pooling_layer", &[24, 96]), ("layers", &[16, 24])],
        ),
        (config("mlp_gelu", json!({})), vec![("layers.0", &[16, 24])]),
        (
            config("mlp_gelu", json!({ "depth": 3 })),
            vec![("layers.0", &[16, 24]), ("layers.2", &[16, 16]), ("layers.4", &[16, 16])],
        ),
        (
            config("downsample_mlp_gelu", json!({ "downsample_ratio": 2 })),
            vec![("layers.0", &[16, 96]), ("layers.2", &[16, 16])],
        ),
        (
            config("downsample_mlp_gelu", json!({ "downsample_ratio": 3, "mlp_ratio": 2, "depth": 4 })),
            vec![("layers.0", &[32, 216]), ("layers.2", &[32, 32]), ("layers.4", &[32, 32]), ("layers.6", &[16, 32])],
        ),
        (
            config("normlayer_downsample_mlp_gelu", json!({ "downsample_ratio": 2, "depth": 3 })),
            vec![("layers.0", &[96]), ("layers.1", &[16, 96]), ("layers.3", &[16, 16]), ("layers.5", &[16, 16])],
        ),
        (hybrid(json!({})), vec![("high_up_proj", &[8, 10]), ("low_up_proj", &[8, 14])]),
        // int(16 × 0.3) is 4.
        (
            hybrid(json!({ "channel_div": 0.3, "depth": 2 })),
            vec![("high_up_proj", &[4, 10]), ("low_up_proj", &[12, 14]), ("layers.1", &[16, 16])],
        ),
    ]
}

#[test]
fn every_type_has_its_weights_in_both_layouts() {
    for (config, layers) in cases() {
        for layout in ["mlx-vlm", "split"] {
            let (made, violations) = planned(&config, &layers, layout);
            assert!(violations.is_empty(), "{config} {layout}: {violations:#?}");
            let mut expected = BTreeMap::new();
            for (name, shape) in &layers {
                expected.insert(format!("{name}.weight"), shape.to_vec());
                expected.insert(format!("{name}.bias"), shape[..1].to_vec());
            }
            assert_eq!(made, expected, "{config} {layout}");
        }
    }
}

#[test]
fn a_layer_too_many_too_few_or_of_another_shape_is_told() {
    for (config, layers) in cases() {
        let has = |layers: &[Layer], kind: ViolationKind| {
            let (_, violations) = planned(&config, layers, "split");
            assert!(violations.iter().any(|violation| violation.kind == kind), "{config}: {violations:#?}");
        };
        has(&layers[1..], ViolationKind::MissingKey);
        has(&[&layers[..], &[("layers.9", &[16, 16])]].concat(), ViolationKind::ExtraKey);
        has(&[&[(layers[0].0, &[17, 23][..])], &layers[1..]].concat(), ViolationKind::WrongShape);
    }
}

#[test]
fn what_takes_two_inputs_or_contradicts_itself_is_refused_with_the_reason() {
    let refused = |config: Value, kind: ViolationKind, word: &str| {
        let (_, violations) = planned(&config, &[("layers", &[16, 24])], "mlx-vlm");
        let told = violations.iter().any(|v| v.kind == kind && v.to_string().contains(word));
        assert!(told, "{config}: {violations:#?}");
    };
    for kind in ["low_high_hybrid_split_mlp_gelu", "low_high_split_mlp_gelu"] {
        refused(config(kind, json!({})), ViolationKind::Unsupported, "two inputs");
    }
    refused(
        config("linear", json!({ "conv_fusion_high_low_features": true })),
        ViolationKind::Unsupported,
        "two inputs",
    );
    refused(config("downsample_mlp_gelu", json!({})), ViolationKind::Config, "downsample_ratio");
    refused(config("identity", json!({})), ViolationKind::Config, "projector_in == hidden");
    let hybrid = |more: Value| config("hybrid_split_feature_mlp_gelu", more);
    refused(hybrid(json!({})), ViolationKind::Config, "a list of integers");
    refused(hybrid(json!({ "input_dim": [10, 15] })), ViolationKind::Config, "projector_parts");
    refused(hybrid(json!({ "input_dim": [10] })), ViolationKind::Config, "projector_parts");
    refused(hybrid(json!({ "input_dim": [10, 14], "channel_div": 1.0 })), ViolationKind::Config, "share");
    refused(hybrid(json!({ "input_dim": [10, 14], "channel_div": 1e300 })), ViolationKind::Config, "share");
    refused(hybrid(json!({ "input_dim": [10, 14], "token_pooling": true })), ViolationKind::Config, "pooling");
}
