//! Position tables at other sizes, resampled as PyTorch does it: weights on the host, one product per axis on the device.
//!
//! The release resamples in float32 whatever the model's dtype (`get_abs_pos`, `get_abs_pos_sam`, `get_rel_pos` of
//! `deepencoder.py`), and PyTorch's float32 source coordinates are themselves off by up to 4e-6 at the far end of a table.
//! A float64 computation would be closer to the ideal filter and further from PyTorch, so the weights here take the same
//! float32 steps as `UpSampleKernel.cpp` and `UpSample.h`, fused multiply-adds included.

use std::cell::RefCell;

use mlx_rs::{Array, Dtype, ops};

use crate::error::Result;

/// Tables that were resampled before, by size and way: a model meets few sizes, and resampling is a dozen steps of the host's.
#[derive(Debug)]
pub struct Kept<W>(RefCell<Vec<(W, Array)>>);

impl<W> Default for Kept<W> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<W: Copy + PartialEq> Kept<W> {
    /// The table of `way`, which `make` makes where it has not been; made anew where nothing is to be kept.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn get_or(&self, keeps: bool, way: W, make: impl FnOnce() -> Result<Array>) -> Result<Array> {
        if !keeps {
            return make();
        }
        if let Some((_, table)) = self.0.borrow().iter().find(|(known, _)| *known == way) {
            return Ok(table.clone());
        }
        let table = make()?;
        self.0.borrow_mut().push((way, table.clone()));
        Ok(table)
    }
}

/// Catmull-Rom's parameter, which PyTorch uses where it antialiases (-0.75 elsewhere).
const CUBIC_A: f32 = -0.5;

/// Bicubic resampling with or without antialias; the release always antialiases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bicubic {
    /// `F.interpolate(mode="bicubic", antialias=True, align_corners=False)`.
    Antialias,
    /// `antialias=False`.
    Plain,
    /// `antialias=False, align_corners=True`.
    AlignCorners,
    /// Without antialias, each result where its index times the scale is: half a pixel off.
    WholePixels,
}

/// Linear resampling; the release's is `align_corners=False`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinearMode {
    /// `F.interpolate(mode="linear")`.
    HalfPixels,
    /// `align_corners=True`.
    AlignCorners,
    /// Each result where its index times the scale is.
    WholePixels,
}

/// Resamples a table \[1, n, n, C\] to \[1, m, m, C\] in float32, then returns it in `dtype`.
///
/// # Errors
/// When the table is not square or not four-dimensional.
pub fn bicubic_table(table: &Array, size: i32, mode: Bicubic, dtype: Dtype) -> Result<Array> {
    let (n, channels) = (table.dim(1), table.dim(3));
    if n == size {
        return Ok(table.as_dtype(dtype)?);
    }
    let weights = match mode {
        Bicubic::Antialias => antialias_weights(n as usize, size as usize),
        Bicubic::Plain => plain_weights(n as usize, size as usize, half_pixel_centres),
        Bicubic::AlignCorners => plain_weights(n as usize, size as usize, corners),
        Bicubic::WholePixels => plain_weights(n as usize, size as usize, whole_pixels),
    };
    let weights = Array::from_slice(&weights, &[size, n]);
    let table = table.as_dtype(Dtype::Float32)?.reshape(&[n, n, channels])?;
    // Columns first, then rows, as PyTorch's separable kernel does.
    let columns = ops::matmul(&weights, &table)?;
    let rows = ops::matmul(&weights, columns.reshape(&[n, size * channels])?)?;
    Ok(rows.reshape(&[1, size, size, channels])?.as_dtype(dtype)?)
}

