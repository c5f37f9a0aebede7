//! softmax(QKᵀ · scale + mask) V by MLX's kernel, at once or in parts where that is faster.

use mlx_rs::{
    Array, Dtype,
    fast::{self, ScaledDotProductAttentionMask},
    ops,
    ops::indexing::TryIndexOp,
};

use crate::{
    backend::lanes,
    contract::{MadeBias, Mask},
    error::Result,
};

/// From so many positions on, the parts of attention with a bias that is made are single heads; below, whole images.
const MANY_POSITIONS: i32 = 1024;

/// q \[B, heads, T, d\], k and v \[B, kv_heads, S, d\] → \[B, heads, T, d\].
///
/// # Errors
/// When they do not fit.
pub fn attend((q, k, v): (&Array, &Array, &Array), scale: f32, mask: Mask) -> Result<Array> {
    Ok(match mask {
        Mask::None => fast::scaled_dot_product_attention(q, k, v, scale, None, None)?,
        Mask::Causal => {
            fast::scaled_dot_product_attention(q, k, v, scale, ScaledDotProductAttentionMask::Causal, None)?
        }
        Mask::Bias(bias) => fast::scaled_dot_product_attention(q, k, v, scale, bias, None)?,
        Mask::Made(made) => in_parts((q, k, v), scale, made)?,
    })
}

/// How a large bias never stands in memory whole: an image, or a head of an image, at a time on each core.
fn in_parts((q, k, v): (&Array, &Array, &Array), scale: f32, made: &dyn MadeBias) -> Result<Array> {
    let (batch, heads, positions) = (q.dim(0), q.dim(1), q.dim(2));
    let part = |images: (i32, i32), heads: (i32, i32)| -> Result<Array> {
        let cut = |x: &Array| x.try_index((images.0..images.1, heads.0..heads.1));
        let bias = made.bias(images, heads)?;
        Ok(fast::scaled_dot_product_attention(cut(q)?, cut(k)?, cut(v)?, scale, &bias, None)?)
    };
    if !lanes::worthwhile((batch * heads) as usize * (positions * positions) as usize) {
        return part((0, batch), (0, heads));
    }
    if positions < MANY_POSITIONS {
        return Ok(ops::concatenate(&lanes::apart(batch, |at| part((at, at + 1), (0, heads)))?, 0)?);
    }
    // A head of an image has millions of scores: one at a time on each core, none of them kept.
    let each = lanes::apart(batch * heads, |at| {
        let (image, head) = (at / heads, at % heads);
        part((image, image + 1), (head, head + 1))
    })?;
    Ok(ops::concatenate(&each, 1)?.reshape(q.shape())?)
}

/// 0 where the t-th of `tokens` sees the s-th of `seen` (of which the last `tokens` are its own), a large negative number
/// elsewhere. `ahead`: how many tokens beyond itself each sees.
///
/// # Errors
/// MLX's.
pub fn causal_bias(tokens: i32, seen: i32, ahead: i32, dtype: Dtype) -> Result<Array> {
    let start = seen - tokens;
    let bias = |(t, s): (i32, i32)| if s <= start + t + ahead { 0.0 } else { -1e9_f32 };
    let values: Vec<f32> = (0..tokens).flat_map(|t| (0..seen).map(move |s| (t, s))).map(bias).collect();
    Ok(Array::from_slice(&values, &[tokens, seen]).as_dtype(dtype)?)
}
