//! Activation functions, exact as PyTorch's.

use mlx_rs::{Array, Dtype, ops};

use super::kernels::scalar;
use crate::error::Result;

/// x·Φ(x), exact (`nn.GELU()`), in float32 and rounded once, as PyTorch does.
///
/// # Errors
/// MLX's.
pub fn gelu(x: &Array) -> Result<Array> {
    let wide = x.as_dtype(Dtype::Float32)?;
    let inner = ops::erf(wide.multiply(Array::from_f32(std::f32::consts::FRAC_1_SQRT_2))?)?;
    let y = wide.multiply(Array::from_f32(0.5))?.multiply(inner.add(Array::from_f32(1.0))?)?;
    Ok(y.as_dtype(x.dtype())?)
}

/// x·(1 + tanh(√(2/π)·(x + 0.044715x³)))/2, the approximation (`nn.GELU(approximate="tanh")`).
///
/// # Errors
/// MLX's.
pub fn gelu_tanh(x: &Array) -> Result<Array> {
    let number = |value| scalar(value, x.dtype());
    let cube = x.multiply(x)?.multiply(x)?.multiply(number(0.044_715)?)?;
    let inner = ops::tanh(x.add(cube)?.multiply(number((2.0 / std::f32::consts::PI).sqrt())?)?)?;
    Ok(x.multiply(number(0.5)?)?.multiply(inner.add(number(1.0)?)?)?)
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
