//! Router, routed experts and shared experts (`MoEGate`, `DeepseekV2MoE` of `modeling_deepseekv2.py`).
//!
//! ```text
//! x [1, T, hidden] → rows [T, hidden]
//!   gate:    scores = softmax(x Wᵀ) in float32; the k best experts of each row and their weights
//!   experts: every expert gets the rows that chose it, in order; results × weight, summed per row
//!   + shared_experts(x)
//! ```

use std::cell::RefCell;

use mlx_rs::{Array, Dtype, ops, ops::indexing::TryIndexOp};

use super::{
    config::LanguageConfig,
    gate::{Choice, MoeGate},
    mlp::{Mlp, gated},
};
use crate::{
    backend::{Matrix, fused, lanes, runtime},
    contract::{Kind, Module, Operation, Pass, Site, one},
    error::Result,
    fault::{GraphFault, Planted, Variant},
    layers::Linear,
    loading::Scope,
};

/// From so many choices on, rows are sorted by expert before they are gathered.
const SORT_FROM: usize = 64;
/// The same of floats on CUDA, where sorted rows go to a kernel made for long runs of them: 192 choices (32 texts) take a third less time unsorted.
const SORT_FROM_ON_CUDA: usize = 256;

/// The experts' matrices, \[experts, out, in\] each.
struct Stacks {
    /// Gate and up as one, or each.
    first: (Matrix, Option<Matrix>),
    down_proj: Matrix,
    /// Whether experts are gathered from the stacks for prompts, too.
    always: bool,
}

/// The feed-forward part of a MoE layer: \[1, T, hidden\] → the same.
pub struct Moe {
    site: Site,
    gate: MoeGate,
    experts: Vec<Mlp>,
    /// All experts' matrices, which `experts` share.
    stacks: Stacks,
    shared_experts: Option<Mlp>,
    planted: Planted,
}

impl Moe {
    /// Loads the router, the stacks `switch_mlp.*` (cut into experts) and the shared experts.
    pub fn load(scope: &Scope, config: &LanguageConfig) -> Self {
        let (hidden, inner) = (config.hidden_size, config.moe_intermediate_size);
        let count = config.n_routed_experts.unwrap_or(0);
        let stack = |name: &str, output, input| scope.child("switch_mlp").child(name).matrix(&[count, output, input]);
        let (mut gate, mut up) = (stack("gate_proj", inner, hidden), stack("up_proj", inner, hidden));
        let (fused, down) = (scope.fuse(&mut [&mut gate, &mut up]), stack("down_proj", hidden, inner));
        let parts = (scope.split(&gate, count), scope.split(&up, count), scope.split(&down, count));
        let first = fused.map_or((gate, Some(up)), |both| (both, None));
        let expert = |(index, ((gate, up), down)): (usize, ((Matrix, Matrix), Matrix))| {
            let scope = scope.child(format!("experts.{index}"));
            let linear = |name: &str, weight| Linear::new(&scope.child(name), weight);
            Mlp::new(&scope, linear("gate_proj", gate), linear("up_proj", up), linear("down_proj", down))
        };
        let shared = config.n_shared_experts.filter(|&n| n > 0);
        Self {
            site: scope.site(),
            gate: MoeGate::load(&scope.child("gate"), config),
            experts: parts.0.into_iter().zip(parts.1).zip(parts.2).enumerate().map(expert).collect(),
            stacks: Stacks { first, down_proj: down, always: scope.fuses() },
            shared_experts: shared.map(|n| Mlp::load(&scope.child("shared_experts"), hidden, n * inner)),
            planted: scope.planted(),
        }
    }

