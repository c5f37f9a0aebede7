//! Faults of the weights: what a converter that got a layout, an order or a name wrong would write.

use mlx_rs::{Array, Dtype, ops};
use mlxport_model::{
    Result,
    loading::{Edit, WeightEdit},
    parts::{deepseek_v2::LanguageConfig, projector::ProjectorType, qwen2_encoder::Qwen2Config},
};

use super::{catalogue::Mutant, model_shape::ModelShape};
use crate::fault::Fault;

const SPLIT: &str = "this layout has query, key and value apart";

/// SAM, CLIP, the projector and the rows between image features.
pub(super) fn vision(facts: &ModelShape) -> Vec<Mutant> {
    let mut all = if facts.sam.is_some() { sam(facts) } else { Vec::new() };
    all.extend(facts.clip.iter().flat_map(|_| clip(facts)));
    all.extend(facts.encoder.iter().flat_map(encoder));
    let Some(projector) = &facts.projector else { return all };
    let is_linear = projector.projector_type == ProjectorType::Linear;
    let several = "the projector is not one linear layer";
    all.extend([
        Mutant::map("the projector's bias dropped", "model.projector.layers", "projector.layers.bias", zeros)
            .impossible_if(!is_linear, several),
        Mutant::map("the projector's input halves exchanged", "model.projector", "projector.layers.weight", half_turn)
            .impossible_if(!is_linear, several)
            .impossible_if(facts.clip.is_none(), "one encoder's features"),
        Mutant::exchange(
            "newline and separator exchanged",
            facts.junction.point,
            vec![("image_newline".into(), "view_separator".into())],
        )
        .impossible_if(facts.sam_grids.is_empty(), "the prompt has no picture")
        .impossible_if(!facts.has_newlines, "rows end with no newline"),
    ]);
    all
}

fn sam(facts: &ModelShape) -> Vec<Mutant> {
    let module = |name: &str| format!("model.sam_model.{name}");
    let key = |name: &str| format!("sam_model.{name}");
    let map = |name, at: &str, tensor: &str, edit| Mutant::map(name, module(at), key(&format!("{at}.{tensor}")), edit);
    let (patches, qkv, proj) = ("patch_embed.proj", "blocks.0.attn.qkv", "blocks.0.attn.proj");
    let table = |part: &str| key(&format!("blocks.0.attn.rel_pos_{part}"));
    let has_windows = facts.windows().is_some_and(|(count, _)| count > 1) || facts.sam_block(false) == Some(0);
    let mut all = vec![
        map("patch kernel: height and width exchanged", patches, "weight", middle_axes)
            .unless(facts.sam.as_ref().is_some_and(|sam| sam.patch_size == 1), "a patch is one pixel"),
        map("patch kernel: blue, green, red", patches, "weight", last_axis_reversed),
        map("patch bias dropped", patches, "bias", zeros),
        Mutant::map("SAM's position table transposed", module("blocks.0"), key("pos_embed"), middle_axes)
            .between("model.sam_model"),
        map("a square SAM weight transposed", proj, "weight", transposed),
        Mutant::exchange(
            "relative positions: height and width exchanged",
            module("blocks.0.attn"),
            vec![(table("h"), table("w"))],
        ),
        Mutant::map("relative positions off by one row", module("blocks.0.attn"), table("h"), rolled)
            .unless(!has_windows && facts.sam_grids.is_empty(), "no picture"),
        map("SAM's MLP bias dropped", "blocks.0.mlp.lin1", "bias", zeros),
        map("neck kernel: height and width exchanged", "neck.2", "weight", middle_axes),
        map("neck kernel turned by 180°: convolution for correlation", "neck.2", "weight", turned),
        map("strided kernel: height and width exchanged", "net_2", "weight", middle_axes),
    ];
    all.extend(packed(facts, "SAM", &module(qkv), &key(qkv)));
    all
}

