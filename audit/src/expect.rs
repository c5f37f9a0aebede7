//! Where a target should come from, by its name: the release's tensors, their axes, their order. Content has to agree afterwards.

use mlxport_convert::checkpoint::{Checkpoint, TensorInfo, TensorSource};
use mlxport_convert::transforms::{Assembly, View};
use safetensors::Dtype;
use serde_json::Value;

use crate::axes::{is_convolution, orders};
use crate::names::{self, Lookup, Role};
use crate::recipes::Planned;
use crate::target::{Format, Target};

/// One run of a target's values and what it should be made of.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The first value in the target.
    pub first: u64,
    /// How many.
    pub len: u64,
    /// The release's values, in the target's order.
    pub assembly: Assembly,
    /// For codes that are moved as they are: the bytes of each key.
    pub raw: Option<Vec<Assembly>>,
    /// The release's keys.
    pub sources: Vec<String>,
    /// Which expert, where it is one of a stack.
    pub expert: Option<u64>,
}

/// A way a target could be made.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// All of the target, in order.
    pub pieces: Vec<Piece>,
    /// `same`, `moved`, `stacked`, `split`, `tied`, `computed`.
    pub how: &'static str,
    /// What is wrong where only this one holds.
    pub concern: Option<&'static str>,
    /// What the port adds to every value.
    pub shift: f32,
}

/// The release as expectations see it.
#[derive(Debug)]
pub struct Release<'a> {
    /// Its tensors.
    pub checkpoint: &'a Checkpoint,
    /// Its config.
    pub config: &'a Value,
    /// Its names.
    pub lookup: &'a Lookup,
    /// What a recipe says of it, where one fits.
    pub plan: Option<&'a Planned>,
}

/// Models whose loaders add one to these norms' weights, by model type. Answers to `sanitize` in mlx-lm 0.32.2.
const SHIFTED: &[(&str, &[&str])] = &[
    (
        "qwen3_next",
        &[
            ".input_layernorm.weight",
            ".post_attention_layernorm.weight",
            "model.norm.weight",
            ".q_norm.weight",
            ".k_norm.weight",
        ],
    ),
    (
        "qwen3_5",
        &[
            ".input_layernorm.weight",
            ".post_attention_layernorm.weight",
            "model.norm.weight",
            ".q_norm.weight",
            ".k_norm.weight",
        ],
    ),
    ("step3p5", &["norm.weight"]),
];

/// Modules that ports join, and of what.
const JOINED: &[(&str, &[&str])] = &[
    ("qkv", &["q_proj", "k_proj", "v_proj"]),
    ("qkv_proj", &["q_proj", "k_proj", "v_proj"]),
    ("gate_up_proj", &["gate_proj", "up_proj"]),
];

