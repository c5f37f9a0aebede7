//! What this runtime's own kernels are off from float64 on this device.
//!
//! Measured on bare operations and made-up numbers, never on the model under test: a model that is wrong must not be able to
//! loosen its own tolerance. Each operation is computed twice, by MLX in the run's dtype and here in float64; the floor is
//! the relative RMS of the difference.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use mlx_rs::{Array, Dtype, fast, ops};
use mlxport_model::{
    backend::functions::{gelu, gelu_tanh, quick_gelu, silu},
    contract::Operation,
};
use mlxport_verdict::{Reference, compare};

use crate::{
    error::{Error, Result},
    host,
};

/// Rows of every made-up operand: enough for a steady RMS, few enough to cost nothing.
const ROWS: usize = 48;

/// Floors of the operations met so far, measured once each.
#[derive(Debug, Clone)]
pub struct Calibration {
    dtype: Dtype,
    positions: usize,
    /// Products may be rounded to TF32.
    rounds_products: bool,
    /// Shared by clones.
    floors: Rc<RefCell<BTreeMap<Operation, f64>>>,
}

impl Calibration {
    /// Nothing measured yet; `positions` is the length of the sequence that is going to be rotated.
    pub fn new(dtype: Dtype, positions: usize) -> Self {
        Self { dtype, positions, rounds_products: false, floors: Rc::default() }
    }

    /// With `on`, float32 products are rounded to TF32 here, and nothing is measured of them: a run that is to show what that rounding
    /// does must not be excused by it.
    #[must_use]
    pub fn with_tf32(self, on: bool) -> Self {
        Self { rounds_products: on && self.dtype == Dtype::Float32, ..self }
    }

    /// The relative RMS error of one operation.
    ///
    /// # Errors
    /// MLX's.
    pub fn floor(&mut self, operation: Operation) -> Result<f64> {
        if let Some(&floor) = self.floors.borrow().get(&operation) {
            return Ok(floor);
        }
        let floor = self.measure(operation)?;
        self.floors.borrow_mut().insert(operation, floor);
        Ok(floor)
    }

    /// The floor of operations one after the other, whose errors do not know of each other.
    ///
    /// # Errors
    /// MLX's.
    pub fn chain(&mut self, operations: &[Operation]) -> Result<f64> {
        let squares = operations.iter().try_fold(0.0, |sum, &op| Ok::<f64, Error>(sum + self.floor(op)?.powi(2)))?;
        Ok(squares.sqrt())
    }

    fn measure(&self, operation: Operation) -> Result<f64> {
        match operation {
            Operation::Product { .. } | Operation::Attention { .. } if self.rounds_products => Ok(0.0),
            Operation::Product { depth } => self.product(depth.max(1) as usize),
            Operation::LayerNorm { width } => self.norm(width.max(1) as usize, true),
            Operation::RmsNorm { width } => self.norm(width.max(1) as usize, false),
            Operation::Attention { head_dim } => self.attention(head_dim.max(1) as usize),
            Operation::Gelu => self.pointwise(gelu, |x| x * 0.5 * libm_erfc(-x / std::f64::consts::SQRT_2)),
            Operation::GeluTanh => self.pointwise(gelu_tanh, |x| {
                x * 0.5 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
            }),
            Operation::QuickGelu => self.pointwise(quick_gelu, |x| x / (1.0 + (-1.702 * x).exp())),
            Operation::Silu => self.pointwise(silu, |x| x / (1.0 + (-x).exp())),
            Operation::Rope { head_dim } => Ok(self.rope(head_dim.max(2) as usize)),
        }
    }

    /// Made-up numbers that are exact in the run's dtype.
    fn operand(&self, seed: u64, shape: &[usize]) -> Result<(Array, Vec<f64>)> {
        let values = normal(seed, shape.iter().product());
        let shape: Vec<i32> = shape.iter().map(|&d| d as i32).collect();
        let array = Array::from_slice(&values, &shape).as_dtype(self.dtype)?;
        let exact = host::floats(&array)?.into_iter().map(f64::from).collect();
        Ok((array, exact))
    }

    fn product(&self, depth: usize) -> Result<f64> {
        let (a, a64) = self.operand(1, &[ROWS, depth])?;
        let (b, b64) = self.operand(2, &[ROWS, depth])?;
        let got = host::floats(&ops::matmul(a, b.t())?)?;
        let row = |x: &[f64], i: usize| x[i * depth..(i + 1) * depth].to_vec();
        let want = (0..ROWS * ROWS).map(|at| dot(&row(&a64, at / ROWS), &row(&b64, at % ROWS))).collect::<Vec<_>>();
        Ok(relative_rms(&got, &want))
    }

