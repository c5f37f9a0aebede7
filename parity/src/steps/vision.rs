//! Faults of the image encoders' steps.

use mlx_rs::{Array, ops, ops::indexing::TryIndexOp};
use mlxport_model::{
    Result,
    backend::kernels::scalar,
    contract::{At, Step, Steps},
};

use super::{emptied, taken};

/// q is taken for nothing.
pub fn distances_missing(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Distances { q, table, grid } = step else { return inner.run(at, step) };
    inner.run(at, Step::Distances { q: &emptied(q)?, table, grid })
}

/// Key minus query.
pub fn distances_reversed(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Distances { q, table, grid } = step else { return inner.run(at, step) };
    let rows = 2 * grid.0 - 1;
    let table = taken(table, 1, (0..rows).rev().chain((rows..table.dim(1)).rev()))?;
    inner.run(at, Step::Distances { q, table: &table, grid })
}

/// Of queries that were scaled already.
pub fn distances_scaled(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Distances { q, table, grid } = step else { return inner.run(at, step) };
    let q = q.multiply(scalar((q.dim(-1) as f32).sqrt().recip(), q.dtype())?)?;
    inner.run(at, Step::Distances { q: &q, table, grid })
}

/// Windows padded at the top left, and the padding cut off there.
pub fn windows_padded_first(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let missing = |edge: i32, size: i32| (size - edge % size) % size;
    match step {
        Step::Cut { x, size } => {
            let (top, left) = (missing(x.dim(1), size), missing(x.dim(2), size));
            let padded = ops::pad(x, &[(0, 0), (top, 0), (left, 0), (0, 0)][..], None, None)?;
            inner.run(at, Step::Cut { x: &padded, size })
        }
        Step::Mend { windows, image: [batch, height, width] } => {
            let size = windows.dim(1);
            let (top, left) = (missing(height, size), missing(width, size));
            let whole = inner.run(at, Step::Mend { windows, image: [batch, height + top, width + left] })?;
            Ok(whole.try_index((.., top.., left..))?)
        }
        _ => inner.run(at, step),
    }
}

/// Windows put together column by column.
pub fn windows_mended_transposed(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Mend { windows, image } = step else { return inner.run(at, step) };
    let [batch, height, width] = image;
    let size = windows.dim(1);
    let (rows, cols) = ((height + size - 1) / size, (width + size - 1) / size);
    let number = |at: i32| at / (rows * cols) * rows * cols + at % cols * rows + at / cols % rows;
    let windows = taken(windows, 0, (0..batch * rows * cols).map(number))?;
    inner.run(at, Step::Mend { windows: &windows, image })
}

/// A residual that takes up what was normed.
pub fn residual_from_norm(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Add { y, normed: Some(normed), .. } = step else { return inner.run(at, step) };
    inner.run(at, Step::Add { x: normed, y, normed: Some(normed) })
}

/// What is added is nothing.
pub fn addition_missing(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Add { x, y, normed } = step else { return inner.run(at, step) };
    inner.run(at, Step::Add { x, y: &emptied(y)?, normed })
}

/// Each channel normalized over the image, not each place over its channels.
pub fn norm_per_image(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::LayerNorm { x, weight, bias, eps, .. } = step else { return inner.run(at, step) };
    let centred = x.subtract(x.mean_axes(&[1, 2], true)?)?;
    let variance = centred.multiply(&centred)?.mean_axes(&[1, 2], true)?;
    let scale = ops::sqrt(variance.add(scalar(eps, x.dtype())?)?)?;
    Ok(centred.divide(scale)?.multiply(weight.to(x.dtype())?)?.add(bias.to(x.dtype())?)?)
}

/// A norm that does nothing.
pub fn norm_missing(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    match step {
        Step::LayerNorm { x, .. } | Step::RmsNorm { x, .. } => Ok(x.clone()),
        _ => inner.run(at, step),
    }
}

/// Strided convolutions padded at the end only.
pub fn padded_after(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    match step {
        Step::Convolve { x, weight, bias, stride: 2, padding: [before, after] } => {
            inner.run(at, Step::Convolve { x, weight, bias, stride: 2, padding: [0, before + after] })
        }
        _ => inner.run(at, step),
    }
}

/// The table's memory taken for one with channels first, and what is found there resampled.
pub fn table_scrambled(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Resample { table, size, mode, dtype } = step else { return inner.run(at, step) };
    let (edge, channels) = (table.dim(1), table.dim(3));
    let read = table.reshape(&[1, channels, edge, edge])?.transpose_axes(&[0, 2, 3, 1])?;
    let found = inner.run(at, Step::Resample { table: &read, size, mode, dtype })?;
    Ok(found.transpose_axes(&[0, 3, 1, 2])?.reshape(&[1, size, size, channels])?)
}

/// An image read column by column.
pub fn flattened_by_columns(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Flatten { x } = step else { return inner.run(at, step) };
    inner.run(at, Step::Flatten { x: &x.transpose_axes(&[0, 2, 1, 3])? })
}

/// Scores scaled by the width of all heads together.
pub fn scaled_by_width(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Attend { q, k, v, mask, .. } = step else { return inner.run(at, step) };
    let scale = ((q.dim(1) * q.dim(3)) as f32).sqrt().recip();
    inner.run(at, Step::Attend { q, k, v, scale, mask })
}
