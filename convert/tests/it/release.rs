//! The released DeepSeek-OCR: its 2,711 keys become exactly the tensors that MLX tools load, with the right elements in them. No
//! weights are stored: sources compute them on demand.

use std::collections::{BTreeMap, BTreeSet};

use half::bf16;
use mlxport_convert::DtypeChoice;
use mlxport_convert::checkpoint::{TensorSource, Unreadable};
use mlxport_convert::plan::{OutputTensor, Plan, plan};
use mlxport_convert::recipe::Recipe;
use mlxport_convert::transforms::Scratch;
use serde_json::{Value, json};

use crate::support::{Shapes, Virtual, release_config, release_layout, release_shapes, weights::Weights};

fn release_plan(layout: &str, config: &Value) -> Plan {
    let recipe = Recipe::named("deepseek-ocr").expect("the built-in recipe parses");
    recipe.fits(config).expect("it is for this config");
    let source = Virtual::new(&release_shapes());
    let normalized = recipe.config.normalize(config);
    let (plan, violations) =
        plan(&recipe, layout, DtypeChoice::Keep, normalized, source.tensors(), &Unreadable::default());
    assert!(violations.is_empty(), "{violations:?}");
    plan
}

#[test]
fn the_plan_is_the_layout_that_mlx_vlm_loads() {
    let plan = release_plan("mlx-vlm", &release_config());
    let made: BTreeMap<String, (String, Vec<u64>)> =
        plan.tensors.iter().map(|t| (t.name.clone(), (t.dtype.to_string(), t.shape.clone()))).collect();
    assert_eq!(plan.tensors.len(), 631);
    assert_eq!(made, release_layout());
    assert_eq!(plan.dropped.len(), 1);
    assert_eq!(plan.dropped[0].key, "model.vision_model.embeddings.position_ids");
    let claimed: usize = plan.tensors.iter().map(|tensor| tensor.sources.len()).sum();
    assert_eq!(claimed + plan.dropped.len(), 2711);
}

#[test]
fn the_split_layout_has_query_key_and_value_apart() {
    let mut expected = BTreeMap::new();
    for (name, (dtype, shape)) in release_layout() {
        let packed = name.contains(".attn.qkv.") || name.contains(".self_attn.qkv_proj.");
        if !packed {
            expected.insert(name, (dtype, shape));
            continue;
        }
        for part in ["q_proj", "k_proj", "v_proj"] {
            let name = name.replace(".attn.qkv.", &format!(".attn.{part}."));
            let name = name.replace(".qkv_proj.", &format!(".{part}."));
            let mut shape = shape.clone();
            shape[0] /= 3;
            expected.insert(name, (dtype.clone(), shape));
        }
    }
    let plan = release_plan("split", &release_config());
    let made: BTreeMap<String, (String, Vec<u64>)> =
        plan.tensors.iter().map(|t| (t.name.clone(), (t.dtype.to_string(), t.shape.clone()))).collect();
    assert_eq!(made.len(), 631 + 2 * 72);
    assert_eq!(made, expected);
}

#[test]
fn the_config_is_complete_and_reads_back() {
    let plan = release_plan("mlx-vlm", &release_config());
    let config = &plan.config;
    assert_eq!(config["model_type"], "deepseekocr");
    assert_eq!(config["torch_dtype"], "bfloat16");
    assert_eq!(config["image_token_index"], 128_815);
    assert_eq!(config["mlxport"]["layout"], "mlx-vlm");
    let language = &config["language_config"];
    assert_eq!(language["rms_norm_eps"], 1e-6);
    assert_eq!(language["rope_theta"], 10000.0);
    assert_eq!(language["norm_topk_prob"], false);
    assert_eq!(language["routed_scaling_factor"], 1.0);
    assert_eq!(language["scoring_func"], "softmax");
    assert_eq!(language["moe_layer_freq"], 1);
    assert_eq!(language["hidden_act"], "silu");
    assert_eq!(language["rope_scaling"], Value::Null);
    let (clip, sam) =
        (&config["vision_config"]["width"]["clip-l-14-224"], &config["vision_config"]["width"]["sam_vit_b"]);
    assert_eq!(clip["ffn_hidden_size"], 4096);
    assert_eq!(clip["layer_norm_eps"], 1e-5);
    assert_eq!(sam["window_size"], 14);
    assert_eq!(sam["neck_channels"], 256);
    assert_eq!(sam["patch_size"], 16);
    assert_eq!(sam["image_size"], 1024);
    assert_eq!(sam["layer_norm_eps"], 1e-6);
    assert_eq!(config["vision_config"]["intermediate_size"], 4096);
    // The same parser takes what it wrote, and changes nothing more.
    let again = release_plan("mlx-vlm", config);
    assert_eq!(&again.config, config);
    assert!(again.notes.is_empty(), "{:?}", again.notes);
}

