//! The layers every system is made of. Names of fields are the checkpoint's.
//!
//! Weights stay in the dtype they were stored in and are widened when used, so that a float32 run of a bfloat16 release
//! holds one widened layer at a time. Activations are channels-last.

use std::cell::OnceCell;

use mlx_rs::{Array, Dtype, ops};

use crate::{
    error::{Error, Result},
    fault::{GraphFault, Planted},
    kernels,
    matrix::Matrix,
    tap::{Module, Operation, Site, Taps, TorchLayout},
    weights::Scope,
};

/// A weight as stored, widened to the dtype of what it meets.
#[derive(Debug, Clone)]
pub struct Param {
    stored: Array,
    /// The stored weight with its last two axes exchanged: a view, kept because making one costs the host as much as a product.
    turned: OnceCell<Array>,
}

impl Param {
    /// Wraps a stored tensor.
    pub fn new(stored: Array) -> Self {
        Self { stored, turned: OnceCell::new() }
    }

    /// The weight in `dtype`.
    ///
    /// # Errors
    /// MLX's.
    pub fn to(&self, dtype: Dtype) -> Result<Array> {
        Ok(if self.stored.dtype() == dtype { self.stored.clone() } else { self.stored.as_dtype(dtype)? })
    }

    /// The weight in `dtype`, its last two axes exchanged: \[…, out, in\] → \[…, in, out\].
    ///
    /// # Errors
    /// MLX's.
    pub(crate) fn turned(&self, dtype: Dtype) -> Result<Array> {
        if self.stored.dtype() != dtype {
            return Ok(self.to(dtype)?.swap_axes(-1, -2)?);
        }
        if let Some(turned) = self.turned.get() {
            return Ok(turned.clone());
        }
        let turned = self.stored.swap_axes(-1, -2)?;
        Ok(self.turned.get_or_init(|| turned).clone())
    }

    /// The weight as stored.
    pub fn stored(&self) -> &Array {
        &self.stored
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
    pub fn forward(&self, x: &Array, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[x], || self.apply(x))
    }

    /// The weight, to be joined with others'.
    pub(crate) fn weight_mut(&mut self) -> &mut Matrix {
        &mut self.weight
    }

    /// Whether someone wants this layer's taps.
    pub(crate) fn is_heard(&self, taps: &Taps) -> bool {
        taps.listening(self.site.path())
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

    fn call(&self, inputs: &[Array], taps: &Taps) -> Result<Array> {
        self.site.isolated(inputs, |x| self.forward(one(&self.site, x)?, taps))
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
    pub fn forward(&self, x: &Array, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[x], || self.apply(x))
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

    fn call(&self, inputs: &[Array], taps: &Taps) -> Result<Array> {
        self.site.isolated(inputs, |x| self.forward(one(&self.site, x)?, taps))
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
    pub fn forward(&self, x: &Array, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[x], || self.apply(x))
    }

    fn apply(&self, x: &Array) -> Result<Array> {
        kernels::rms_norm(self.planted, x, &self.weight.to(x.dtype())?, self.eps)
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

    fn alternatives(&self, inputs: &[Array]) -> Result<Vec<(String, Array)>> {
        let x = one(&self.site, inputs)?;
        let weight = self.weight.to(x.dtype())?;
        other_epsilons(self.eps, |eps| kernels::rms_norm(self.planted, x, &weight, eps))
    }
}

/// Rows by number (`nn.Embedding`): ids \[…\] → \[…, width\].
pub struct Embedding {
    site: Site,
    weight: Matrix,
}

impl Embedding {
    /// Loads `weight` \[rows, width\].
    pub fn load(scope: &Scope, rows: i32, width: i32) -> Self {
        Self { site: scope.site(), weight: scope.matrix(&[rows, width]) }
    }

    /// The rows of `ids`, in `dtype`; only these are widened.
    ///
    /// # Errors
    /// MLX's. Ids must be below the number of rows: MLX does not check.
    pub fn forward(&self, ids: &Array, dtype: Dtype, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[ids], || self.rows(ids, dtype))
    }

    fn rows(&self, ids: &Array, dtype: Dtype) -> Result<Array> {
        self.weight.take(ids, dtype)
    }
}

impl Module for Embedding {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], taps: &Taps) -> Result<Array> {
        let ids = one(&self.site, inputs)?;
        let rows = self.weight.rows();
        let flat = ids.as_dtype(Dtype::Int32)?.contiguous()?;
        // MLX reads past the table's end without a word.
        match flat.try_as_slice::<i32>()?.iter().find(|&&id| !(0..rows).contains(&id)) {
            Some(id) => Err(Error::input(self.site.path(), format!("ids below {rows}"), format!("{id}"))),
            None => self.forward(ids, Dtype::Float32, taps),
        }
    }
}
