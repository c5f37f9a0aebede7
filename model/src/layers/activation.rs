//! Activation functions, exact as PyTorch's.

use mlx_rs::{Array, ops};

use crate::{
    backend::{
        functions::{gelu, gelu_tanh, quick_gelu, silu},
        fused,
        kernels::scalar,
        lanes, runtime,
    },
    contract::{Module, Operation, Pass, Site, one},
    error::Result,
    fault::{Planted, Variant},
    loading::Scope,
};

/// An activation function that PyTorch has as a module.
pub struct Activation {
    site: Site,
    function: Operation,
    planted: Planted,
}

impl Activation {
    /// `function` must be one of the activations of [`Operation`].
    pub fn new(scope: &Scope, function: Operation) -> Self {
        Self { site: scope.site(), function, planted: scope.planted() }
    }

    /// Whether it is SiLU with nothing planted and no one listening.
    pub(crate) fn is_plain_silu(&self, pass: &Pass) -> bool {
        self.function == Operation::Silu && self.planted.is_empty() && !pass.listening(self.site.path())
    }

    /// Applies it element by element.
    ///
    /// # Errors
    /// MLX's.
    pub fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || lanes::by_rows(x, |x| activate(self.planted, self.function, x)))
    }
}

impl Module for Activation {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        self.forward(one(&self.site, inputs)?, pass)
    }

    fn operations(&self) -> Vec<Operation> {
        vec![self.function]
    }

    fn alternatives(&self, inputs: &[Array]) -> Result<Vec<(String, Array)>> {
        let x = one(&self.site, inputs)?;
        other_activations(self.function, |function| activate(self.planted, function, x))
    }
}

/// What a module would have returned with each of the other activations.
pub(crate) fn other_activations(
    own: Operation,
    apply: impl Fn(Operation) -> Result<Array>,
) -> Result<Vec<(String, Array)>> {
    let all = [Operation::Gelu, Operation::GeluTanh, Operation::QuickGelu, Operation::Silu];
    let others = all.into_iter().filter(|other| *other != own);
    others.map(|other| Ok((format!("the activation is {own:?} and should be {other:?}"), apply(other)?))).collect()
}

/// Applies one of the activations of [`Operation`], element by element.
pub(crate) fn activate(planted: Planted, function: Operation, x: &Array) -> Result<Array> {
    match function {
        Operation::Gelu if planted.by(Variant::GeluByComplement) => gelu_by_complement(x),
        Operation::QuickGelu if planted.by(Variant::SigmoidByExp) => by_exp(x, 1.702),
        Operation::Silu if planted.by(Variant::SigmoidByExp) => by_exp(x, 1.0),
        Operation::Gelu if planted.is_empty() && runtime::is_gpu() => fused::gelu(x),
        Operation::QuickGelu if planted.is_empty() && runtime::is_gpu() => fused::quick_gelu(x),
        Operation::Gelu => gelu(x),
        Operation::GeluTanh => gelu_tanh(x),
        Operation::QuickGelu => quick_gelu(x),
        _ => silu(x),
    }
}

/// x − x·Φ(−x), which is x·Φ(x).
fn gelu_by_complement(x: &Array) -> Result<Array> {
    let opposite = gelu(&x.negative()?)?;
    // -x·Φ(-x) was made of the opposite: x + that.
    Ok(x.add(opposite)?)
}

/// x / (1 + exp(-factor·x)).
fn by_exp(x: &Array, factor: f32) -> Result<Array> {
    let power = ops::exp(x.multiply(scalar(-factor, x.dtype())?)?)?;
    Ok(x.divide(power.add(scalar(1.0, x.dtype())?)?)?)
}
