//! The router (`MoEGate` of `modeling_deepseekv2.py`).

use mlx_rs::{Array, Dtype, ops, ops::indexing::TryIndexOp};

use super::config::{LanguageConfig, ScoringFunc, TopkMethod};
use crate::{
    backend::{Param, kernels::scalar},
    contract::{Kind, Module, Operation, Pass, Site, one},
    error::Result,
    fault::{GraphFault, Planted, Variant},
    loading::Scope,
};

/// The router (`MoEGate`): \[1, T, hidden\] → expert numbers \[T, k\], in no order. Always float32.
pub struct MoeGate {
    site: Site,
    weight: Param,
    config: LanguageConfig,
    planted: Planted,
}

/// A router's outcome, all \[T, k\].
pub(super) struct Choice {
    /// The best experts by its own scores, int32.
    pub(super) own: Array,
    /// The experts to take: those, or the ones that the listener names.
    pub(super) indices: Array,
    /// How much each of them counts, float32.
    pub(super) weights: Array,
}

impl MoeGate {
    pub(super) fn load(scope: &Scope, config: &LanguageConfig) -> Self {
        let experts = config.n_routed_experts.unwrap_or(0);
        Self {
            site: scope.site(),
            weight: wide(scope.param("weight", &[experts, config.hidden_size])),
            config: config.clone(),
            planted: scope.planted(),
        }
    }

    pub(super) fn choose(&self, x: &Array, pass: &Pass) -> Result<Choice> {
        pass.show(self.site.path(), Kind::Input(0), || Ok(x.clone()))?;
        let rows = x.reshape(&[-1, x.dim(-1)])?.as_dtype(Dtype::Float32)?;
        let logits = self.logits(&rows)?;
        let scores = match self.config.scoring_func {
            ScoringFunc::Softmax if self.planted.by(Variant::RouterByExp) => {
                let powers = ops::exp(logits.subtract(logits.max_axis(-1, true)?)?)?;
                powers.divide(powers.sum_axis(-1, true)?)?
            }
            ScoringFunc::Softmax => ops::softmax_axis(&logits, -1, true)?,
            ScoringFunc::Sigmoid => ops::sigmoid(&logits)?,
        };
        pass.show(self.site.path(), Kind::Scores, || Ok(scores.clone()))?;
        let eligible = match self.config.topk_method {
            TopkMethod::Greedy => scores.clone(),
            TopkMethod::GroupLimitedGreedy => self.within_best_groups(&scores, pass)?,
        };
        let chosen = self.config.num_experts_per_tok.unwrap_or(1);
        let own = if self.planted.has(GraphFault::TopKSkipsBest) {
            let order = ops::argsort_axis(eligible.negative()?, -1)?;
            order.try_index((.., 1..=chosen))?.as_dtype(Dtype::Int32)?
        } else {
            best(&eligible, chosen)?
        };
        pass.show(self.site.path(), Kind::Output, || Ok(own.clone()))?;
        let (indices, mut weights) = match pass.routes(self.site.path(), &own)? {
            // Of all scores: groups that this run would leave out may be those that it must take.
            Some(given) => (given.clone(), scores.take_along_axis(given, -1)?),
            None => (own.clone(), eligible.take_along_axis(&own, -1)?),
        };
        if self.planted.has(GraphFault::SoftmaxAfterTopK) {
            weights = ops::softmax_axis(logits.take_along_axis(&indices, -1)?, -1, true)?;
        }
        if chosen > 1 && self.config.norm_topk_prob {
            let sum = weights.sum_axis(-1, true)?.add(scalar(1e-20, Dtype::Float32)?)?;
            weights = weights.divide(sum)?;
        }
        if self.config.routed_scaling_factor != 1.0 {
            weights = weights.multiply(scalar(self.config.routed_scaling_factor, Dtype::Float32)?)?;
        }
        Ok(Choice { own, indices, weights })
    }

    /// x Wᵀ in float32: \[T, experts\].
    fn logits(&self, rows: &Array) -> Result<Array> {
        if self.planted.has(GraphFault::RouterInBf16) {
            let low = |x: &Array| x.as_dtype(Dtype::Bfloat16);
            return Ok(ops::matmul(low(rows)?, low(&self.weight.to(Dtype::Float32)?)?.t())?.as_dtype(Dtype::Float32)?);
        }
        Ok(ops::matmul(rows, self.weight.turned(Dtype::Float32)?)?)
    }

    /// Scores with those outside the best `topk_group` groups set to 0; a group is as good as its best expert.
    fn within_best_groups(&self, scores: &Array, pass: &Pass) -> Result<Array> {
        let groups = self.config.n_group.unwrap_or(1);
        let kept = self.config.topk_group.unwrap_or(1);
        let (tokens, experts) = (scores.dim(0), scores.dim(1));
        let by_group = scores.reshape(&[tokens, groups, experts / groups])?;
        let bests = by_group.max_axis(-1, false)?;
        let kept = best(&bests, kept)?;
        // [T, kept, 1] against [1, 1, groups]: is this group among the kept ones?
        let numbers = Array::from_slice(&(0..groups).collect::<Vec<_>>(), &[1, 1, groups]);
        let mask = kept.expand_dims(-1)?.eq(numbers)?.any_axis(1, false)?;
        pass.show(self.site.path(), Kind::Groups, || Ok(ops::select(&mask, &bests, bests.negative()?)?))?;
        let masked = ops::select(mask.expand_dims(-1)?, by_group, scalar(0.0, Dtype::Float32)?)?;
        Ok(masked.reshape(&[tokens, experts])?)
    }
}

/// Places of the `k` largest along the last axis, in no order, int32.
fn best(scores: &Array, k: i32) -> Result<Array> {
    let order = ops::argpartition_axis(scores.negative()?, k - 1, -1)?;
    Ok(order.try_index((.., ..k))?.view_dtype(Dtype::Int32)?)
}

/// A router's weight in float32, in which it is used every time: small, and widened once.
fn wide(weight: Param) -> Param {
    weight.to(Dtype::Float32).map_or(weight, Param::new)
}

impl Module for MoeGate {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        Ok(self.choose(one(&self.site, inputs)?, pass)?.own)
    }

    fn operations(&self) -> Vec<Operation> {
        vec![Operation::Product { depth: self.config.hidden_size }]
    }
}
