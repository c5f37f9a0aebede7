//! The dense MLP, and each expert (`DeepseekV2MLP`).

use mlx_rs::Array;

use crate::{
    backend::Matrix,
    contract::{Module, Operation, Pass, Site, Step, one},
    error::Result,
    layers::{Activation, Linear},
    loading::Scope,
};

/// down_proj(silu(gate_proj(x)) · up_proj(x)) (`DeepseekV2MLP`): \[…, hidden\] → the same.
pub struct Mlp {
    site: Site,
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
    act_fn: Activation,
    /// Gate and up in one product, where weights are joined.
    gate_up: Option<Matrix>,
}

impl Mlp {
    /// Loads the three projections.
    pub fn load(scope: &Scope, hidden: i32, inner: i32) -> Self {
        let linear = |name: &str, input, output| Linear::load(&scope.child(name), input, output, false);
        let (mut gate, mut up) = (linear("gate_proj", hidden, inner), linear("up_proj", hidden, inner));
        let gate_up = scope.join_matrices(&mut [gate.weight_mut(), up.weight_mut()]);
        Self { gate_up, ..Self::new(scope, gate, up, linear("down_proj", inner, hidden)) }
    }

    /// Makes one of projections that are loaded already (an expert's, cut from a stack).
    pub(crate) fn new(scope: &Scope, gate_proj: Linear, up_proj: Linear, down_proj: Linear) -> Self {
        let act_fn = Activation::new(&scope.child("act_fn"), Operation::Silu);
        Self { site: scope.site(), gate_proj, up_proj, down_proj, act_fn, gate_up: None }
    }

    /// Applies it.
    ///
    /// # Errors
    /// When the last axis is not `hidden`.
    pub fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || {
            if let (Some(weight), true) = (&self.gate_up, pass.together()) {
                let both = self.site.step_named(pass, "gate_up", Step::Product { x, weight, bias: None })?;
                return self.down_proj.forward(&self.act_fn.gate(&both, pass)?, pass);
            }
            let gate = self.act_fn.forward(&self.gate_proj.forward(x, pass)?, pass)?;
            self.down_proj.forward(&gate.multiply(self.up_proj.forward(x, pass)?)?, pass)
        })
    }
}

impl Mlp {
    /// The function between its projections.
    pub(crate) fn act_fn(&self) -> &Activation {
        &self.act_fn
    }
}

impl Module for Mlp {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        self.forward(one(&self.site, inputs)?, pass)
    }

    fn children(&self) -> Vec<&dyn Module> {
        vec![&self.gate_proj, &self.act_fn, &self.up_proj, &self.down_proj]
    }
}
