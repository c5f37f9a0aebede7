//! The computations every system is made of, each as MLX's own kernel and, where a [`Variant`] asks for it, by other steps
//! that are just as right.

use mlx_rs::{
    Array, Dtype,
    fast::{self, ScaledDotProductAttentionMask},
    ops,
    ops::indexing::TryIndexOp,
};

use crate::{
    error::Result,
    fault::{Planted, Variant},
};

/// What attention leaves out or adds.
pub enum Mask<'a> {
    /// Every token sees every token.
    None,
    /// Every token sees those before it and itself.
    Causal,
    /// Added to the scores, \[B, heads, T, S\] or what broadcasts to it.
    Bias(&'a Array),
}

/// Queries, keys and values of one packed projection: B·T·3·heads·d numbers in that order → three of \[B, heads, T, d\].
pub fn by_head(qkv: &Array, [batch, tokens]: [i32; 2], [heads, head_dim]: [i32; 2]) -> Result<[Array; 3]> {
    let qkv = qkv.reshape(&[batch, tokens, 3, heads, head_dim])?.transpose_axes(&[2, 0, 3, 1, 4])?;
    let parts = ops::split_equal(qkv, 3, 0)?;
    let [q, k, v] = [0, 1, 2].map(|i| parts[i].squeeze_axes(&[0]));
    Ok([q?, k?, v?])
}

/// softmax(QKᵀ · scale + mask) V with q \[B, heads, T, d\], k and v \[B, kv_heads, S, d\] → \[B, heads, T, d\].
pub fn attention(planted: Planted, (q, k, v): (&Array, &Array, &Array), scale: f32, mask: &Mask<'_>) -> Result<Array> {
    if planted.by(Variant::AttentionByProducts) {
        return by_products((q, k, v), scale, mask);
    }
    if planted.by(Variant::AttentionByHead) && q.dim(1) == k.dim(1) {
        let head = |x: &Array, at: i32| Ok::<Array, crate::Error>(x.try_index((.., at..at + 1))?);
        let one = |at: i32| {
            let bias = if let Mask::Bias(bias) = mask { Some(head(bias, at)?) } else { None };
            let mask = bias.as_ref().map_or_else(|| mask.without_bias(), Mask::Bias);
            fused((&head(q, at)?, &head(k, at)?, &head(v, at)?), scale, &mask)
        };
        return Ok(ops::concatenate(&(0..q.dim(1)).map(one).collect::<Result<Vec<_>>>()?, 1)?);
    }
    fused((q, k, v), scale, mask)
}

impl Mask<'_> {
    fn without_bias(&self) -> Mask<'static> {
        if matches!(self, Self::Causal) { Mask::Causal } else { Mask::None }
    }
}

fn fused((q, k, v): (&Array, &Array, &Array), scale: f32, mask: &Mask<'_>) -> Result<Array> {
    Ok(match mask {
        Mask::None => fast::scaled_dot_product_attention(q, k, v, scale, None, None)?,
        Mask::Causal => {
            fast::scaled_dot_product_attention(q, k, v, scale, ScaledDotProductAttentionMask::Causal, None)?
        }
        Mask::Bias(bias) => fast::scaled_dot_product_attention(q, k, v, scale, *bias, None)?,
    })
}

fn by_products((q, k, v): (&Array, &Array, &Array), scale: f32, mask: &Mask<'_>) -> Result<Array> {
    let groups = q.dim(1) / k.dim(1);
    let (k, v) = (repeat_heads(k, groups)?, repeat_heads(v, groups)?);
    let scores = ops::matmul(q, k.transpose_axes(&[0, 1, 3, 2])?)?.multiply(scalar(scale, q.dtype())?)?;
    let scores = match mask {
        Mask::None => scores,
        Mask::Causal => scores.add(causal_bias(q.dim(2), k.dim(2), 0, q.dtype())?)?,
        Mask::Bias(bias) => scores.add(*bias)?,
    };
    Ok(ops::matmul(ops::softmax_axis(scores, -1, true)?, v)?)
}