fn clip(facts: &ModelShape) -> Vec<Mutant> {
    let layer = |name: &str| format!("model.vision_model.transformer.layers.0.{name}");
    let key = |name: &str| format!("vision_model.transformer.layers.0.{name}");
    let (embeddings, rows) = ("model.vision_model.embeddings", "vision_model.embeddings.position_embedding.weight");
    let norms = |part: &str| (key(&format!("layer_norm1.{part}")), key(&format!("layer_norm2.{part}")));
    let mut all = vec![
        Mutant::map("CLIP's position rows off by one", embeddings, rows, rolled),
        Mutant::map("the class token empty", embeddings, "vision_model.embeddings.class_embedding", zeros),
        Mutant::exchange("CLIP's two norms exchanged", layer("layer_norm1"), vec![norms("weight"), norms("bias")]),
        Mutant::map("CLIP's norm bias dropped", layer("layer_norm1"), key("layer_norm1.bias"), zeros),
        Mutant::map(
            "a square CLIP weight transposed",
            layer("self_attn.out_proj"),
            key("self_attn.out_proj.weight"),
            transposed,
        ),
        Mutant::map("CLIP's MLP bias dropped", layer("mlp.fc1"), key("mlp.fc1.bias"), zeros),
    ];
    all.extend(packed(facts, "CLIP", &layer("self_attn.qkv_proj"), &key("self_attn.qkv_proj")));
    all
}

/// The encoder of image tokens and queries.
fn encoder(config: &Qwen2Config) -> Vec<Mutant> {
    let module = |name: &str| format!("model.qwen2_model.model.model.layers.0.{name}");
    let key = |name: &str| format!("vision_model.qwen2_encoder.layers.0.{name}");
    let map = |name, at: &str, tensor: &str, edit| Mutant::map(name, module(at), key(&format!("{at}.{tensor}")), edit);
    let exchange = |name, planted_in: &str, a: &str, b: &str| {
        Mutant::exchange(name, module(planted_in), vec![(key(&format!("{a}.weight")), key(&format!("{b}.weight")))])
    };
    let grouped = config.kv_heads != config.heads;
    let bank = |name: &str| format!("vision_model.qwen2_encoder.{name}");
    vec![
        map("the encoder's query bias dropped", "self_attn.q_proj", "bias", zeros),
        map("the encoder's key bias dropped", "self_attn.k_proj", "bias", zeros),
        map("the encoder's value bias dropped", "self_attn.v_proj", "bias", zeros),
        map("a square encoder weight transposed", "self_attn.o_proj", "weight", transposed),
        exchange("the encoder's q and k exchanged", "self_attn.q_proj", "self_attn.q_proj", "self_attn.k_proj")
            .impossible_if(grouped, "keys have fewer heads than queries"),
        exchange("the encoder's k and v exchanged", "self_attn.k_proj", "self_attn.k_proj", "self_attn.v_proj"),
        exchange("the encoder's norms exchanged", "input_layernorm", "input_layernorm", "post_attention_layernorm"),
        exchange("the encoder's gate and up exchanged", "mlp", "mlp.gate_proj", "mlp.up_proj"),
        Mutant::new(
            "the queries' rows off by one",
            "model.qwen2_model",
            Fault::Weights(
                ["query_768", "query_1024"]
                    .map(|name| WeightEdit { key: bank(name), edit: Edit::Map(rolled) })
                    .to_vec(),
            ),
        ),
        Mutant::map(
            "the encoder's last norm plus one",
            "model.qwen2_model.model.model.norm",
            bank("norm.weight"),
            plus_one,
        ),
    ]
}

/// Query, key and value in the wrong order; in one tensor (`packed`), or beside it as `q_proj`, `k_proj`, `v_proj`.
fn packed(facts: &ModelShape, system: &str, module: &str, key: &str) -> Vec<Mutant> {
    type Map = fn(&Array) -> Result<Array>;
    let parent = key.rsplit_once('.').map_or("", |(parent, _)| parent).to_owned();
    let swap = |a: &str, b: &str, edit: Map| {
        let name = format!("{system}'s {a} and {b} exchanged");
        let tensor = |part: &str, of: &str| format!("{parent}.{part}_proj.{of}");
        if facts.is_split {
            let pairs = ["weight", "bias"].map(|of| (tensor(a, of), tensor(b, of)));
            return Mutant::exchange(&name, module, pairs.to_vec());
        }
        Mutant::new(&name, module, Fault::Weights(["weight", "bias"].map(|of| changed(key, of, edit)).to_vec()))
    };
    let biases = if facts.is_split {
        ["q", "k", "v"].map(|part| changed(&format!("{parent}.{part}_proj"), "bias", zeros)).to_vec()
    } else {
        vec![changed(key, "bias", zeros)]
    };
    let interleaved = Fault::Weights(["weight", "bias"].map(|of| changed(key, of, interleaved)).to_vec());
    vec![
        swap("q", "k", |x| thirds(x, [1, 0, 2])),
        swap("k", "v", |x| thirds(x, [0, 2, 1])),
        Mutant::new(&format!("{system}'s q, k, v read row by row in turn"), module, interleaved)
            .impossible_if(facts.is_split, SPLIT),
        Mutant::new(&format!("{system}'s q, k, v bias dropped"), module, Fault::Weights(biases)),
    ]
}

