//! Windows of an image (`window_partition`, `window_unpartition` of the release's `deepencoder.py`).

use mlx_rs::{Array, ops, ops::indexing::TryIndexOp};

use crate::error::Result;

/// Windows along an edge.
fn count(edge: i32, size: i32) -> i32 {
    (edge + size - 1) / size
}

/// \[N, H, W, C\] → \[N·nh·nw, size, size, C\], zeros padding the bottom and the right.
pub(super) fn cut(x: &Array, size: i32) -> Result<Array> {
    let (batch, height, width, channels) = (x.dim(0), x.dim(1), x.dim(2), x.dim(3));
    let (rows, cols) = (count(height, size), count(width, size));
    let padding = [(0, 0), (0, rows * size - height), (0, cols * size - width), (0, 0)];
    let x = ops::pad(x, &padding[..], None, None)?;
    let x = x.reshape(&[batch, rows, size, cols, size, channels])?.transpose_axes(&[0, 1, 3, 2, 4, 5])?;
    Ok(x.reshape(&[batch * rows * cols, size, size, channels])?)
}

/// The inverse, for an image of N, H and W.
pub(super) fn mend(windows: &Array, [batch, height, width]: [i32; 3]) -> Result<Array> {
    let (size, channels) = (windows.dim(1), windows.dim(3));
    let (rows, cols) = (count(height, size), count(width, size));
    let x = windows.reshape(&[batch, rows, cols, size, size, channels])?.transpose_axes(&[0, 1, 3, 2, 4, 5])?;
    let x = x.reshape(&[batch, rows * size, cols * size, channels])?;
    Ok(x.try_index((.., ..height, ..width))?)
}