/// Every head `count` times in a row: \[B, kv_heads, S, d\] → \[B, kv_heads · count, S, d\].
fn repeat_heads(x: &Array, count: i32) -> Result<Array> {
    let heads: Vec<i32> = (0..x.dim(1) * count).map(|head| head / count).collect();
    Ok(x.take_axis(Array::from_slice(&heads, &[heads.len() as i32]), 1)?)
}

/// 0 where the t-th of `tokens` sees the s-th of `seen` (of which the last `tokens` are its own), a large negative number
/// elsewhere. `ahead`: how many tokens beyond itself each sees.
pub fn causal_bias(tokens: i32, seen: i32, ahead: i32, dtype: Dtype) -> Result<Array> {
    let start = seen - tokens;
    let bias = |(t, s): (i32, i32)| if s <= start + t + ahead { 0.0 } else { -1e9_f32 };
    let values: Vec<f32> = (0..tokens).flat_map(|t| (0..seen).map(move |s| (t, s))).map(bias).collect();
    Ok(Array::from_slice(&values, &[tokens, seen]).as_dtype(dtype)?)
}

/// (x − mean) / √(variance + eps) · weight + bias over the last axis.
pub fn layer_norm(planted: Planted, x: &Array, weight: &Array, bias: &Array, eps: f32) -> Result<Array> {
    if planted.by(Variant::NormsByMoments) {
        let wide = x.as_dtype(Dtype::Float32)?;
        let centred = wide.subtract(wide.mean_axis(-1, true)?)?;
        return Ok(by_moments(&centred, weight, eps)?.add(bias)?.as_dtype(x.dtype())?);
    }
    Ok(fast::layer_norm(x, Some(weight), Some(bias), eps)?)
}

/// [`layer_norm`] of rows that an unfold of `places` made, some of which may be zeros it was filled up with: MLX's kernel adds a row's equal
/// squares one by one to a large sum and is off by 1e-5 then. Here they are added in `places` groups.
pub fn layer_norm_in_groups(x: &Array, weight: &Array, bias: &Array, eps: f32, places: i32) -> Result<Array> {
    let wide = x.as_dtype(Dtype::Float32)?;
    let (mut groups, width) = (wide.shape().to_vec(), wide.dim(-1));
    groups.pop();
    groups.extend([places, width / places]);
    let mean = |x: &Array| x.reshape(&groups)?.mean_axis(-1, false)?.mean_axis(-1, true);
    let centred = wide.subtract(mean(&wide)?)?;
    let deviation = ops::sqrt(mean(&centred.multiply(&centred)?)?.add(scalar(eps, Dtype::Float32)?)?)?;
    Ok(centred.divide(deviation)?.multiply(weight)?.add(bias)?.as_dtype(x.dtype())?)
}

/// x / √(mean of squares + eps) · weight over the last axis.
pub fn rms_norm(planted: Planted, x: &Array, weight: &Array, eps: f32) -> Result<Array> {
    if planted.by(Variant::NormsByMoments) {
        Ok(by_moments(&x.as_dtype(Dtype::Float32)?, weight, eps)?.as_dtype(x.dtype())?)
    } else {
        Ok(fast::rms_norm(x, Some(weight), eps)?)
    }
}

/// `x` in float32, which the caller rounds once: so do the kernels.
fn by_moments(x: &Array, weight: &Array, eps: f32) -> Result<Array> {
    let squares = x.multiply(x)?.mean_axis(-1, true)?;
    Ok(x.divide(ops::sqrt(squares.add(scalar(eps, x.dtype())?)?)?)?.multiply(weight)?)
}