    /// Applies router and experts.
    ///
    /// # Errors
    /// When the width does not fit.
    pub fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || {
            let Choice { indices, weights, .. } = self.gate.choose(x, pass)?;
            let gathers = self.gathers(x, &indices, pass);
            let shared = |x| self.shared_experts.as_ref().map(|shared| shared.forward(x, pass)).transpose();
            if gathers && self.planted.is_empty() && runtime::is_gpu() {
                let outputs = self.gathered(x, &indices, pass)?;
                let shared = shared(x)?.map(|y| y.reshape(&[indices.dim(0), x.dim(2)])).transpose()?;
                return Ok(fused::summed(&outputs, &weights, shared.as_ref())?.reshape(x.shape())?);
            }
            let routed = if gathers {
                let sum = weighted(&self.gathered(x, &indices, pass)?, &weights)?.sum_axis(1, false)?;
                sum.as_dtype(x.dtype())?.reshape(x.shape())?
            } else {
                self.routed(x, &indices, &weights, pass)?
            };
            // transformers has all experts in one module, which is given rows of tokens.
            let fused = self.site.path().to_owned() + ".experts";
            let rows = |x: &Array| -> Result<Array> { Ok(x.reshape(&[indices.dim(0), x.dim(2)])?) };
            pass.show(&fused, Kind::Input(0), || rows(x))?;
            pass.show(&fused, Kind::Output, || rows(&routed))?;
            Ok(match shared(x)? {
                Some(shared) if !self.planted.has(GraphFault::SharedExpertsMissing) => routed.add(shared)?,
                _ => routed,
            })
        })
    }

    /// Whether experts are gathered from their stacks: where that is faster and no one wants to see each.
    fn gathers(&self, x: &Array, indices: &Array, pass: &Pass) -> bool {
        let in_order =
            [GraphFault::GatesOnInput, GraphFault::ExpertsUnweighted].iter().any(|fault| self.planted.has(*fault));
        let is_heard = self.experts.iter().any(|expert| pass.listening(expert.site().path()));
        let is_small = indices.size() < self.sorts_from() && self.planted.variant().is_none();
        let is_ready = self.stacks.down_proj.is_ready_for(x.dtype());
        // MLX's gathered product of floats is float32 on a CPU.
        let is_there = runtime::is_gpu() || x.dtype() == Dtype::Float32 || self.stacks.down_proj.is_packed();
        is_there && !in_order && !is_heard && (self.stacks.always || (is_small && is_ready))
    }

    /// Every row by its experts' matrices, gathered, without the release's loop: \[T, k, hidden\].
    fn gathered(&self, x: &Array, indices: &Array, pass: &Pass) -> Result<Array> {
        let (tokens, chosen, hidden) = (indices.dim(0), indices.dim(1), x.dim(2));
        // int32 and never negative: the same bits.
        let experts = indices.view_dtype(Dtype::Uint32)?;
        let rows = x.reshape(&[tokens, 1, 1, hidden])?;
        let outputs = if experts.size() < self.sorts_from() {
            let (own, each) = row_numbers(tokens, chosen);
            self.by_stacks(&rows, &experts, Some([&own, &each]), pass)?
        } else {
            // Rows with the same expert side by side, so that each matrix is read once.
            let flat = experts.reshape(&[-1])?;
            let order = ops::argsort_axis(&flat, 0)?;
            let back = ops::argsort_axis(&order, 0)?;
            let tokens = ops::floor_divide(&order, Array::from_int(chosen).as_dtype(Dtype::Uint32)?)?;
            let sorted = rows.reshape(&[-1, 1, hidden])?.take_axis(tokens, 0)?;
            self.by_stacks(&sorted, &flat.take_axis(&order, 0)?, None, pass)?.take_axis(back, 0)?
        };
        Ok(outputs.reshape(&[tokens, chosen, hidden])?)
    }

    fn sorts_from(&self) -> usize {
        let is_cuda = cfg!(target_os = "linux") && runtime::is_gpu();
        if is_cuda && !self.stacks.down_proj.is_packed() { SORT_FROM_ON_CUDA } else { SORT_FROM }
    }

    /// `numbers`: which of `rows`, and then which of what came of them, meets each expert; none where they are sorted.
    fn by_stacks(&self, rows: &Array, experts: &Array, numbers: Option<[&Array; 2]>, pass: &Pass) -> Result<Array> {
        let Some(act_fn) = self.experts.first().map(Mlp::act_fn) else { return Ok(rows.clone()) };
        let (own, each) = numbers.map(|[own, each]| (own, each)).unzip();
        let first = self.stacks.first.0.gather(rows, experts, own)?;
        let inner = match &self.stacks.first.1 {
            None => gated(act_fn, &first, pass)?,
            Some(up) => act_fn.forward(&first, pass)?.multiply(up.gather(rows, experts, own)?)?,
        };
        self.stacks.down_proj.gather(&inner, experts, each)
    }

    /// Runs each expert on its rows and sums the weighted results (`moe_infer`).
    fn routed(&self, x: &Array, indices: &Array, weights: &Array, pass: &Pass) -> Result<Array> {
        let (tokens, chosen) = (indices.dim(0), indices.dim(1));
        let rows = x.reshape(&[tokens, x.dim(2)])?;
        let choices = indices.contiguous()?;
        let choices = choices.try_as_slice::<i32>()?;
        let mut outputs = Vec::new();
        // Where the result of choice (token, j) ends up among the experts' concatenated outputs.
        let mut places = vec![0i32; choices.len()];
        let mut next = 0;
        // Experts do not know of each other, and most of the work on a CPU is widening their weights.
        let down = &self.stacks.down_proj;
        let is_large = lanes::worthwhile(self.experts.len() * down.rows() as usize * down.depth() as usize);
        for (index, expert) in self.experts.iter().enumerate() {
            let slots = (0..choices.len()).filter(|&slot| choices[slot] == index as i32).collect::<Vec<_>>();
            if slots.is_empty() {
                continue;
            }
            let mine: Vec<i32> = slots.iter().map(|&slot| slot as i32 / chosen).collect();
            for &slot in &slots {
                places[slot] = next;
                next += 1;
            }
            let input = rows.take_axis(Array::from_slice(&mine, &[mine.len() as i32]), 0)?;
            let input = if self.planted.has(GraphFault::GatesOnInput) {
                let flat = weights.reshape(&[-1])?;
                let slots: Vec<i32> = slots.iter().map(|&slot| slot as i32).collect();
                let gates = flat.take_axis(Array::from_slice(&slots, &[slots.len() as i32]), 0)?;
                input.multiply(gates.expand_dims(-1)?.as_dtype(input.dtype())?)?
            } else {
                input
            };
            let run = || expert.forward(&input, pass);
            outputs.push(if is_large { lanes::on(index as i32, run) } else { run() }?);
        }
        let outputs = ops::concatenate(&outputs, 0)?;
        let outputs = outputs.take_axis(Array::from_slice(&places, &[tokens, chosen]), 0)?;
        let unweighted = self.planted.has(GraphFault::ExpertsUnweighted) || self.planted.has(GraphFault::GatesOnInput);
        let weighted = if unweighted { outputs.as_dtype(Dtype::Float32)? } else { weighted(&outputs, weights)? };
        if self.planted.by(Variant::ExpertsBackwards) {
            let each = (0..chosen).rev().map(|j| weighted.try_index((.., j)));
            let sum = each.reduce(|sum, next| sum?.add(next?)).transpose()?.unwrap_or(weighted);
            return Ok(sum.as_dtype(x.dtype())?.reshape(x.shape())?);
        }
        Ok(weighted.sum_axis(1, false)?.as_dtype(x.dtype())?.reshape(x.shape())?)
    }
}