fn changed(key: &str, tensor: &str, edit: fn(&Array) -> Result<Array>) -> WeightEdit {
    WeightEdit { key: format!("{key}.{tensor}"), edit: Edit::Map(edit) }
}

/// The decoder.
pub(super) fn decoder(facts: &ModelShape) -> Vec<Mutant> {
    let Some(language) = &facts.language else { return Vec::new() };
    let module = |name: &str| format!("model.layers.0.{name}");
    let key = |name: &str| format!("language_model.model.layers.0.{name}.weight");
    let exchange = |name, at: &str, a: &str, b: &str| Mutant::exchange(name, module(at), vec![(key(a), key(b))]);
    let (embeddings, head) = ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight");
    let one_layer = language.num_hidden_layers < 2;
    let outputs = |layer: i32| format!("language_model.model.layers.{layer}.self_attn.o_proj.weight");
    let mut all = vec![
        Mutant::map("token rows off by one", "model.embed_tokens", embeddings, rolled),
        exchange("the decoder's q and k exchanged", "self_attn.q_proj", "self_attn.q_proj", "self_attn.k_proj")
            .impossible_if(facts.has_groups(), "keys have fewer heads than queries"),
        exchange("the decoder's k and v exchanged", "self_attn.k_proj", "self_attn.k_proj", "self_attn.v_proj"),
        Mutant::map(
            "a square decoder weight transposed",
            module("self_attn.o_proj"),
            key("self_attn.o_proj"),
            transposed,
        ),
        Mutant::map(
            "rotated rows of q in neighbours' order",
            module("self_attn.q_proj"),
            key("self_attn.q_proj"),
            interleaved_halves,
        ),
        exchange("the decoder's two norms exchanged", "input_layernorm", "input_layernorm", "post_attention_layernorm"),
        Mutant::map("norm weights plus one", module("input_layernorm"), key("input_layernorm"), plus_one),
        Mutant::exchange("two layers' outputs exchanged", module("self_attn.o_proj"), vec![(outputs(0), outputs(1))])
            .impossible_if(one_layer, "one layer"),
        Mutant::map("head rows off by one", "lm_head", head, rolled),
        Mutant::map("head rounded to four bits of mantissa", "lm_head", head, rounded),
    ];
    if let Some(layer) = facts.dense_layer() {
        let mlp = |name: &str| format!("language_model.model.layers.{layer}.mlp.{name}.weight");
        let pair = vec![(mlp("gate_proj"), mlp("up_proj"))];
        let at = format!("model.layers.{layer}.mlp");
        all.push(Mutant::exchange("the dense MLP's gate and up exchanged", at, pair));
    }
    all.extend(facts.moe_layer().into_iter().flat_map(|layer| experts(language, layer)));
    all
}

