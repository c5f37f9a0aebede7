//! Router, routed experts and shared experts (`MoEGate`, `DeepseekV2MoE` of `modeling_deepseekv2.py`).
//!
//! ```text
//! x [1, T, hidden] → rows [T, hidden]
//!   gate:    scores = softmax(x Wᵀ) in float32; the k best experts of each row and their weights
//!   experts: every expert gets the rows that chose it, in order; results × weight, summed per row
//!   + shared_experts(x)
//! ```

use std::rc::Rc;

use mlx_rs::Array;

use super::{
    config::LanguageConfig,
    experts::Experts,
    gate::{Choice, MoeGate},
    mlp::Mlp,
};
use crate::{
    contract::{Module, Operation, Pass, Site, Step, one},
    error::Result,
    loading::Scope,
};

/// The feed-forward part of a MoE layer: \[1, T, hidden\] → the same.
pub struct Moe {
    site: Site,
    gate: Rc<MoeGate>,
    experts: Experts,
    shared_experts: Option<Mlp>,
}

impl Moe {
    /// Loads the router, the stacks `switch_mlp.*` (cut into experts) and the shared experts.
    pub fn load(scope: &Scope, config: &LanguageConfig) -> Self {
        let (hidden, inner) = (config.hidden_size, config.moe_intermediate_size);
        let shared = config.n_shared_experts.filter(|&n| n > 0);
        let gate = Rc::new(MoeGate::load(&scope.child("gate"), config));
        Self {
            site: scope.site(),
            experts: Experts::load(scope, config, &gate),
            gate,
            shared_experts: shared.map(|n| Mlp::load(&scope.child("shared_experts"), hidden, n * inner)),
        }
    }

    /// Applies router and experts.
    ///
    /// # Errors
    /// When the width does not fit.
    pub fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || {
            let Choice { indices, weights, .. } = self.gate.choose(x, pass)?;
            let (tokens, hidden) = (indices.dim(0), x.dim(2));
            let outputs = self.experts.outputs(x, (&indices, &weights), pass)?;
            let shared = self.shared_experts.as_ref().map(|shared| shared.forward(x, pass)).transpose()?;
            let shared = shared.map(|y| y.reshape(&[tokens, hidden])).transpose()?;
            let combined = Step::Combine { outputs: &outputs, weights: &weights, shared: shared.as_ref() };
            Ok(self.site.step(pass, combined)?.reshape(x.shape())?)
        })
    }
}

impl Module for Moe {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        self.forward(one(&self.site, inputs)?, pass)
    }

    fn children(&self) -> Vec<&dyn Module> {
        let mut all: Vec<&dyn Module> = vec![self.gate.as_ref()];
        all.extend(self.experts.as_listed());
        all.extend(self.shared_experts.iter().map(|s| s as &dyn Module));
        all
    }

    /// A token meets a few experts side by side, not all of them one after the other.
    fn chain(&self) -> Vec<Operation> {
        self.experts.chain()
    }
}
