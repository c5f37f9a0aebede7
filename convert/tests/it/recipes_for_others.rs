//! Recipes of a user's own for other architectures, on the headers of real models that transformers saved.
//!
//! `testdata/NAME.json` has a small model's config and shapes, and the shapes that the MLX model of mlx-lm or mlx-whisper loads strictly
//! (`other_architectures.py --record` wrote them; it also compares what both models compute). Values here are synthetic.

use std::collections::BTreeMap;

use half::bf16;

use mlxport_convert::checkpoint::Unreadable;
use mlxport_convert::plan::{OutputTensor, Plan, plan};
use mlxport_convert::recipe::Recipe;
use mlxport_convert::recipe::config::set;
use mlxport_convert::transforms::Scratch;
use mlxport_convert::{DtypeChoice, Violation};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{Shapes, Virtual, weights::Weights};

/// What was recorded of a model.
#[derive(Clone, Deserialize)]
struct Recorded {
    config: Value,
    shapes: Shapes,
    layout: Shapes,
}

const QWEN: (&str, &str, &str) = (
    "qwen2-moe.toml",
    include_str!("../../../examples/recipes/qwen2-moe.toml"),
    include_str!("../../testdata/qwen2-moe.json"),
);
const WHISPER: (&str, &str, &str) = (
    "whisper.json",
    include_str!("../../../examples/recipes/whisper.json"),
    include_str!("../../testdata/whisper.json"),
);

fn recorded((name, recipe, data): (&str, &str, &str)) -> (Recipe, Recorded) {
    (Recipe::parse(recipe, name).expect("parses"), serde_json::from_str(data).expect("test data parses"))
}

fn planned(recipe: &Recipe, model: &Recorded) -> (Plan, Vec<Violation>) {
    let source = Virtual::new(&model.shapes);
    let tensors = mlxport_convert::checkpoint::TensorSource::tensors(&source);
    recipe.fits(&model.config).expect("it is for this config");
    let normalized = recipe.config.normalize(&model.config);
    plan(recipe, &recipe.layouts[0], DtypeChoice::Keep, normalized, tensors, &Unreadable::default())
}

#[test]
fn both_make_exactly_what_the_mlx_model_loads() {
    for files in [QWEN, WHISPER] {
        let (recipe, model) = recorded(files);
        let (plan, violations) = planned(&recipe, &model);
        assert!(violations.is_empty(), "{violations:#?}");
        let made: Shapes = plan.tensors.iter().map(|t| (t.name.clone(), t.shape.clone())).collect();
        assert_eq!(made, model.layout, "{}", recipe.name);
        let claimed: usize = plan.tensors.iter().map(|t| t.sources.len()).sum();
        assert_eq!(claimed + plan.dropped.len(), model.shapes.len());
    }
}

/// All elements of an output, and what `origin` says they are: a source key and an element of it.
fn check(output: &OutputTensor, shapes: &Shapes, origin: impl Fn(u64) -> (String, u64)) {
    let count: u64 = output.shape.iter().product();
    let mut out = vec![0; count as usize * 2];
    let source = Virtual::new(shapes);
    output.assembly.read(&source, output.dtype, 0, &mut out, &mut Scratch::default()).expect("reads");
    for (index, found) in (0..).zip(out.as_chunks::<2>().0) {
        let (key, at) = origin(index);
        let shape = shapes.get(&key).unwrap_or_else(|| panic!("{}: no {key}", output.name));
        let expected = Weights::of(&key, shape).bf16(at);
        assert_eq!(bf16::from_le_bytes(*found), expected, "{} [{index}]", output.name);
    }
}

#[test]
fn every_element_of_qwen2_moe_stands_where_mlx_lm_wants_it() {
    let (recipe, model) = recorded(QWEN);
    for output in planned(&recipe, &model).0.tensors {
        let stacked = output.name.split_once(".switch_mlp.");
        check(&output, &model.shapes, |index| match stacked {
            Some((layer, weight)) => {
                let each = output.shape[1] * output.shape[2];
                (format!("{layer}.experts.{}.{weight}", index / each), index % each)
            }
            None => (output.name.clone(), index),
        });
    }
}

