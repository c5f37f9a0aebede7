//! Faults of the decoder's steps.

use mlx_rs::{Array, Dtype, ops, ops::indexing::TryIndexOp};
use mlxport_model::{
    Result,
    contract::{At, Mask, Step, Steps},
    steps::causal_bias,
};

use super::taken;

/// Every token sees every token.
pub fn mask_missing(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Attend { q, k, v, scale, .. } = step else { return inner.run(at, step) };
    inner.run(at, Step::Attend { q, k, v, scale, mask: Mask::None })
}

/// Every token sees only those before it and itself.
pub fn mask_causal(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Attend { q, k, v, scale, .. } = step else { return inner.run(at, step) };
    inner.run(at, Step::Attend { q, k, v, scale, mask: Mask::Causal })
}

/// Every token sees the next one, too.
pub fn mask_sees_next(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Attend { q, k, v, scale, .. } = step else { return inner.run(at, step) };
    let bias = causal_bias(q.dim(2), k.dim(2), 1, q.dtype())?;
    inner.run(at, Step::Attend { q, k, v, scale, mask: Mask::Bias(&bias) })
}

/// The first token is hidden from all but itself.
pub fn mask_hides_first(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Attend { q, k, v, scale, .. } = step else { return inner.run(at, step) };
    let (tokens, seen) = (q.dim(2), k.dim(2));
    let bias = causal_bias(tokens, seen, 0, q.dtype())?.add(hide_first(tokens, seen, q.dtype())?)?;
    inner.run(at, Step::Attend { q, k, v, scale, mask: Mask::Bias(&bias) })
}

fn hide_first(tokens: i32, seen: i32, dtype: Dtype) -> Result<Array> {
    let start = seen - tokens;
    let hidden = |(t, s): (i32, i32)| if s == 0 && start + t > 0 { -1e9_f32 } else { 0.0 };
    let values: Vec<f32> = (0..tokens).flat_map(|t| (0..seen).map(move |s| (t, s))).map(hidden).collect();
    Ok(Array::from_slice(&values, &[tokens, seen]).as_dtype(dtype)?)
}

/// Key heads tiled among the query heads, not repeated one by one.
pub fn key_heads_tiled(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Attend { q, k, v, scale, mask } = step else { return inner.run(at, step) };
    let (heads, kv_heads) = (q.dim(1), k.dim(1));
    let tiled = |x: &Array| taken(x, 1, (0..heads).map(|head| head % kv_heads));
    inner.run(at, Step::Attend { q, k: &tiled(k)?, v: &tiled(v)?, scale, mask })
}

/// Scores as they are.
pub fn scores_unscaled(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Attend { q, k, v, mask, .. } = step else { return inner.run(at, step) };
    inner.run(at, Step::Attend { q, k, v, scale: 1.0, mask })
}

/// The last token that the cache held stands for the one before it.
pub fn cache_stale(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Attend { q, k, v, scale, mask } = step else { return inner.run(at, step) };
    let held = k.dim(2) - q.dim(2);
    if held < 2 {
        return inner.run(at, step);
    }
    let stale = |x: &Array| taken(x, 2, (0..x.dim(2)).map(|token| if token == held - 1 { held - 2 } else { token }));
    inner.run(at, Step::Attend { q, k: &stale(k)?, v: &stale(v)?, scale, mask })
}

/// Neighbours are pairs, not halves.
pub fn rotated_neighbours(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Rotate { x, positions, .. } = step else { return inner.run(at, step) };
    let (shape, half) = (x.shape().to_vec(), x.dim(3) / 2);
    let pairs = x.reshape(&[shape[0], shape[1], shape[2], half, 2])?;
    let (first, second) = (pairs.try_index((.., .., .., .., 0))?, pairs.try_index((.., .., .., .., 1))?);
    let table = |t: &Array| t.try_index((.., .., ..half))?.as_dtype(x.dtype())?.expand_dims(1);
    let (cos, sin) = positions.tables();
    let (cos, sin) = (table(cos)?, table(sin)?);
    let one = first.multiply(&cos)?.subtract(second.multiply(&sin)?)?;
    let two = second.multiply(&cos)?.add(first.multiply(&sin)?)?;
    Ok(ops::stack(&[one, two], 4)?.reshape(&shape)?)
}

/// Rotation the other way round: x·cos + (x₂, −x₁)·sin.
pub fn rotated_reversed(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Rotate { x, positions, .. } = step else { return inner.run(at, step) };
    let half = x.dim(3) / 2;
    let (first, second) = (x.try_index((.., .., .., ..half))?, x.try_index((.., .., .., half..))?);
    let (cos, sin) = positions.cos_sin(x.dtype())?;
    let turned = ops::concatenate(&[second, first.negative()?], 3)?;
    Ok(x.multiply(cos)?.add(turned.multiply(sin)?)?)
}

/// Only keys are rotated.
pub fn queries_not_rotated(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Rotate { x, queries, .. } = step else { return inner.run(at, step) };
    if queries == 0 {
        return inner.run(at, step);
    }
    if queries == x.dim(1) {
        return Ok(x.clone());
    }
    let rotated = inner.run(at, step)?;
    Ok(ops::concatenate(&[x.try_index((.., ..queries))?, rotated.try_index((.., queries..))?], 1)?)
}

/// The first token stands at 1.
pub fn numbered_from_one(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Number { ids } = step else { return inner.run(at, step) };
    inner.run(at, Step::Number { ids: &ids.add(Array::from_int(1))? })
}

/// The first of the new tokens stands at 0, whatever is held already.
pub fn numbered_anew(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Number { ids } = step else { return inner.run(at, step) };
    inner.run(at, Step::Number { ids: &ids.subtract(ids.try_index((.., ..1))?)? })
}