/// x Wᵀ: \[…, in\] with W \[out, in\] → \[…, out\].
pub fn product(planted: Planted, x: &Array, weight: &Array) -> Result<Array> {
    let depth = weight.dim(1);
    if planted.by(Variant::SplitProducts) && depth > 1 {
        let half = depth / 2;
        let first = ops::matmul(last_axis(x, 0, half)?, last_axis(weight, 0, half)?.t())?;
        return Ok(first.add(ops::matmul(last_axis(x, half, depth)?, last_axis(weight, half, depth)?.t())?)?);
    }
    if planted.by(Variant::TransposedWeights) {
        // (W xᵀ)ᵀ: the operands change places, and with them the kernel's blocking.
        let rows = x.reshape(&[-1, depth])?;
        let mut shape = x.shape().to_vec();
        *shape.last_mut().unwrap_or(&mut 0) = weight.dim(0);
        return Ok(ops::matmul(weight.contiguous()?, rows.t())?.t().reshape(&shape)?);
    }
    Ok(ops::matmul(x, weight.t())?)
}

fn last_axis(x: &Array, start: i32, end: i32) -> Result<Array> {
    let places: Vec<i32> = (start..end).collect();
    Ok(x.take_axis(Array::from_slice(&places, &[end - start]), -1)?)
}

/// x \[N, H, W, in\] by weight \[out, kh, kw, in\] → \[N, H′, W′, out\]; zeros on every side.
pub fn conv2d(planted: Planted, x: &Array, weight: &Array, stride: i32, padding: i32) -> Result<Array> {
    if !planted.by(Variant::ConvByProducts) {
        return Ok(ops::conv2d(x, weight, (stride, stride), (padding, padding), None, None)?);
    }
    let sides = [(0, 0), (padding, padding), (padding, padding), (0, 0)];
    let x = ops::pad(x, &sides[..], None, None)?;
    let (kh, kw) = (weight.dim(1), weight.dim(2));
    let (height, width) = ((x.dim(1) - kh) / stride + 1, (x.dim(2) - kw) / stride + 1);
    let every = |start: i32, count: i32| -> Array {
        let places: Vec<i32> = (0..count).map(|i| start + i * stride).collect();
        Array::from_slice(&places, &[count])
    };
    // Summed in float32 and rounded once, as the kernel does.
    let wide = weight.as_dtype(Dtype::Float32)?;
    let mut sum: Option<Array> = None;
    for place in 0..kh * kw {
        let (row, column) = (place / kw, place % kw);
        let seen = x.take_axis(every(row, height), 1)?.take_axis(every(column, width), 2)?;
        let part = ops::matmul(seen.as_dtype(Dtype::Float32)?, wide.try_index((.., row, column))?.t())?;
        sum = Some(match sum {
            Some(sum) => sum.add(part)?,
            None => part,
        });
    }
    Ok(sum.unwrap_or_else(|| x.clone()).as_dtype(x.dtype())?)
}

/// x + y.
pub fn residual(planted: Planted, x: &Array, y: &Array) -> Result<Array> {
    if planted.by(Variant::ResidualsByHalves) {
        let half = scalar(0.5, x.dtype())?;
        return Ok(x.multiply(&half)?.add(y.multiply(&half)?)?.divide(half)?);
    }
    Ok(x.add(y)?)
}

/// Rows moved on by `by`, the last ones to the front.
pub fn roll(x: &Array, by: i32) -> Result<Array> {
    let rows = x.dim(0);
    let places: Vec<i32> = (0..rows).map(|row| (row - by).rem_euclid(rows)).collect();
    Ok(x.take_axis(Array::from_slice(&places, &[rows]), 0)?)
}

/// A constant in the dtype of what it meets, so that nothing is promoted.
pub fn scalar(value: f32, dtype: Dtype) -> Result<Array> {
    Ok(Array::from_f32(value).as_dtype(dtype)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{self, Place};

    /// Whole numbers, whose sums are exact in any order; on Linux products by one row or column take a way of their own
    /// (`xtask/src/setup/linux/native/blas.cpp`).
    #[test]
    fn products_by_vectors_are_products_however_they_lie() -> Result<()> {
        runtime::use_device(Place::Cpu)?;
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
