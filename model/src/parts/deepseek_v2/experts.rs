//! The routed experts: each on the tokens that chose it, or all gathered from their stacks (`moe_infer` of `modeling_deepseekv2.py`,
//! `…TextExperts` of transformers).

use std::{cell::RefCell, rc::Rc};

use mlx_rs::{Array, Dtype, ops};

use super::{
    config::LanguageConfig,
    gate::{Choice, MoeGate},
    mlp::Mlp,
};
use crate::{
    backend::{Matrix, lanes, runtime},
    contract::{Kind, Module, Operation, Pass, Site, Step, one},
    error::Result,
    layers::{Activation, Linear},
    loading::{Class, Scope},
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

/// The experts of one layer. transformers has them in one module, which is given rows of tokens; the release has a module for each.
pub struct Experts {
    site: Site,
    /// The layer's, where their steps stand.
    layer: Site,
    gate: Rc<MoeGate>,
    each: Vec<Mlp>,
    /// All experts' matrices, which `each` share.
    stacks: Stacks,
    /// transformers' module between the projections, the same for all.
    act_fn: Option<Activation>,
}

impl Experts {
    /// Loads the stacks `switch_mlp.*` of the layer at `scope` and cuts them into experts.
    pub(super) fn load(scope: &Scope, config: &LanguageConfig, router: &Rc<MoeGate>) -> Self {
        let (hidden, inner) = (config.hidden_size, config.moe_intermediate_size);
        let count = config.n_routed_experts.unwrap_or(0);
        let stack = |name: &str, output, input| scope.child("switch_mlp").child(name).matrix(&[count, output, input]);
        let (mut gate, mut up) = (stack("gate_proj", inner, hidden), stack("up_proj", inner, hidden));
        let (joined, down) = (scope.join_matrices(&mut [&mut gate, &mut up]), stack("down_proj", hidden, inner));
        let parts = (scope.split(&gate, count), scope.split(&up, count), scope.split(&down, count));
        let first = joined.map_or((gate, Some(up)), |both| (both, None));
        let expert = |(index, ((gate, up), down)): (usize, ((Matrix, Matrix), Matrix))| {
            let scope = scope.child(format!("experts.{index}"));
            let linear = |name: &str, weight| Linear::new(&scope.child(name), weight);
            Mlp::new(&scope, linear("gate_proj", gate), linear("up_proj", up), linear("down_proj", down))
        };
        let own = scope.child("experts");
        let act_fn = || Activation::new(&own.child("act_fn"), Operation::Silu);
        Self {
            site: own.site(),
            layer: scope.site(),
            gate: Rc::clone(router),
            each: parts.0.into_iter().zip(parts.1).zip(parts.2).enumerate().map(expert).collect(),
            stacks: Stacks { first, down_proj: down, always: scope.joins_matrices() },
            act_fn: (scope.class() == Class::Transformers).then(act_fn),
        }
    }

    /// What each token's experts say of it: x \[1, T, hidden\] and choices \[T, k\] → \[T, k, hidden\].
    pub(super) fn outputs(&self, x: &Array, (indices, weights): (&Array, &Array), pass: &Pass) -> Result<Array> {
        let rows = || -> Result<Array> { Ok(x.reshape(&[indices.dim(0), x.dim(-1)])?) };
        pass.show(self.site.path(), Kind::Input(0), rows)?;
        let outputs = if self.gathers(x, indices, pass) {
            self.gathered(x, indices, pass)?
        } else {
            self.one_by_one(x, (indices, weights), pass)?
        };
        pass.show(self.site.path(), Kind::Output, || self.sum(&outputs, weights, pass))?;
        Ok(outputs)
    }

    /// The weighted sum of each token's experts, \[T, hidden\].
    fn sum(&self, outputs: &Array, weights: &Array, pass: &Pass) -> Result<Array> {
        self.layer.step(pass, Step::Combine { outputs, weights, shared: None })
    }

    /// As the layer's modules list them: one module, or each.
    pub(super) fn as_listed(&self) -> Vec<&dyn Module> {
        match self.act_fn {
            Some(_) => vec![self],
            None => self.each.iter().map(|expert| expert as &dyn Module).collect(),
        }
    }

    /// A token meets a few experts side by side, not all of them one after the other.
    pub(super) fn chain(&self) -> Vec<Operation> {
        self.each.first().map(Module::chain).unwrap_or_default()
    }

    /// Whether experts are gathered from their stacks: where that is faster and no one wants to see each.
    fn gathers(&self, x: &Array, indices: &Array, pass: &Pass) -> bool {
        let is_small = indices.size() < self.sorts_from();
        let is_ready = self.stacks.down_proj.is_ready_for(x.dtype());
        // MLX's gathered product of floats is float32 on a CPU.
        let is_there = runtime::is_gpu() || x.dtype() == Dtype::Float32 || self.stacks.down_proj.is_packed();
        pass.together() && is_there && (self.stacks.always || (is_small && is_ready))
    }

    /// Every row by its experts' matrices, gathered, without the release's loop: \[T, k, hidden\].
    fn gathered(&self, x: &Array, indices: &Array, pass: &Pass) -> Result<Array> {
        let (tokens, chosen, hidden) = (indices.dim(0), indices.dim(1), x.dim(-1));
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
        let Some(act_fn) = self.each.first().map(Mlp::act_fn) else { return Ok(rows.clone()) };
        let (own, each) = numbers.map(|[own, each]| (own, each)).unzip();
        let first = self.stacks.first.0.gather(rows, experts, own)?;
        let inner = match &self.stacks.first.1 {
            None => act_fn.gate(&first, pass)?,
            Some(up) => act_fn.forward(&first, pass)?.multiply(up.gather(rows, experts, own)?)?,
        };
        self.stacks.down_proj.gather(&inner, experts, each)
    }

    /// Each expert on its rows, one after the other (`moe_infer`): \[T, k, hidden\].
    fn one_by_one(&self, x: &Array, (indices, weights): (&Array, &Array), pass: &Pass) -> Result<Array> {
        let (tokens, chosen) = (indices.dim(0), indices.dim(1));
        let rows = x.reshape(&[tokens, x.dim(-1)])?;
        let choices = indices.contiguous()?;
        let choices = choices.try_as_slice::<i32>()?;
        let mut outputs = Vec::new();
        // Where the result of choice (token, j) ends up among the experts' concatenated outputs.
        let mut row_of_choice = vec![0i32; choices.len()];
        let mut next = 0;
        // Experts do not know of each other, and most of the work on a CPU is widening their weights.
        let down = &self.stacks.down_proj;
        let is_large = lanes::worthwhile(self.each.len() * down.rows() as usize * down.depth() as usize);
        for (index, expert) in self.each.iter().enumerate() {
            let slots: Vec<i32> =
                (0..).zip(choices).filter(|(_, c)| **c == index as i32).map(|(slot, _)| slot).collect();
            if slots.is_empty() {
                continue;
            }
            let mine: Vec<i32> = slots.iter().map(|slot| slot / chosen).collect();
            for &slot in &slots {
                row_of_choice[slot as usize] = next;
                next += 1;
            }
            let input = rows.take_axis(Array::from_slice(&mine, &[mine.len() as i32]), 0)?;
            let input = self.layer.step(pass, Step::Dispatch { rows: &input, weights, slots: &slots })?;
            let run = || expert.forward(&input, pass);
            outputs.push(if is_large { lanes::on(index as i32, run) } else { run() }?);
        }
        let outputs = ops::concatenate(&outputs, 0)?;
        Ok(outputs.take_axis(Array::from_slice(&row_of_choice, &[tokens, chosen]), 0)?)
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

impl Module for Experts {
    fn site(&self) -> &Site {
        &self.site
    }

    /// The weighted sum for rows of tokens \[T, hidden\], whose experts the layer's router chooses.
    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        let rows = one(&self.site, inputs)?;
        let x = rows.reshape(&[1, -1, rows.dim(-1)])?;
        let Choice { indices, weights, .. } = self.gate.choose(&x, pass)?;
        let outputs = self.one_by_one(&x, (&indices, &weights), pass)?;
        self.sum(&outputs, &weights, pass)
    }

    fn children(&self) -> Vec<&dyn Module> {
        self.act_fn.iter().map(|act_fn| act_fn as &dyn Module).collect()
    }

    fn chain(&self) -> Vec<Operation> {
        Self::chain(self)
    }
}