/// For `tokens` rows with `chosen` experts each, \[tokens, chosen\] uint32: the token's own row, and a row for each choice. Kept from layer
/// to layer and step to step: MLX would make its own, in three kernels a layer.
fn row_numbers(tokens: i32, chosen: i32) -> (Array, Array) {
    thread_local! {
        static LAST: RefCell<Option<(Array, Array)>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| {
        let shape = [tokens, chosen];
        let made = last.take().filter(|(own, _)| own.shape() == shape).unwrap_or_else(|| {
            let numbers = |of: fn(u32, u32) -> u32| {
                let all = (0..(tokens * chosen).unsigned_abs()).map(|at| of(at, chosen.unsigned_abs()));
                Array::from_slice(&all.collect::<Vec<_>>(), &shape)
            };
            (numbers(|at, chosen| at / chosen), numbers(|at, _| at))
        });
        last.insert(made).clone()
    })
}

/// Results \[T, k, hidden\] times their weights \[T, k\]: the release sums in the router's float32 and rounds once.
fn weighted(outputs: &Array, weights: &Array) -> Result<Array> {
    Ok(outputs.as_dtype(Dtype::Float32)?.multiply(weights.expand_dims(-1)?)?)
}

impl Module for Moe {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        self.forward(one(&self.site, inputs)?, pass)
    }

    fn children(&self) -> Vec<&dyn Module> {
        let mut all: Vec<&dyn Module> = vec![&self.gate];
        all.extend(self.experts.iter().map(|e| e as &dyn Module));
        all.extend(self.shared_experts.iter().map(|s| s as &dyn Module));
        all
    }

    /// A token meets a few experts side by side, not all of them one after the other.
    fn chain(&self) -> Vec<Operation> {
        self.experts.first().map(|expert| expert.chain()).unwrap_or_default()
    }
}