/// Resamples rows \[n, C\] to \[m, C\].
///
/// # Errors
/// MLX's.
pub fn linear_rows(rows: &Array, size: i32, mode: LinearMode, dtype: Dtype) -> Result<Array> {
    let n = rows.dim(0);
    if n == size {
        return Ok(rows.as_dtype(dtype)?);
    }
    let source = match mode {
        LinearMode::HalfPixels => unfused_half_pixel_centres,
        LinearMode::AlignCorners => corners,
        LinearMode::WholePixels => whole_pixels,
    };
    let weights = Array::from_slice(&linear_weights(n as usize, size as usize, source), &[size, n]);
    Ok(ops::matmul(weights, rows.as_dtype(Dtype::Float32)?)?.as_dtype(dtype)?)
}

/// Row-major \[m, n\] weights of the antialiased bicubic filter (`_compute_indices_min_size_weights_aa`).
fn antialias_weights(n: usize, m: usize) -> Vec<f32> {
    let scale = n as f32 / m as f32;
    let (support, inverse) = if scale >= 1.0 { (2.0 * scale, 1.0 / scale) } else { (2.0, 1.0) };
    let mut out = vec![0.0; n * m];
    for (i, row) in out.chunks_exact_mut(n).enumerate() {
        let centre = scale * (i as f32 + 0.5);
        let first = ((centre - support + 0.5) as i64).max(0) as usize;
        let end = ((centre + support + 0.5) as i64).clamp(0, n as i64) as usize;
        let taps = &mut row[first..end];
        let mut total = 0.0;
        for (j, tap) in taps.iter_mut().enumerate() {
            *tap = cubic(((j + first) as f32 - centre + 0.5) * inverse, CUBIC_A);
            total += *tap;
        }
        taps.iter_mut().for_each(|tap| *tap /= total);
    }
    out
}

/// Where the `i`-th of `m` results lies among `n` sources.
type Source = fn(i: usize, n: usize, m: usize) -> f32;

fn half_pixel_centres(i: usize, n: usize, m: usize) -> f32 {
    (n as f32 / m as f32).mul_add(i as f32 + 0.5, -0.5)
}

/// Not fused: PyTorch's linear kernel rounds the product first.
fn unfused_half_pixel_centres(i: usize, n: usize, m: usize) -> f32 {
    n as f32 / m as f32 * (i as f32 + 0.5) - 0.5
}

fn corners(i: usize, n: usize, m: usize) -> f32 {
    i as f32 * (n as f32 - 1.0) / (m as f32 - 1.0).max(1.0)
}

fn whole_pixels(i: usize, n: usize, m: usize) -> f32 {
    i as f32 * n as f32 / m as f32
}

/// Row-major \[m, n\] weights of bicubic interpolation without antialias: four taps, edges repeated.
fn plain_weights(n: usize, m: usize, source: Source) -> Vec<f32> {
    let mut out = vec![0.0; n * m];
    for (i, row) in out.chunks_exact_mut(n).enumerate() {
        let source = source(i, n, m);
        let base = source.floor();
        for tap in -1..=2 {
            let at = (base as i64 + tap).clamp(0, n as i64 - 1) as usize;
            row[at] += cubic(source - base - tap as f32, -0.75);
        }
    }
    out
}

/// Keys' cubic in the order of operations of `cubic_convolution1` and `cubic_convolution2`.
fn cubic(x: f32, a: f32) -> f32 {
    let x = x.abs();
    if x < 1.0 {
        ((a + 2.0).mul_add(x, -(a + 3.0)) * x).mul_add(x, 1.0)
    } else if x < 2.0 {
        a.mul_add(x, -5.0 * a).mul_add(x, 8.0 * a).mul_add(x, -4.0 * a)
    } else {
        0.0
    }
}

/// Row-major \[m, n\] weights of linear interpolation (`area_pixel_compute_source_index`).
fn linear_weights(n: usize, m: usize, source: Source) -> Vec<f32> {
    let mut out = vec![0.0; n * m];
    for (i, row) in out.chunks_exact_mut(n).enumerate() {
        let source = source(i, n, m).max(0.0);
        let base = (source as usize).min(n - 1);
        let next = source - base as f32;
        row[base] += 1.0 - next;
        row[(base + 1).min(n - 1)] += next;
    }
    out
}
