//! y = x Wᵀ + b.

use mlx_rs::Array;

use crate::{
    backend::{Matrix, Param},
    contract::{Module, Operation, Pass, Site, Step, TorchLayout, one},
    error::Result,
    loading::Scope,
};

/// y = x Wᵀ + b (`nn.Linear`): \[…, in\] → \[…, out\].
pub struct Linear {
    site: Site,
    weight: Matrix,
    bias: Option<Param>,
}

impl Linear {
    /// Loads `weight` \[out, in\] and, where `bias`, `bias` \[out\].
    pub fn load(scope: &Scope, input: i32, output: i32, bias: bool) -> Self {
        Self {
            site: scope.site(),
            weight: scope.projection(&[output, input]),
            bias: bias.then(|| scope.param("bias", &[output])),
        }
    }

    /// A layer without bias whose weight \[out, in\] is loaded already.
    pub fn new(scope: &Scope, weight: Matrix) -> Self {
        Self { site: scope.site(), weight, bias: None }
    }

    /// A layer whose weight \[out, in\] and bias \[out\] are loaded already.
    pub(crate) fn with_bias(scope: &Scope, weight: Matrix, bias: Param) -> Self {
        Self { site: scope.site(), weight, bias: Some(bias) }
    }

    /// Says how PyTorch lays out what goes in.
    #[must_use]
    pub(crate) fn with_input(mut self, input: TorchLayout) -> Self {
        self.site = self.site.with_layouts(input, TorchLayout::Same);
        self
    }

    /// Loads one packed projection, or its parts stored apart (`parts`), as one layer.
    pub fn load_packed(scope: &Scope, parts: Option<[&str; 3]>, input: i32, output: i32) -> Self {
        let Some(names) = parts else { return Self::load(scope, input, output, true) };
        let load = |name: &str, tensor: &str, shape: &[i32]| scope.sibling(name).param(tensor, shape);
        let weights = names.map(|n| load(n, "weight", &[output / 3, input]));
        let biases = names.map(|n| load(n, "bias", &[output / 3]));
        let join = |p: [Param; 3]| scope.join(&p.map(|p| p.stored().clone()));
        Self { site: scope.site(), weight: Matrix::Floats(join(weights)), bias: Some(join(biases)) }
    }

    /// Applies the layer.
    ///
    /// # Errors
    /// When the last axis is not `in`.
    pub fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || {
            self.site.step(pass, Step::Product { x, weight: &self.weight, bias: self.bias.as_ref() })
        })
    }

    /// The weight, to be joined with others'.
    pub(crate) fn weight_mut(&mut self) -> &mut Matrix {
        &mut self.weight
    }
}

impl Module for Linear {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        self.site.isolated(inputs, |x| self.forward(one(&self.site, x)?, pass))
    }

    fn operations(&self) -> Vec<Operation> {
        vec![Operation::Product { depth: self.weight.depth() }]
    }
}
