//! Convolution, channels-last.

use mlx_rs::Array;

use crate::{
    backend::Param,
    contract::{Module, Operation, Pass, Site, Step, TorchLayout, one},
    error::Result,
    loading::Scope,
};

/// A convolution (`nn.Conv2d`): \[N, H, W, in\] → \[N, H′, W′, out\]; the weight is \[out, kh, kw, in\].
pub struct Conv2d {
    site: Site,
    weight: Param,
    bias: Option<Param>,
    stride: i32,
    padding: i32,
}

/// The numbers of a convolution.
#[derive(Debug, Clone, Copy)]
pub struct ConvShape {
    /// Channels in.
    pub input: i32,
    /// Channels out.
    pub output: i32,
    /// Edge of the kernel.
    pub kernel: i32,
    /// Step in both directions.
    pub stride: i32,
    /// Zeros on every side.
    pub padding: i32,
    /// Whether there is a bias.
    pub bias: bool,
}

impl Conv2d {
    /// Loads `weight` and, where there is one, `bias` \[out\].
    pub fn load(scope: &Scope, shape: ConvShape) -> Self {
        let ConvShape { input, output, kernel, stride, padding, bias } = shape;
        Self {
            site: scope.site().with_layouts(TorchLayout::Nchw, TorchLayout::Nchw),
            weight: scope.param("weight", &[output, kernel, kernel, input]),
            bias: bias.then(|| scope.param("bias", &[output])),
            stride,
            padding,
        }
    }

    /// Applies the convolution.
    ///
    /// # Errors
    /// When the channels do not fit or the image is smaller than the kernel.
    pub fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || {
            let (weight, bias) = (&self.weight, self.bias.as_ref());
            self.site.step(pass, Step::Convolve { x, weight, bias, stride: self.stride, padding: [self.padding; 2] })
        })
    }
}

impl Module for Conv2d {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        self.site.isolated(inputs, |x| self.forward(one(&self.site, x)?, pass))
    }

    fn operations(&self) -> Vec<Operation> {
        vec![Operation::Product { depth: self.weight.stored().shape()[1..].iter().product() }]
    }
}