impl Release<'_> {
    fn info(&self, key: &str) -> Option<&TensorInfo> {
        self.checkpoint.tensors().get(key)
    }

    /// The whole of a tensor.
    pub fn whole(&self, key: &str) -> Option<View> {
        let info = self.info(key)?;
        Some(View::stored(key, info.dtype, &info.shape, &info.strides))
    }

    /// The model type, of the text part where the config has parts.
    pub fn model_type(&self) -> &str {
        self.config.get("model_type").and_then(Value::as_str).unwrap_or("")
    }

    fn number(&self, name: &str) -> Option<u64> {
        let inside = self.config.get("text_config").and_then(|text| text.get(name));
        self.config.get(name).or(inside).and_then(Value::as_u64)
    }

    /// Every way a target could be made that its name allows, the likeliest first.
    pub fn expectations(&self, target: &Target) -> Vec<Expectation> {
        let mut all = Vec::new();
        all.extend(self.planned(target));
        for key in self.lookup.find(&target.name) {
            all.extend(self.of_one(target, key));
        }
        all.extend(self.stacked(target));
        all.extend(self.joined(target));
        all.extend(self.parts_of_fused(target));
        all.extend(self.latent(target));
        all.extend(self.moved_codes(target));
        if all.is_empty() && names::is_head(&target.name) {
            for key in self.checkpoint.tensors().keys().filter(|key| names::is_embedding(key)) {
                all.extend(self.of_one(target, key).into_iter().map(|way| Expectation { how: "tied", ..way }));
            }
        }
        let shift = self.shift(&target.name);
        for way in &mut all {
            way.shift = shift;
        }
        all
    }

    /// As the recipe says.
    fn planned(&self, target: &Target) -> Option<Expectation> {
        let (shape, assembly, keys) = self.plan?.outputs.get(&target.name)?;
        if shape != &target.shape {
            return None;
        }
        let simple = keys.len() == 1 && assembly.views.len() == 1;
        let how = match keys.len() {
            1 if simple && self.whole(&keys[0]).is_some_and(|view| view == assembly.views[0]) => "same",
            1 => "moved",
            _ if expert_bank(&target.name).is_some() => "stacked",
            _ => "joined",
        };
        let pieces = if keys.len() > 1 && keys.len() == assembly.views.len() && assembly.interleave == 1 {
            one_after_another(target, assembly, keys)
        } else {
            let mut piece = piece(0, target.len(), assembly.clone(), keys.first()?);
            piece.sources.clone_from(keys);
            vec![piece]
        };
        Some(Expectation { pieces, how, concern: None, shift: 0.0 })
    }

    /// What the port adds to this tensor.
    fn shift(&self, name: &str) -> f32 {
        let kind = self.model_type();
        let inside = self.config.pointer("/text_config/model_type").and_then(Value::as_str).unwrap_or("");
        let shifted = SHIFTED.iter().any(|(model, ends)| {
            (kind.starts_with(model) || inside.starts_with(model)) && ends.iter().any(|end| name.ends_with(end))
        });
        if shifted && !name.contains("visual") && !name.contains("vision") { 1.0 } else { 0.0 }
    }

    /// From one tensor: as it is, with its axes in another order, or in another shape.
    fn of_one(&self, target: &Target, key: &str) -> Vec<Expectation> {
        let (Some(view), Some(info)) = (self.whole(key), self.info(key)) else { return Vec::new() };
        let whole = |view: View, how, concern| Expectation {
            pieces: vec![piece(0, target.len(), Assembly::of(view), key)],
            how,
            concern,
            shift: 0.0,
        };
        let mut all = Vec::new();
        let shape = &info.shape;
        let conv = is_convolution(key, shape);
        let turned = self.stores_inputs_first(key) && shape.len() == 2;
        if shape == &target.shape && !conv && !turned {
            all.push(whole(view.clone(), "same", None));
        }
        for (order, usual) in orders(shape.len(), conv) {
            let moved: Vec<u64> = order.iter().map(|&axis| shape[axis]).collect();
            if moved != target.shape || shape.len() < 2 {
                continue;
            }
            let square = shape == &target.shape && !conv;
            let concern = match (usual || turned, square) {
                (false, _) if conv => Some("conv-axes"),
                (_, true) if !turned => Some("transposed"),
                _ => None,
            };
            all.push(whole(view.clone().permuted(&order), "moved", concern));
        }
        if shape == &target.shape && (conv || turned) {
            let concern = if conv { "conv-not-transposed" } else { "transposed" };
            all.push(whole(view.clone(), "same", Some(concern)));
        }
        let counts = shape.iter().product::<u64>() == target.len();
        if all.is_empty() && counts {
            let squeezed = |shape: &[u64]| shape.iter().copied().filter(|&n| n != 1).collect::<Vec<_>>();
            let concern = (squeezed(shape) != squeezed(&target.shape)).then_some("reshaped");
            all.push(whole(view, "moved", concern));
        }
        all
    }

    /// GPT-2's `Conv1D` stores `[inputs, outputs]`; ports' linear layers the other way round.
    fn stores_inputs_first(&self, key: &str) -> bool {
        let names = ["c_attn.weight", "c_fc.weight", "c_proj.weight"];
        self.model_type() == "gpt2" && names.iter().any(|name| key.ends_with(name))
    }

    /// From a tensor per expert.
    fn stacked(&self, target: &Target) -> Option<Expectation> {
        let (parent, last) = expert_bank(&target.name)?;
        let count = *target.shape.first().filter(|_| target.shape.len() >= 2)?;
        let first = self.lookup.find(&format!("{parent}.experts.0.{last}")).first().map(|key| (*key).to_owned())?;
        let at = first.find(".experts.0.")?;
        let (before, after) = (&first[..at], &first[at + ".experts.0.".len()..]);
        let len = target.len() / count.max(1);
        let mut pieces = Vec::new();
        for expert in 0..count {
            let key = format!("{before}.experts.{expert}.{after}");
            let view = self.whole(&key).filter(|view| view.len() == len)?;
            let mut piece = piece(expert * len, len, Assembly::of(view), &key);
            piece.expert = Some(expert);
            pieces.push(piece);
        }
        Some(Expectation { pieces, how: "stacked", concern: None, shift: 0.0 })
    }

    /// From tensors that the port joins, one after another.
    fn joined(&self, target: &Target) -> Option<Expectation> {
        let (before, parts, after) = JOINED.iter().find_map(|(joint, parts)| {
            let (before, after) = target.name.split_once(&format!(".{joint}."))?;
            Some((before, *parts, after))
        })?;
        let (mut pieces, mut first) = (Vec::new(), 0);
        for part in parts {
            let key = self.lookup.find(&format!("{before}.{part}.{after}")).first().map(|key| (*key).to_owned())?;
            self.info(&key).filter(|info| info.shape.get(1..) == target.shape.get(1..))?;
            let view = self.whole(&key)?;
            let len = view.len();
            pieces.push(piece(first, len, Assembly::of(view), &key));
            first += len;
        }
        (first == target.len()).then_some(Expectation { pieces, how: "joined", concern: None, shift: 0.0 })
    }

    /// From experts whose gate and up projections lie in one tensor: `[E, 2·F, D]`, or `[E, D, 2·F]`.
    fn parts_of_fused(&self, target: &Target) -> Vec<Expectation> {
        let Some((parent, last)) = expert_bank(&target.name) else { return Vec::new() };
        let half = match names::role(&target.name) {
            Role::Gate => 0,
            Role::Up => 1,
            _ => return Vec::new(),
        };
        let end = if last.ends_with("bias") { "gate_up_proj_bias" } else { "gate_up_proj" };
        let mut all = Vec::new();
        for key in self.lookup.find(&format!("{parent}.experts.{end}")) {
            let (Some(view), Some(info)) = (self.whole(key), self.info(key)) else { continue };
            let (shape, to) = (&info.shape, &target.shape);
            let way = |view: View, concern| Expectation {
                pieces: vec![piece(0, target.len(), Assembly::of(view), key)],
                how: "split",
                concern,
                shift: 0.0,
            };
            if shape.len() == 3 && to.len() == 3 && shape[0] == to[0] {
                let (rows, columns) = (to[1], to[2]);
                if shape[1..] == [2 * rows, columns] {
                    all.push(way(view.clone().narrowed(1, half * rows, rows), None));
                }
                if shape[1..] == [columns, 2 * rows] {
                    all.push(way(view.narrowed(2, half * rows, rows).permuted(&[0, 2, 1]), None));
                }
            } else if shape.len() == 2 && to.len() == 2 && shape[..] == [to[0], 2 * to[1]] {
                let pairs = view.reshaped(&[to[0], to[1], 2]).map(|view| view.narrowed(2, half, 1));
                all.extend(pairs.map(|view| way(view, None)));
            }
        }
        all
    }

    /// Multi-head latent attention: `kv_b_proj` `[H·(nope + v), L]` becomes `embed_q` `[H, L, nope]` and `unembed_out` `[H, v, L]`.
    fn latent(&self, target: &Target) -> Option<Expectation> {
        let place = names::module(&target.name);
        let (parent, last) = place.rsplit_once('.')?;
        if !matches!(last, "embed_q" | "unembed_out") || target.shape.len() != 3 {
            return None;
        }
        let key = self.lookup.find(&format!("{parent}.kv_b_proj.weight")).first().map(|key| (*key).to_owned())?;
        let (nope, value) = (self.number("qk_nope_head_dim")?, self.number("v_head_dim")?);
        let (heads, rank) = (target.shape[0], if last == "embed_q" { target.shape[1] } else { target.shape[2] });
        let view = self.whole(&key)?.reshaped(&[heads, nope + value, rank])?;
        let view = match last {
            "embed_q" => view.narrowed(1, 0, nope).permuted(&[0, 2, 1]),
            _ => view.narrowed(1, nope, value),
        };
        let fits = view.len() == target.len();
        let pieces = vec![piece(0, target.len(), Assembly::of(view), &key)];
        fits.then_some(Expectation { pieces, how: "computed", concern: None, shift: 0.0 })
    }

    /// Codes that a release has packed already (`…_blocks`, `…_scales`): MLX takes the same bytes.
    fn moved_codes(&self, target: &Target) -> Option<Expectation> {
        let Format::Packed { .. } = target.format else { return None };
        let (parent, last) = expert_bank(&target.name)?;
        let role = names::role(&target.name);
        let fused = matches!(role, Role::Gate | Role::Up);
        let stem = if fused { "gate_up_proj" } else { last.strip_suffix(".weight")? };
        let mut raw = Vec::new();
        let mut sources = Vec::new();
        for end in ["blocks", "scales"] {
            let key =
                self.lookup.find(&format!("{parent}.experts.{stem}_{end}")).first().map(|key| (*key).to_owned())?;
            let info = self.info(&key).filter(|info| info.dtype == Dtype::U8)?;
            let (experts, rows) = (info.shape[0], info.shape.get(1).copied()?);
            let bytes = info.shape[2..].iter().product::<u64>();
            let view = self.whole(&key)?;
            let view = if fused {
                view.reshaped(&[experts, rows / 2, 2, bytes])?.narrowed(2, u64::from(role == Role::Up), 1)
            } else {
                view
            };
            raw.push(Assembly::of(view));
            sources.push(key);
        }
        let mut piece = piece(0, target.len(), raw[0].clone(), &sources[0]);
        piece.raw = Some(raw);
        piece.sources = sources;
        Some(Expectation { pieces: vec![piece], how: "moved", concern: None, shift: 0.0 })
    }
}

