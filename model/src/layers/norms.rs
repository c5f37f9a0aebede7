//! LayerNorm and RMSNorm over the last axis.

use mlx_rs::{Array, ops};

use crate::{
    backend::{Param, kernels},
    contract::{Module, Operation, Pass, Site, TorchLayout, one},
    error::Result,
    fault::{GraphFault, Planted},
    loading::Scope,
};

/// Normalizes the last axis (`nn.LayerNorm`): \[…, C\] → \[…, C\].
pub struct LayerNorm {
    site: Site,
    weight: Param,
    bias: Param,
    eps: f32,
    /// SAM's `LayerNorm2d`.
    is_2d: bool,
    /// Places of the unfold that it follows, where it does.
    places: Option<i32>,
    planted: Planted,
}

impl LayerNorm {
    /// Loads `weight` and `bias`, both \[width\].
    pub fn load(scope: &Scope, width: i32, eps: f32) -> Self {
        Self {
            site: scope.site(),
            weight: scope.param("weight", &[width]),
            bias: scope.param("bias", &[width]),
            eps,
            is_2d: false,
            places: None,
            planted: scope.planted(),
        }
    }

    /// SAM's `LayerNorm2d`: the same over channels, which PyTorch keeps first.
    pub fn load_2d(scope: &Scope, channels: i32, eps: f32) -> Self {
        let mut norm = Self::load(scope, channels, eps);
        norm.site = norm.site.with_layouts(TorchLayout::Nchw, TorchLayout::Nchw);
        norm.is_2d = true;
        norm
    }

    /// Says that it follows an unfold of so many places, and how PyTorch lays that out.
    #[must_use]
    pub(crate) fn behind_unfold(mut self, places: i32, layout: TorchLayout) -> Self {
        (self.site, self.places) = (self.site.with_layouts(layout, layout), Some(places));
        self
    }

    /// Applies the layer.
    ///
    /// # Errors
    /// When the last axis is not `C`.
    pub fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || self.apply(x))
    }

    fn apply(&self, x: &Array) -> Result<Array> {
        self.apply_with(x, self.eps)
    }

    fn apply_with(&self, x: &Array, eps: f32) -> Result<Array> {
        let (weight, bias) = (self.weight.to(x.dtype())?, self.bias.to(x.dtype())?);
        if self.planted.has(GraphFault::Norm2dPerImage) && x.ndim() == 4 && self.is_2d {
            return per_image(x, &weight, &bias, eps);
        }
        match self.places {
            Some(places) => kernels::layer_norm_in_groups(x, &weight, &bias, eps, places),
            None => kernels::layer_norm(self.planted, x, &weight, &bias, eps),
        }
    }
}

impl Module for LayerNorm {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        self.site.isolated(inputs, |x| self.forward(one(&self.site, x)?, pass))
    }

    fn operations(&self) -> Vec<Operation> {
        vec![Operation::LayerNorm { width: self.weight.stored().dim(0) }]
    }

    fn alternatives(&self, inputs: &[Array]) -> Result<Vec<(String, Array)>> {
        other_epsilons(self.eps, |eps| self.site.isolated(inputs, |x| self.apply_with(one(&self.site, x)?, eps)))
    }
}

/// What a norm would have returned with the epsilons that models have.
fn other_epsilons(own: f32, apply: impl Fn(f32) -> Result<Array>) -> Result<Vec<(String, Array)>> {
    let others = [1e-12, 1e-8, 1e-7, 1e-6, 1e-5, 1e-3].into_iter().filter(|&eps| (eps / own - 1.0).abs() > 1e-3);
    others.map(|eps| Ok((format!("epsilon is {own:e} and should be {eps:e}"), apply(eps)?))).collect()
}

/// A planted fault's: each channel normalized over the image, not each place over its channels.
fn per_image(x: &Array, weight: &Array, bias: &Array, eps: f32) -> Result<Array> {
    let centred = x.subtract(x.mean_axes(&[1, 2], true)?)?;
    let variance = centred.multiply(&centred)?.mean_axes(&[1, 2], true)?;
    let scale = ops::sqrt(variance.add(kernels::scalar(eps, x.dtype())?)?)?;
    Ok(centred.divide(scale)?.multiply(weight)?.add(bias)?)
}

/// x ÷ rms(x) · w over the last axis (`DeepseekV2RMSNorm`).
pub struct RmsNorm {
    site: Site,
    weight: Param,
    eps: f32,
    planted: Planted,
}

impl RmsNorm {
    /// Loads `weight` \[width\].
    pub fn load(scope: &Scope, width: i32, eps: f32) -> Self {
        Self { site: scope.site(), weight: scope.param("weight", &[width]), eps, planted: scope.planted() }
    }

    /// Applies the layer.
    ///
    /// # Errors
    /// When the last axis is not `width`.
    pub fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || self.apply(x))
    }

    fn apply(&self, x: &Array) -> Result<Array> {
        kernels::rms_norm(self.planted, x, &self.weight.to(x.dtype())?, self.eps)
    }
}

impl Module for RmsNorm {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        self.forward(one(&self.site, inputs)?, pass)
    }

    fn operations(&self) -> Vec<Operation> {
        vec![Operation::RmsNorm { width: self.weight.stored().dim(0) }]
    }

    fn alternatives(&self, inputs: &[Array]) -> Result<Vec<(String, Array)>> {
        let x = one(&self.site, inputs)?;
        let weight = self.weight.to(x.dtype())?;
        other_epsilons(self.eps, |eps| kernels::rms_norm(self.planted, x, &weight, eps))
    }
}
