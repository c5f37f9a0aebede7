//! An activation function that PyTorch has as a module.

use mlx_rs::Array;

use crate::{
    contract::{Module, Operation, Pass, Site, Step, one},
    error::Result,
    loading::Scope,
};

/// An activation function that PyTorch has as a module.
pub struct Activation {
    site: Site,
    function: Operation,
}

impl Activation {
    /// `function` must be one of the activations of [`Operation`].
    pub fn new(scope: &Scope, function: Operation) -> Self {
        Self { site: scope.site(), function }
    }

    /// Applies it element by element.
    ///
    /// # Errors
    /// MLX's.
    pub fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || self.site.step(pass, Step::Activate { x, function: self.function }))
    }

    /// act(gate) · up, of both side by side: \[…, 2·inner\] → \[…, inner\]. PyTorch has no such module: only where no one listens.
    ///
    /// # Errors
    /// MLX's.
    pub fn gate(&self, both: &Array, pass: &Pass) -> Result<Array> {
        self.site.step(pass, Step::Gate { both, function: self.function })
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
}