fn experts(language: &LanguageConfig, layer: i32) -> Vec<Mutant> {
    let module = format!("model.layers.{layer}.mlp");
    let key = |name: &str| format!("language_model.model.layers.{layer}.mlp.{name}.weight");
    let stack = |name: &str| key(&format!("switch_mlp.{name}"));
    let stacks = |names: &[&str], edit: fn(&Array) -> Result<Array>| {
        let faults = names.iter().map(|name| WeightEdit { key: stack(name), edit: Edit::Map(edit) });
        Fault::Weights(faults.collect())
    };
    let square = language.hidden_size == language.moe_intermediate_size;
    let shared = |name: &str| key(&format!("shared_experts.{name}"));
    vec![
        Mutant::new("two experts exchanged", &module, stacks(&["gate_proj", "up_proj", "down_proj"], first_two)),
        Mutant::new("two experts' down projections exchanged", &module, stacks(&["down_proj"], first_two)),
        Mutant::new("experts counted from one", &module, stacks(&["gate_proj", "up_proj", "down_proj"], rolled)),
        Mutant::exchange("experts' gate and up exchanged", &module, vec![(stack("gate_proj"), stack("up_proj"))]),
        Mutant::new("square expert weights transposed", &module, stacks(&["down_proj"], last_axes))
            .impossible_if(!square, "experts' weights are not square"),
        Mutant::map("the router's rows off by one", format!("{module}.gate"), key("gate"), rolled),
        Mutant::exchange(
            "shared experts' gate and up exchanged",
            format!("{module}.shared_experts"),
            vec![(shared("gate_proj"), shared("up_proj"))],
        )
        .impossible_if(language.n_shared_experts.unwrap_or(0) == 0, "no shared experts"),
    ]
}

fn zeros(x: &Array) -> Result<Array> {
    Ok(ops::zeros_like(x)?)
}

fn transposed(x: &Array) -> Result<Array> {
    Ok(x.t().contiguous()?)
}

/// [O, H, W, I] → [O, W, H, I].
fn middle_axes(x: &Array) -> Result<Array> {
    Ok(x.transpose_axes(&[0, 2, 1, 3])?.contiguous()?)
}

/// [E, O, I] → [E, I, O].
fn last_axes(x: &Array) -> Result<Array> {
    Ok(x.transpose_axes(&[0, 2, 1])?.contiguous()?)
}

fn taken(x: &Array, axis: i32, places: impl Iterator<Item = i32>) -> Result<Array> {
    let places: Vec<i32> = places.collect();
    Ok(x.take_axis(Array::from_slice(&places, &[places.len() as i32]), axis)?)
}

/// Every row one further, the last one first.
fn rolled(x: &Array) -> Result<Array> {
    let rows = x.dim(0);
    taken(x, 0, (0..rows).map(|row| (row + rows - 1) % rows))
}

fn last_axis_reversed(x: &Array) -> Result<Array> {
    taken(x, -1, (0..x.dim(-1)).rev())
}

/// Both axes of the kernel reversed.
fn turned(x: &Array) -> Result<Array> {
    taken(&taken(x, 1, (0..x.dim(1)).rev())?, 2, (0..x.dim(2)).rev())
}

/// The last axis' second half first.
fn half_turn(x: &Array) -> Result<Array> {
    let width = x.dim(-1);
    taken(x, -1, (0..width).map(|at| (at + width / 2) % width))
}

/// The first axis' thirds in another order.
fn thirds(x: &Array, order: [i32; 3]) -> Result<Array> {
    let third = x.dim(0) / 3;
    taken(x, 0, order.into_iter().flat_map(|part| (0..third).map(move |row| part * third + row)))
}

/// Rows of query, key and value in turn, as if the packed axis were [rows, 3] and not [3, rows].
fn interleaved(x: &Array) -> Result<Array> {
    let third = x.dim(0) / 3;
    taken(x, 0, (0..third).flat_map(|row| (0..3).map(move |part| part * third + row)))
}

/// Rows of the first and second half in turn: the order that pairs of neighbours want.
fn interleaved_halves(x: &Array) -> Result<Array> {
    let half = x.dim(0) / 2;
    taken(x, 0, (0..half).flat_map(|row| [row, half + row]).chain(2 * half..x.dim(0)))
}

fn first_two(x: &Array) -> Result<Array> {
    let first = [1, 0].into_iter().filter(|&at| at < x.dim(0));
    taken(x, 0, first.chain(2..x.dim(0)))
}

fn plus_one(x: &Array) -> Result<Array> {
    Ok(x.add(Array::from_f32(1.0).as_dtype(x.dtype())?)?)
}

/// What is left with four bits after the leading one: as 8-bit floats keep, and a little more.
fn rounded(x: &Array) -> Result<Array> {
    let wide = x.as_dtype(Dtype::Float32)?;
    // Adding and taking off 2²⁰-fold of itself leaves four bits of 24.
    let large = wide.multiply(Array::from_f32((1 << 19) as f32 + 1.0))?;
    Ok(large.subtract(large.subtract(&wide)?)?.as_dtype(x.dtype())?)
}