/// The source element of an output element, worked out without the recipe: by the names and shapes alone.
fn origin(output: &OutputTensor, index: u64, shapes: &Shapes) -> (String, u64) {
    let name = output.name.strip_prefix("language_model.").unwrap_or(&output.name);
    let name = name.replace("view_separator", "view_seperator");
    let name = if name.starts_with("model.") || name.starts_with("lm_head") { name } else { format!("model.{name}") };
    if let Some((layer, weight)) = name.split_once(".switch_mlp.") {
        let each = output.shape[1] * output.shape[2];
        return (format!("{layer}.experts.{}.{weight}", index / each), index % each);
    }
    for (part, packed) in ["q_proj", "k_proj", "v_proj"].into_iter().zip(0..) {
        let vision = name.starts_with("model.sam_model") || name.starts_with("model.vision_model");
        let part = format!(".{part}.");
        if vision && name.contains(&part) {
            let to = if name.contains("sam_model") { ".qkv." } else { ".qkv_proj." };
            let count: u64 = output.shape.iter().product();
            return (name.replace(&part, to), packed * count + index);
        }
    }
    let source = &shapes[&name];
    if source.len() == 4 && !name.ends_with("pos_embed") {
        let [_, i, h, w] = source[..] else { unreachable!("four axes") };
        let (channel, rest) = (index % i, index / i);
        let (x, rest) = (rest % w, rest / w);
        let (y, filter) = (rest % h, rest / h);
        return (name, ((filter * i + channel) * h + y) * w + x);
    }
    (name, index)
}

/// Ranges of elements to look at: all of a small tensor; of a large one the ends, the middle and odd places between.
fn ranges(count: u64) -> Vec<(u64, u64)> {
    if count <= 700_000 {
        return vec![(0, count)];
    }
    let len = 20_011;
    [0, count / 7, count / 2 - 5, count / 5 * 4 + 3, count - len].into_iter().map(|at| (at, len)).collect()
}

/// The first and last two tensors of every family (names alike but for their numbers).
fn of_every_family(plan: &Plan) -> Vec<&OutputTensor> {
    let mut families: BTreeMap<(String, Vec<u64>), Vec<&OutputTensor>> = BTreeMap::new();
    for tensor in &plan.tensors {
        let family = tensor.name.split('.').map(|part| if part.parse::<u64>().is_ok() { "#" } else { part });
        let family = family.collect::<Vec<_>>().join(".");
        families.entry((family, tensor.shape.clone())).or_default().push(tensor);
    }
    families.values().flat_map(|all| [all[0], all[all.len() - 1]]).collect()
}

#[test]
fn two_tensors_of_every_family_have_the_right_elements() {
    let (shapes, source) = (release_shapes(), Virtual::new(&release_shapes()));
    let mut scratch = Scratch::default();
    for layout in ["mlx-vlm", "split"] {
        let plan = release_plan(layout, &release_config());
        let chosen = of_every_family(&plan);
        let names: BTreeSet<&str> = chosen.iter().map(|tensor| tensor.name.as_str()).collect();
        assert!(names.len() > 60 && names.contains("view_separator"), "{}", names.len());
        for tensor in chosen.into_iter().filter(|t| layout == "mlx-vlm" || t.op == "split_qkv") {
            for (first, count) in ranges(tensor.shape.iter().product()) {
                check(tensor, first, count, &source, &shapes, &mut scratch);
            }
        }
    }
}

fn check(t: &OutputTensor, first: u64, count: u64, source: &Virtual, shapes: &Shapes, scratch: &mut Scratch) {
    let mut out = vec![0; count as usize * 2];
    t.assembly.read(source, t.dtype, first, &mut out, scratch).expect("reads");
    let mut known: Option<(String, Weights)> = None;
    for (index, found) in (first..).zip(out.as_chunks::<2>().0) {
        let (key, at) = origin(t, index, shapes);
        if known.as_ref().is_none_or(|(name, _)| *name != key) {
            known = Some((key.clone(), Weights::of(&key, &shapes[&key])));
        }
        let expected = known.as_ref().map(|(_, weights)| weights.bf16(at));
        assert_eq!(expected, Some(bf16::from_le_bytes(*found)), "{} [{index}] from {key} [{at}]", t.name);
    }
}

#[test]
fn the_first_and_last_experts_stand_in_their_places() {
    let (shapes, source) = (release_shapes(), Virtual::new(&release_shapes()));
    let plan = release_plan("mlx-vlm", &release_config());
    let name = "language_model.model.layers.11.mlp.switch_mlp.down_proj.weight";
    let stack = plan.tensors.iter().find(|tensor| tensor.name == name).expect("it is there");
    let each = 1280 * 896;
    for expert in [0, 1, 62, 63] {
        let mut scratch = Scratch::default();
        check(stack, expert * each, 4096, &source, &shapes, &mut scratch);
        check(stack, (expert + 1) * each - 4096, 4096, &source, &shapes, &mut scratch);
    }
}

#[test]
fn other_models_are_refused_by_name() {
    let recipe = Recipe::named("deepseek-ocr").expect("parses");
    for config in [
        json!({"model_type": "llama"}),
        json!({}),
        json!([]),
        json!({"model_type": "deepseek_vl_v2", "architectures": ["DeepseekVLV2ForCausalLM"]}),
    ] {
        assert!(recipe.fits(&config).is_err(), "{config}");
    }
}
