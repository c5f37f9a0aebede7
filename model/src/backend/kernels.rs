//! MLX's kernels as the parts use them.

use mlx_rs::{Array, Dtype, fast, ops};

use crate::error::{Error, Result};

/// Queries, keys and values of one packed projection: B·T·3·heads·d numbers in that order → three of \[B, heads, T, d\].
pub fn by_head(qkv: &Array, [batch, tokens]: [i32; 2], [heads, head_dim]: [i32; 2]) -> Result<[Array; 3]> {
    let qkv = qkv.reshape(&[batch, tokens, 3, heads, head_dim])?.transpose_axes(&[2, 0, 3, 1, 4])?;
    let parts = ops::split_equal(qkv, 3, 0)?;
    let [q, k, v] = [0, 1, 2].map(|i| parts[i].squeeze_axes(&[0]));
    Ok([q?, k?, v?])
}

/// (x − mean) / √(variance + eps) · weight + bias over the last axis.
///
/// # Errors
/// MLX's.
pub fn layer_norm(x: &Array, weight: &Array, bias: &Array, eps: f32) -> Result<Array> {
    Ok(fast::layer_norm(x, Some(weight), Some(bias), eps)?)
}

/// [`layer_norm`] of rows that an unfold of `kernel_area` elements made, some of which may be zeros it was filled up with: MLX's kernel adds a row's equal
/// squares one by one to a large sum and is off by 1e-5 then. Here they are added in `kernel_area` groups.
pub fn layer_norm_in_groups(x: &Array, weight: &Array, bias: &Array, eps: f32, kernel_area: i32) -> Result<Array> {
    let wide = x.as_dtype(Dtype::Float32)?;
    let (mut groups, width) = (wide.shape().to_vec(), wide.dim(-1));
    groups.pop();
    groups.extend([kernel_area, width / kernel_area]);
    let mean = |x: &Array| x.reshape(&groups)?.mean_axis(-1, false)?.mean_axis(-1, true);
    let centred = wide.subtract(mean(&wide)?)?;
    let deviation = ops::sqrt(mean(&centred.multiply(&centred)?)?.add(scalar(eps, Dtype::Float32)?)?)?;
    Ok(centred.divide(deviation)?.multiply(weight)?.add(bias)?.as_dtype(x.dtype())?)
}

/// x / √(mean of squares + eps) · weight over the last axis.
///
/// # Errors
/// MLX's.
pub fn rms_norm(x: &Array, weight: &Array, eps: f32) -> Result<Array> {
    Ok(fast::rms_norm(x, Some(weight), eps)?)
}

/// The side of square views whose features are \[N, side², …\].
///
/// # Errors
/// When they are not square.
pub fn square_edge(features: &Array) -> Result<i32> {
    let count = features.dim(1);
    let edge = f64::from(count).sqrt().round() as i32;
    if edge * edge == count {
        Ok(edge)
    } else {
        Err(Error::input("image", "a square view", format!("{count} features")))
    }
}

/// A constant in the dtype of what it meets, so that nothing is promoted.
pub fn scalar(value: f32, dtype: Dtype) -> Result<Array> {
    Ok(Array::from_f32(value).as_dtype(dtype)?)
}

#[cfg(test)]
mod tests {
    use mlx_rs::ops::indexing::TryIndexOp;

    use super::*;
    use crate::backend::runtime::{self, DeviceKind};

    /// Whole numbers, whose sums are exact in any order; on Linux products by one row or column take a way of their own
    /// (`xtask/src/setup/linux/native/blas.cpp`).
    #[test]
    fn products_by_vectors_are_products_however_they_lie() -> Result<()> {
        runtime::use_device(DeviceKind::Cpu)?;
        let whole = |rows: i32, columns: i32, seed: i32| -> Vec<f32> {
            (0..rows * columns).map(|at| ((at * 7919 + seed) % 17 - 8) as f32).collect()
        };
        for (m, n, k) in [(1, 1, 1), (1, 5, 3), (5, 1, 3), (1, 1, 64), (1, 257, 129), (257, 1, 129), (1, 3, 2000)] {
            let (a, b, c) = (whole(m, k, 1), whole(k, n, 2), whole(m, n, 3));
            let at = |x: &[f32], row: i32, column: i32, width: i32| x[(row * width + column) as usize];
            let cells = (0..m).flat_map(|row| (0..n).map(move |column| (row, column)));
            let want: Vec<f32> =
                cells.map(|(row, column)| (0..k).map(|i| at(&a, row, i, k) * at(&b, i, column, n)).sum()).collect();
            let with_c: Vec<f32> = want.iter().zip(&c).map(|(want, c)| 2.0 * want - 3.0 * c).collect();
            let [a, b, c] = [(&a, m, k), (&b, k, n), (&c, m, n)].map(|(x, h, w)| Array::from_slice(x, &[h, w]));
            let (ways_of_a, ways_of_b) = (every_way(&a)?, every_way(&b)?);
            for (a, b) in ways_of_a.iter().flat_map(|a| ways_of_b.iter().map(move |b| (a, b))) {
                assert_eq!(ops::matmul(a, b)?.try_as_slice::<f32>()?, want, "{m} {n} {k}");
                let sum = ops::addmm(&c, a, b, 2.0, -3.0)?;
                assert_eq!(sum.try_as_slice::<f32>()?, with_c, "{m} {n} {k}");
            }
        }
        Ok(())
    }

    /// As stored row by row, column by column, and as a part of wider rows.
    fn every_way(x: &Array) -> Result<Vec<Array>> {
        let by_columns = x.t().contiguous()?.t();
        let wider = ops::concatenate(&[x, x], 1)?.contiguous()?;
        let part = wider.try_index((.., ..x.dim(1)))?;
        Ok(vec![x.clone(), by_columns, part])
    }
}