    fn norm(&self, width: usize, centred: bool) -> Result<f64> {
        let (x, x64) = self.operand(3, &[ROWS, width])?;
        let (w, w64) = self.operand(4, &[width])?;
        let (b, b64) = self.operand(5, &[width])?;
        let eps = 1e-6_f32;
        let got =
            if centred { fast::layer_norm(x, Some(&w), Some(&b), eps)? } else { fast::rms_norm(x, Some(&w), eps)? };
        let got = host::floats(&got)?;
        let mut want = Vec::with_capacity(x64.len());
        for row in x64.chunks_exact(width) {
            let mean = if centred { row.iter().sum::<f64>() / width as f64 } else { 0.0 };
            let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width as f64;
            let scale = (variance + f64::from(eps)).sqrt().recip();
            let bias = |i: usize| if centred { b64[i] } else { 0.0 };
            want.extend(row.iter().enumerate().map(|(i, v)| (v - mean) * scale * w64[i] + bias(i)));
        }
        Ok(relative_rms(&got, &want))
    }

    fn attention(&self, head_dim: usize) -> Result<f64> {
        let shape = [1, 1, ROWS, head_dim];
        let (q, q64) = self.operand(6, &shape)?;
        let (k, k64) = self.operand(7, &shape)?;
        let (v, v64) = self.operand(8, &shape)?;
        let scale = (head_dim as f32).sqrt().recip();
        let got = host::floats(&fast::scaled_dot_product_attention(q, k, v, scale, None, None)?)?;
        let mut want = Vec::with_capacity(got.len());
        for query in q64.chunks_exact(head_dim) {
            let scores: Vec<f64> = k64.chunks_exact(head_dim).map(|key| dot(query, key) * f64::from(scale)).collect();
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
            let total: f64 = weights.iter().sum();
            want.extend((0..head_dim).map(|c| {
                weights.iter().zip(v64.chunks_exact(head_dim)).map(|(w, value)| w * value[c]).sum::<f64>() / total
            }));
        }
        Ok(relative_rms(&got, &want))
    }

    fn pointwise(
        &self,
        runtime: fn(&Array) -> mlxport_model::Result<Array>,
        exact: impl Fn(f64) -> f64,
    ) -> Result<f64> {
        let (x, x64) = self.operand(9, &[64 * ROWS])?;
        let got = host::floats(&runtime(&x)?)?;
        Ok(relative_rms(&got, &x64.into_iter().map(exact).collect::<Vec<_>>()))
    }

    /// Rounding an angle to float32 moves its cosine: PyTorch's tables carry it, and so must any other float32 table.
    fn rope(&self, head_dim: usize) -> f64 {
        let (mut got, mut want) = (Vec::new(), Vec::new());
        for position in 0..self.positions.max(1) {
            for pair in 0..head_dim / 2 {
                let exact = 10_000_f64.powf(-2.0 * pair as f64 / head_dim as f64);
                let angle = (exact as f32) * position as f32;
                got.push(f64::from(angle).cos() as f32);
                want.push((exact * position as f64).cos());
            }
        }
        relative_rms(&got, &want)
    }
}

/// erfc to float64 accuracy where it matters here (relative 1e-12 and better for |x| < 6), by Taylor series or Lentz's
/// continued fraction.
fn libm_erfc(x: f64) -> f64 {
    if x.abs() < 2.5 {
        let (mut term, mut sum) = (x, x);
        for n in 1..120 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return 1.0 - sum * std::f64::consts::FRAC_2_SQRT_PI;
    }
    let a = x.abs();
    let tail = (1..=80).rev().fold(a, |f, n| a + f64::from(n) / 2.0 / f);
    let tail = (-a * a).exp() / (tail * std::f64::consts::PI.sqrt());
    if x > 0.0 { tail } else { 2.0 - tail }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// NaN, under which nothing passes, where there is nothing to compare.
fn relative_rms(got: &[f32], want: &[f64]) -> f64 {
    compare(&[want.len()], Reference::F64(want), got).map_or(f64::NAN, |metrics| metrics.rel_rms)
}

/// Standard normal numbers from SplitMix64 and Box and Muller's transform.
fn normal(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut uniform = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let one = |(): ()| {
        let (radius, angle) = ((-2.0 * (1.0 - uniform()).ln()).sqrt(), std::f64::consts::TAU * uniform());
        (radius * angle.cos()) as f32
    };
    std::iter::repeat_n((), count).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erfc_is_that_of_the_tables() {
        // Abramowitz and Stegun, table 7.1, and erfc(3).
        for (x, want) in
            [(0.0, 1.0), (0.5, 0.479_500_122_186_953_5), (-1.0, 1.842_700_792_949_715), (3.0, 2.209_049_699_858_544e-5)]
        {
            assert!((libm_erfc(x) - want).abs() <= 1e-12 * want, "erfc({x})");
        }
    }

    #[test]
    fn floors_of_float32_are_those_of_float32() -> Result<()> {
        let mut calibration = Calibration::new(Dtype::Float32, 64);
        for operation in [
            Operation::Product { depth: 64 },
            Operation::LayerNorm { width: 48 },
            Operation::RmsNorm { width: 48 },
            Operation::Attention { head_dim: 16 },
            Operation::Gelu,
            Operation::QuickGelu,
            Operation::Silu,
            Operation::Rope { head_dim: 16 },
        ] {
            let floor = calibration.floor(operation)?;
            assert!(floor > 1e-9 && floor < 5e-6, "{operation:?}: {floor:e}");
        }
        Ok(())
    }
}
