//! LayerNorm and RMSNorm over the last axis.

use mlx_rs::Array;

use crate::{
    backend::Param,
    contract::{Module, Operation, Pass, Site, Step, TorchLayout, one},
    error::Result,
    loading::Scope,
};

/// Normalizes the last axis (`nn.LayerNorm`): \[…, C\] → \[…, C\].
pub struct LayerNorm {
    site: Site,
    weight: Param,
    bias: Param,
    eps: f32,
    /// Places of the unfold that it follows, where it does.
    kernel_area: Option<i32>,
}

impl LayerNorm {
    /// Loads `weight` and `bias`, both \[width\].
    pub fn load(scope: &Scope, width: i32, eps: f32) -> Self {
        Self {
            site: scope.site(),
            weight: scope.param("weight", &[width]),
            bias: scope.param("bias", &[width]),
            eps,
            kernel_area: None,
        }
    }

    /// SAM's `LayerNorm2d`: the same over channels, which PyTorch keeps first.
    pub fn load_2d(scope: &Scope, channels: i32, eps: f32) -> Self {
        let mut norm = Self::load(scope, channels, eps);
        norm.site = norm.site.with_layouts(TorchLayout::Nchw, TorchLayout::Nchw);
        norm
    }

    /// Says that it follows an unfold whose kernel has that area, and how PyTorch lays that out.
    #[must_use]
    pub(crate) fn behind_unfold(mut self, kernel_area: i32, layout: TorchLayout) -> Self {
        (self.site, self.kernel_area) = (self.site.with_layouts(layout, layout), Some(kernel_area));
        self
    }

    /// Applies the layer.
    ///
    /// # Errors
    /// When the last axis is not `C`.
    pub fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || self.apply(x, pass))
    }

    fn apply(&self, x: &Array, pass: &Pass) -> Result<Array> {
        let Self { weight, bias, eps, kernel_area, .. } = self;
        self.site.step(pass, Step::LayerNorm { x, weight, bias, eps: *eps, kernel_area: *kernel_area })
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
}

/// x ÷ rms(x) · w over the last axis (`DeepseekV2RMSNorm`).
pub struct RmsNorm {
    site: Site,
    weight: Param,
    eps: f32,
}

impl RmsNorm {
    /// Loads `weight` \[width\].
    pub fn load(scope: &Scope, width: i32, eps: f32) -> Self {
        Self { site: scope.site(), weight: scope.param("weight", &[width]), eps }
    }

    /// Applies the layer.
    ///
    /// # Errors
    /// When the last axis is not `width`.
    pub fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || self.apply(x, pass))
    }

    fn apply(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.step(pass, Step::RmsNorm { x, weight: &self.weight, eps: self.eps })
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
}
