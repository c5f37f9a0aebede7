//! Convolution, channels-last.

use mlx_rs::{Array, ops};

use crate::{
    backend::{Param, kernels},
    contract::{Module, Operation, Pass, Site, TorchLayout, one},
    error::Result,
    fault::{GraphFault, Planted},
    loading::Scope,
};

/// A convolution (`nn.Conv2d`): \[N, H, W, in\] → \[N, H′, W′, out\]; the weight is \[out, kh, kw, in\].
pub struct Conv2d {
    site: Site,
    weight: Param,
    bias: Option<Param>,
    stride: i32,
    padding: i32,
    planted: Planted,
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
            planted: scope.planted(),
        }
    }

    /// Applies the convolution.
    ///
    /// # Errors
    /// When the channels do not fit or the image is smaller than the kernel.
    pub fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || self.apply(x))
    }

    fn apply(&self, x: &Array) -> Result<Array> {
        self.apply_kernel(x, self.weight.to(x.dtype())?)
    }

    fn apply_kernel(&self, x: &Array, weight: Array) -> Result<Array> {
        let y = if self.planted.has(GraphFault::StridePadsAfter) && self.stride == 2 {
            let after = (0, 2 * self.padding);
            let padded = ops::pad(x, &[(0, 0), after, after, (0, 0)][..], None, None)?;
            kernels::conv2d(self.planted, &padded, &weight, self.stride, 0)?
        } else {
            kernels::conv2d(self.planted, x, &weight, self.stride, self.padding)?
        };
        Ok(match &self.bias {
            Some(bias) => y.add(bias.to(x.dtype())?)?,
            None => y,
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

    fn alternatives(&self, inputs: &[Array]) -> Result<Vec<(String, Array)>> {
        let weight = self.weight.stored();
        if weight.dim(1) != weight.dim(2) || weight.dim(1) < 2 {
            return Ok(Vec::new());
        }
        let reversed = |w: &Array, axis: i32| -> Result<Array> {
            let places: Vec<i32> = (0..w.dim(axis)).rev().collect();
            Ok(w.take_axis(Array::from_slice(&places, &[places.len() as i32]), axis)?)
        };
        let kernels = [
            ("the kernel's height and width are exchanged", weight.transpose_axes(&[0, 2, 1, 3])?),
            ("the kernel is turned by 180°", reversed(&reversed(weight, 1)?, 2)?),
            ("the kernel's input channels are reversed", reversed(weight, 3)?),
        ];
        let apply = |(cause, kernel): (&str, Array)| {
            let out = self.site.isolated(inputs, |x| {
                let x = one(&self.site, x)?;
                self.apply_kernel(x, kernel.as_dtype(x.dtype())?)
            })?;
            Ok((cause.to_owned(), out))
        };
        kernels.into_iter().map(apply).collect()
    }
}
