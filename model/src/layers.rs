//! The layers every system is made of. Names of fields are the checkpoint's.
//!
//! Weights stay in the dtype they were stored in and are widened when used, so that a float32 run of a bfloat16 release
//! holds one widened layer at a time. Activations are channels-last.

use mlx_rs::{Array, Dtype, fast, ops};

use crate::{
    error::{Error, Result},
    tap::{Module, Operation, Site, Taps, TorchLayout},
    weights::Scope,
};

/// A weight as stored, widened to the dtype of what it meets.
#[derive(Debug, Clone)]
pub struct Param(Array);

impl Param {
    /// Wraps a stored tensor.
    pub fn new(stored: Array) -> Self {
        Self(stored)
    }

    /// The weight in `dtype`.
    ///
    /// # Errors
    /// MLX's.
    pub fn to(&self, dtype: Dtype) -> Result<Array> {
        Ok(if self.0.dtype() == dtype { self.0.clone() } else { self.0.as_dtype(dtype)? })
    }

    /// The weight as stored.
    pub fn stored(&self) -> &Array {
        &self.0
    }
}

/// The only input of a module with one.
pub(crate) fn one<'a>(site: &Site, inputs: &'a [Array]) -> Result<&'a Array> {
    match inputs {
        [x, ..] => Ok(x),
        [] => Err(Error::input(site.path(), "an input", "none")),
    }
}

/// y = x Wᵀ + b (`nn.Linear`): \[…, in\] → \[…, out\].
pub struct Linear {
    site: Site,
    weight: Param,
    bias: Option<Param>,
}

impl Linear {
    /// Loads `weight` \[out, in\] and, where `bias`, `bias` \[out\].
    pub fn load(scope: &Scope, input: i32, output: i32, bias: bool) -> Self {
        Self {
            site: scope.site(),
            weight: scope.param("weight", &[output, input]),
            bias: bias.then(|| scope.param("bias", &[output])),
        }
    }

    /// A layer without bias whose weight \[out, in\] is loaded already.
    pub fn new(site: Site, weight: Param) -> Self {
        Self { site, weight, bias: None }
    }

    /// Loads one packed projection, or its parts stored apart (`parts`), as one layer.
    pub fn load_packed(scope: &Scope, parts: Option<[&str; 3]>, input: i32, output: i32) -> Self {
        let Some(names) = parts else { return Self::load(scope, input, output, true) };
        let load = |name: &str, tensor: &str, shape: &[i32]| scope.sibling(name).param(tensor, shape);
        let weights = names.map(|n| load(n, "weight", &[output / 3, input]));
        let biases = names.map(|n| load(n, "bias", &[output / 3]));
        let join = |p: [Param; 3]| scope.join(&p.map(|p| p.stored().clone()));
        Self { site: scope.site(), weight: join(weights), bias: Some(join(biases)) }
    }

    /// Applies the layer.
    ///
    /// # Errors
    /// When the last axis is not `in`.
    pub fn forward(&self, x: &Array, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[x], || self.apply(x))
    }

    /// Applies the layer without a tap.
    fn apply(&self, x: &Array) -> Result<Array> {
        let weight = self.weight.to(x.dtype())?;
        let y = ops::matmul(x, weight.t())?;
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

    fn call(&self, inputs: &[Array], taps: &Taps) -> Result<Array> {
        self.forward(one(&self.site, inputs)?, taps)
    }

    fn operations(&self) -> Vec<Operation> {
        vec![Operation::Product { depth: self.weight.stored().shape().last().copied().unwrap_or(1) }]
    }
}

/// Normalizes the last axis (`nn.LayerNorm`): \[…, C\] → \[…, C\].
pub struct LayerNorm {
    site: Site,
    weight: Param,
    bias: Param,
    eps: f32,
}

impl LayerNorm {
    /// Loads `weight` and `bias`, both \[width\].
    pub fn load(scope: &Scope, width: i32, eps: f32) -> Self {
        Self { site: scope.site(), weight: scope.param("weight", &[width]), bias: scope.param("bias", &[width]), eps }
    }

    /// SAM's `LayerNorm2d`: the same over channels, which PyTorch keeps first.
    pub fn load_2d(scope: &Scope, channels: i32, eps: f32) -> Self {
        let mut norm = Self::load(scope, channels, eps);
        norm.site = norm.site.with_layouts(TorchLayout::Nchw, TorchLayout::Nchw);
        norm
    }

    /// Applies the layer.
    ///
    /// # Errors
    /// When the last axis is not `C`.
    pub fn forward(&self, x: &Array, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[x], || self.apply(x))
    }

    fn apply(&self, x: &Array) -> Result<Array> {
        let (weight, bias) = (self.weight.to(x.dtype())?, self.bias.to(x.dtype())?);
        Ok(fast::layer_norm(x, Some(&weight), Some(&bias), self.eps)?)
    }
}

