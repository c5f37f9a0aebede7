//! The dense MLP, and each expert (`DeepseekV2MLP`).

use mlx_rs::{Array, ops::indexing::TryIndexOp};

use crate::{
    backend::{Matrix, fused, runtime},
    contract::{Module, Operation, Pass, Site, one},
    error::Result,
    fault::{GraphFault, Planted},
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
    planted: Planted,
}

impl Mlp {
    /// Loads the three projections.
    pub fn load(scope: &Scope, hidden: i32, inner: i32) -> Self {
        let linear = |name: &str, input, output| Linear::load(&scope.child(name), input, output, false);
        let (mut gate, mut up) = (linear("gate_proj", hidden, inner), linear("up_proj", hidden, inner));
        let gate_up = scope.fuse(&mut [gate.weight_mut(), up.weight_mut()]);
        Self { gate_up, ..Self::new(scope, gate, up, linear("down_proj", inner, hidden)) }
    }

    /// Makes one of projections that are loaded already (an expert's, cut from a stack).
    pub(crate) fn new(scope: &Scope, gate_proj: Linear, up_proj: Linear, down_proj: Linear) -> Self {
        let planted = scope.planted();
        let gelu = scope.planted().has(GraphFault::GeluForSilu);
        let function = if gelu { Operation::Gelu } else { Operation::Silu };
        let act_fn = Activation::new(&scope.child("act_fn"), function);
        Self { site: scope.site(), gate_proj, up_proj, down_proj, act_fn, gate_up: None, planted }
    }

    /// Applies it.
    ///
    /// # Errors
    /// When the last axis is not `hidden`.
    pub fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || {
            let is_heard = self.gate_proj.is_heard(pass) || self.up_proj.is_heard(pass);
            if let (Some(gate_up), false) = (&self.gate_up, is_heard) {
                return self.down_proj.forward(&gated(&self.act_fn, &gate_up.product(self.planted, x)?, pass)?, pass);
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

/// act(gate) · up, of both side by side: \[…, 2·inner\] → \[…, inner\].
pub(crate) fn gated(act_fn: &Activation, both: &Array, pass: &Pass) -> Result<Array> {
    let inner = both.dim(-1) / 2;
    let part = |range: std::ops::Range<i32>| both.try_index((mlx_rs::ops::indexing::Ellipsis, range));
    let (gate, up) = (part(0..inner)?, part(inner..2 * inner)?);
    if runtime::is_gpu() && act_fn.is_plain_silu(pass) {
        return fused::gated(&gate, &up);
    }
    Ok(act_fn.forward(&gate, pass)?.multiply(up)?)
}
