//! y = x Wᵀ + b.

use mlx_rs::{Array, ops};

use crate::{
    backend::{Matrix, Param},
    contract::{Module, Operation, Pass, Site, TorchLayout, one},
    error::Result,
    fault::Planted,
    loading::Scope,
};

/// y = x Wᵀ + b (`nn.Linear`): \[…, in\] → \[…, out\].
pub struct Linear {
    site: Site,
    weight: Matrix,
    bias: Option<Param>,
    planted: Planted,
}

impl Linear {
    /// Loads `weight` \[out, in\] and, where `bias`, `bias` \[out\].
    pub fn load(scope: &Scope, input: i32, output: i32, bias: bool) -> Self {
        Self {
            site: scope.site(),
            weight: scope.projection(&[output, input]),
            bias: bias.then(|| scope.param("bias", &[output])),
            planted: scope.planted(),
        }
    }

    /// A layer without bias whose weight \[out, in\] is loaded already.
    pub fn new(scope: &Scope, weight: Matrix) -> Self {
        Self { site: scope.site(), weight, bias: None, planted: scope.planted() }
    }

    /// A layer whose weight \[out, in\] and bias \[out\] are loaded already.
    pub fn with_bias(scope: &Scope, weight: Matrix, bias: Param) -> Self {
        Self { site: scope.site(), weight, bias: Some(bias), planted: scope.planted() }
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
        Self {
            site: scope.site(),
            weight: Matrix::Floats(join(weights)),
            bias: Some(join(biases)),
            planted: scope.planted(),
        }
    }

    /// Applies the layer.
    ///
    /// # Errors
    /// When the last axis is not `in`.
    pub fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || self.apply(x))
    }

    /// The weight, to be joined with others'.
    pub(crate) fn weight_mut(&mut self) -> &mut Matrix {
        &mut self.weight
    }

    /// Whether someone wants this layer's taps.
    pub(crate) fn is_heard(&self, pass: &Pass) -> bool {
        pass.listening(self.site.path())
    }

    /// Applies the transposed weight, which fits where it is square.
    fn apply_transposed(&self, x: &Array) -> Result<Array> {
        let y = ops::matmul(x, self.weight.floats(x.dtype())?)?;
        Ok(match &self.bias {
            Some(bias) => y.add(bias.to(x.dtype())?)?,
            None => y,
        })
    }

    fn apply(&self, x: &Array) -> Result<Array> {
        if let (Matrix::Floats(weight), Some(bias), true) = (&self.weight, &self.bias, self.planted.is_empty()) {
            // In one step, rounded once, as PyTorch's `addmm`.
            return Ok(ops::addmm(bias.to(x.dtype())?, x, weight.turned(x.dtype())?, 1.0, 1.0)?);
        }
        let y = self.weight.product(self.planted, x)?;
        Ok(match &self.bias {
            Some(bias) => y.add(bias.to(x.dtype())?)?,
            None => y,
        })
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

    fn alternatives(&self, inputs: &[Array]) -> Result<Vec<(String, Array)>> {
        if self.weight.rows() != self.weight.depth() {
            return Ok(Vec::new());
        }
        let transposed = self.site.isolated(inputs, |x| self.apply_transposed(one(&self.site, x)?))?;
        Ok(vec![("the weight is transposed".to_owned(), transposed)])
    }
}
