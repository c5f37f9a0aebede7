//! The router (`MoEGate` of `modeling_deepseekv2.py`).

use mlx_rs::{Array, Dtype, ops};

use super::config::{LanguageConfig, TopkMethod};
use crate::{
    backend::{Matrix, Param, kernels::scalar},
    contract::{Kind, Module, Operation, Pass, Site, Step, one},
    error::Result,
    loading::Scope,
};

/// The router (`MoEGate`): \[1, T, hidden\] → expert numbers \[T, k\], in no order. Always float32.
pub struct MoeGate {
    site: Site,
    weight: Matrix,
    config: LanguageConfig,
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
        }
    }

    pub(super) fn choose(&self, x: &Array, pass: &Pass) -> Result<Choice> {
        pass.show(self.site.path(), Kind::Input(0), || Ok(x.clone()))?;
        let rows = x.reshape(&[-1, x.dim(-1)])?.as_dtype(Dtype::Float32)?;
        let logits = self.site.step(pass, Step::Product { x: &rows, weight: &self.weight, bias: None })?;
        let scores = self.site.step(pass, Step::Score { logits: &logits, function: self.config.scoring_func })?;
        pass.show(self.site.path(), Kind::Scores, || Ok(scores.clone()))?;
        let eligible = match self.config.topk_method {
            TopkMethod::Greedy => scores.clone(),
            TopkMethod::GroupLimitedGreedy => self.within_best_groups(&scores, pass)?,
        };
        let chosen = self.config.num_experts_per_tok.unwrap_or(1);
        let own = self.site.step(pass, Step::Choose { scores: &eligible, k: chosen })?;
        pass.show(self.site.path(), Kind::Output, || Ok(own.clone()))?;
        let given = pass.routes(self.site.path(), &own)?;
        // Of all scores: groups that this run would leave out may be those that it must take.
        let among = if given.is_some() { &scores } else { &eligible };
        let indices = given.unwrap_or_else(|| own.clone());
        let weigh = Step::Weigh { logits: &logits, scores: among, chosen: &indices };
        let mut weights = self.site.step(pass, weigh)?;
        if chosen > 1 && self.config.norm_topk_prob {
            let sum = weights.sum_axis(-1, true)?.add(scalar(1e-20, Dtype::Float32)?)?;
            weights = weights.divide(sum)?;
        }
        if self.config.routed_scaling_factor != 1.0 {
            weights = weights.multiply(scalar(self.config.routed_scaling_factor, Dtype::Float32)?)?;
        }
        Ok(Choice { own, indices, weights })
    }

    /// Scores with those outside the best `topk_group` groups set to 0; a group is as good as its best expert.
    fn within_best_groups(&self, scores: &Array, pass: &Pass) -> Result<Array> {
        let groups = self.config.n_group.unwrap_or(1);
        let kept = self.config.topk_group.unwrap_or(1);
        let (tokens, experts) = (scores.dim(0), scores.dim(1));
        let by_group = scores.reshape(&[tokens, groups, experts / groups])?;
        let bests = by_group.max_axis(-1, false)?;
        let kept = self.site.step_named(pass, "groups", Step::Choose { scores: &bests, k: kept })?;
        // [T, kept, 1] against [1, 1, groups]: is this group among the kept ones?
        let numbers = Array::from_slice(&(0..groups).collect::<Vec<_>>(), &[1, 1, groups]);
        let mask = kept.expand_dims(-1)?.eq(numbers)?.any_axis(1, false)?;
        pass.show(self.site.path(), Kind::Groups, || Ok(ops::select(&mask, &bests, bests.negative()?)?))?;
        let masked = ops::select(mask.expand_dims(-1)?, by_group, scalar(0.0, Dtype::Float32)?)?;
        Ok(masked.reshape(&[tokens, experts])?)
    }
}

/// A router's weight in float32, in which it is used every time: small, and widened once.
fn wide(weight: Param) -> Matrix {
    Matrix::Floats(weight.to(Dtype::Float32).map_or(weight, Param::new))
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