impl Module for LayerNorm {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], taps: &Taps) -> Result<Array> {
        self.site.isolated(inputs, |x| self.forward(one(&self.site, x)?, taps))
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
    pub fn forward(&self, x: &Array, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[x], || self.apply(x))
    }

    fn apply(&self, x: &Array) -> Result<Array> {
        Ok(fast::rms_norm(x, Some(&self.weight.to(x.dtype())?), self.eps)?)
    }
}

impl Module for RmsNorm {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], taps: &Taps) -> Result<Array> {
        self.forward(one(&self.site, inputs)?, taps)
    }

    fn operations(&self) -> Vec<Operation> {
        vec![Operation::RmsNorm { width: self.weight.stored().dim(0) }]
    }
}

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
    pub fn forward(&self, x: &Array, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[x], || self.apply(x))
    }

    fn apply(&self, x: &Array) -> Result<Array> {
        let weight = self.weight.to(x.dtype())?;
        let y = ops::conv2d(x, weight, (self.stride, self.stride), (self.padding, self.padding), None, None)?;
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

    fn call(&self, inputs: &[Array], taps: &Taps) -> Result<Array> {
        self.site.isolated(inputs, |x| self.forward(one(&self.site, x)?, taps))
    }

    fn operations(&self) -> Vec<Operation> {
        vec![Operation::Product { depth: self.weight.stored().shape()[1..].iter().product() }]
    }
}

/// Rows by number (`nn.Embedding`): ids \[…\] → \[…, width\].
pub struct Embedding {
    site: Site,
    weight: Param,
}

impl Embedding {
    /// Loads `weight` \[rows, width\].
    pub fn load(scope: &Scope, rows: i32, width: i32) -> Self {
        Self { site: scope.site(), weight: scope.param("weight", &[rows, width]) }
    }

    /// The rows of `ids`, in `dtype`; only these are widened.
    ///
    /// # Errors
    /// MLX's. Ids must be below the number of rows: MLX does not check.
    pub fn forward(&self, ids: &Array, dtype: Dtype, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[ids], || self.rows(ids, dtype))
    }

    fn rows(&self, ids: &Array, dtype: Dtype) -> Result<Array> {
        Ok(self.weight.stored().take_axis(ids, 0)?.as_dtype(dtype)?)
    }
}

impl Module for Embedding {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], taps: &Taps) -> Result<Array> {
        let ids = one(&self.site, inputs)?;
        let rows = self.weight.stored().dim(0);
        let flat = ids.as_dtype(Dtype::Int32)?.contiguous()?;
        // MLX reads past the table's end without a word.
        match flat.try_as_slice::<i32>()?.iter().find(|&&id| !(0..rows).contains(&id)) {
            Some(id) => Err(Error::input(self.site.path(), format!("ids below {rows}"), format!("{id}"))),
            None => self.forward(ids, Dtype::Float32, taps),
        }
    }
}

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
    pub fn forward(&self, x: &Array, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[x], || activate(self.function, x))
    }
}

impl Module for Activation {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], taps: &Taps) -> Result<Array> {
        self.forward(one(&self.site, inputs)?, taps)
    }

    fn operations(&self) -> Vec<Operation> {
        vec![self.function]
    }
}

/// Applies one of the activations of [`Operation`], element by element.
pub(crate) fn activate(function: Operation, x: &Array) -> Result<Array> {
    match function {
        Operation::Gelu => gelu(x),
        Operation::QuickGelu => quick_gelu(x),
        _ => silu(x),
    }
}

/// x·Φ(x), exact (`nn.GELU()`).
///
/// # Errors
/// MLX's.
pub fn gelu(x: &Array) -> Result<Array> {
    let half = scalar(0.5, x.dtype())?;
    let inner = ops::erf(x.multiply(scalar(std::f32::consts::FRAC_1_SQRT_2, x.dtype())?)?)?;
    Ok(x.multiply(half)?.multiply(inner.add(scalar(1.0, x.dtype())?)?)?)
}

/// x·σ(1.702x), CLIP's (`quick_gelu` of `deepencoder.py`).
///
/// # Errors
/// MLX's.
pub fn quick_gelu(x: &Array) -> Result<Array> {
    Ok(x.multiply(ops::sigmoid(x.multiply(scalar(1.702, x.dtype())?)?)?)?)
}

/// x·σ(x) (`nn.SiLU`).
///
/// # Errors
/// MLX's.
pub fn silu(x: &Array) -> Result<Array> {
    Ok(x.multiply(ops::sigmoid(x)?)?)
}

/// A constant in the dtype of what it meets, so that nothing is promoted.
pub(crate) fn scalar(value: f32, dtype: Dtype) -> Result<Array> {
    Ok(Array::from_f32(value).as_dtype(dtype)?)
}