#[test]
fn every_element_of_whisper_stands_where_mlx_examples_wants_it() {
    let (recipe, model) = recorded(WHISPER);
    let renames: BTreeMap<&str, &str> = BTreeMap::from([
        ("blocks", "layers"),
        ("attn", "self_attn"),
        ("cross_attn", "encoder_attn"),
        ("query", "q_proj"),
        ("key", "k_proj"),
        ("value", "v_proj"),
        ("out", "out_proj"),
        ("mlp1", "fc1"),
        ("mlp2", "fc2"),
        ("attn_ln", "self_attn_layer_norm"),
        ("cross_attn_ln", "encoder_attn_layer_norm"),
        ("mlp_ln", "final_layer_norm"),
        ("ln_post", "layer_norm"),
        ("ln", "layer_norm"),
        ("token_embedding", "embed_tokens"),
        ("positional_embedding", "embed_positions.weight"),
    ]);
    for output in planned(&recipe, &model).0.tensors {
        let parts = output.name.split('.').map(|part| renames.get(part).copied().unwrap_or(part));
        let key = format!("model.{}", parts.collect::<Vec<_>>().join("."));
        let is_conv = output.shape.len() == 3;
        check(&output, &model.shapes, |index| {
            let at = if is_conv {
                // [O, K, I] from [O, I, K]
                let (width, channels) = (output.shape[1], output.shape[2]);
                let (channel, rest) = (index % channels, index / channels);
                (rest / width * channels + channel) * width + rest % width
            } else {
                index
            };
            (key.clone(), at)
        });
    }
}

#[test]
fn configs_say_what_the_mlx_side_reads() {
    let (recipe, model) = recorded(QWEN);
    assert!(model.config.get("rope_theta").is_none(), "transformers 5 keeps it under rope_parameters");
    let config = planned(&recipe, &model).0.config;
    assert_eq!(config["rope_theta"], 5000.0);
    assert_eq!(config["max_position_embeddings"], model.config["max_position_embeddings"]);
    let (recipe, model) = recorded(WHISPER);
    let config = planned(&recipe, &model).0.config;
    assert_eq!((&config["n_mels"], &config["n_text_state"]), (&json!(16), &json!(24)));
    assert!(config.get("d_model").is_none() && config.get("dropout").is_none(), "{config}");
}

/// A model with one thing changed, and what the recipe says of it.
fn refused(files: (&str, &str, &str), change: impl FnOnce(&mut Recorded)) -> Vec<String> {
    let (recipe, mut model) = recorded(files);
    change(&mut model);
    planned(&recipe, &model).1.iter().map(ToString::to_string).collect()
}

#[test]
fn they_go_through_the_same_checks() {
    for (path, value, expected) in [
        (
            "decoder_sparse_step",
            json!(2),
            "unsupported: decoder_sparse_step: expected 1, found 2 (mlx-lm's model has experts in every layer)",
        ),
        (
            "mlp_only_layers",
            json!([1]),
            "unsupported: mlp_only_layers: expected [], found [1] (mlx-lm's model has experts in every layer)",
        ),
        (
            "norm_topk_prob",
            json!(true),
            "unsupported: norm_topk_prob: expected false, found true (mlx-lm's model does not renormalize)",
        ),
        (
            "rope_theta",
            json!(1e6),
            "config: rope_theta: expected 5000.0, as rope_parameters.rope_theta says, found 1000000.0",
        ),
        (
            "num_key_value_heads",
            json!(3),
            "config: config.json: expected heads % kv_heads == 0 (each key-value head serves the same number of heads), found heads = 4, kv_heads = 3",
        ),
    ] {
        let list = refused(QWEN, |model| set(&mut model.config, path, value));
        assert!(list.iter().any(|line| line == expected), "{expected}\n{list:#?}");
    }
    let list = refused(QWEN, |model| {
        model.shapes.remove("model.layers.1.mlp.experts.3.up_proj.weight");
        model.shapes.insert("model.layers.0.self_attn.o_proj.bias".into(), vec![48]);
        model.shapes.insert("model.layers.2.self_attn.k_proj.bias".into(), vec![48]);
    });
    assert_eq!(
        list,
        [
            "wrong shape: model.layers.2.self_attn.k_proj.bias: expected [24], found [48] (row 9: model.layers.{layer}.self_attn.k_proj.bias)",
            "missing key: model.layers.1.mlp.experts.3.up_proj.weight: expected a tensor of shape [20, 48], found nothing \
             (row 15: model.layers.{layer}.mlp.experts.{expert}.up_proj.weight)",
            "extra key: model.layers.0.self_attn.o_proj.bias: expected a row of the recipe to claim it, found none",
        ]
    );
    let list = refused(WHISPER, |model| {
        model.shapes.insert("model.encoder.conv1.weight".into(), vec![24, 3, 16]);
    });
    assert_eq!(
        list,
        [
            "wrong shape: model.encoder.conv1.weight: expected [24, 16, 3], found [24, 3, 16] (row 1: model.encoder.conv1.weight)"
        ]
    );
}