fn piece(first: u64, len: u64, assembly: Assembly, key: &str) -> Piece {
    Piece { first, len, assembly, raw: None, sources: vec![key.to_owned()], expert: None }
}

/// A piece for each key, where a target holds them one after another: what is wrong with one says nothing of the others.
fn one_after_another(target: &Target, assembly: &Assembly, keys: &[String]) -> Vec<Piece> {
    let stacked = expert_bank(&target.name).is_some() && target.shape.first() == Some(&(keys.len() as u64));
    let mut first = 0;
    let mut pieces = Vec::new();
    for (at, (view, key)) in assembly.views.iter().zip(keys).enumerate() {
        let len = view.len();
        let one = Assembly { views: vec![view.clone()], ..assembly.clone() };
        pieces.push(Piece { expert: stacked.then_some(at as u64), ..piece(first, len, one, key) });
        first += len;
    }
    pieces
}

/// Of an expert bank's key: what stands before the bank, and the rest of the name.
fn expert_bank(name: &str) -> Option<(&str, &str)> {
    ["switch_mlp", "switch_glu", "experts"].iter().find_map(|bank| {
        let (before, after) = name.split_once(&format!(".{bank}."))?;
        let first = after.split('.').next()?;
        (!names::is_number(first)).then_some((before, after))
    })
}
