//! Correct variants: other kernels, another order of sums, another split of the work.
//!
//! Each must change some bit: heads or windows attended to one at a time, or residuals added by halves, give the very numbers, and prove nothing.

use mlx_rs::{Array, Dtype, ops, ops::indexing::TryIndexOp};
use mlxport_model::{
    Result,
    backend::{Matrix, Param, functions::gelu, kernels::scalar},
    contract::{At, Mask, Operation, Scoring, Step, Steps},
    steps::causal_bias,
};

use super::{StepEdit, taken};

/// Every variant that is a matter of steps, with its name for people.
pub const VARIANTS: [(&str, StepEdit); 13] = [
    ("attention as two products, weighted sums divided last", StepEdit::everywhere(attention_by_products)),
    ("attention's weights from the logarithm of their sum", StepEdit::everywhere(attention_by_log_sum)),
    ("norms from means and squares", StepEdit::everywhere(norms_by_moments)),
    ("linear layers over half the depth at a time", StepEdit::everywhere(split_products)),
    ("linear layers over a quarter of the depth at a time", StepEdit::everywhere(quartered_products)),
    ("convolutions as sums of products", StepEdit::everywhere(convolution_by_products)),
    ("sigmoids from exponentials", StepEdit::everywhere(sigmoid_by_exp)),
    ("sigmoids from tanh", StepEdit::everywhere(sigmoid_by_tanh)),
    ("GELU from the other half's", StepEdit::everywhere(gelu_by_complement)),
    ("rotation as a product", StepEdit::everywhere(rotation_by_product)),
    ("position tables resampled rows first", StepEdit::everywhere(tables_rows_first)),
    ("the router's softmax from exponentials", StepEdit::everywhere(router_by_exp)),
    ("experts summed from the last to the first", StepEdit::everywhere(experts_backwards)),
];

/// What is added to all scores, \[B, heads, T, S\] or what broadcasts to it.
fn whole_bias(q: &Array, k: &Array, mask: Mask) -> Result<Option<Array>> {
    Ok(match mask {
        Mask::None => None,
        Mask::Causal => Some(causal_bias(q.dim(2), k.dim(2), 0, q.dtype())?),
        Mask::Bias(bias) => Some(bias.clone()),
        Mask::Made(made) => Some(made.bias((0, q.dim(0)), (0, q.dim(1)))?),
    })
}

/// Scores \[B, heads, T, S\] with bias or mask, and the values of every head. None: the step is another one.
fn scores_of(step: Step) -> Result<Option<(Array, Array)>> {
    let Step::Attend { q, k, v, scale, mask } = step else { return Ok(None) };
    let groups = q.dim(1) / k.dim(1);
    let repeated = |x: &Array| taken(x, 1, (0..x.dim(1) * groups).map(|head| head / groups));
    let (k, v) = (repeated(k)?, repeated(v)?);
    let scores = ops::matmul(q, k.transpose_axes(&[0, 1, 3, 2])?)?.multiply(scalar(scale, q.dtype())?)?;
    let scores = match whole_bias(q, &k, mask)? {
        Some(seen) if seen.dtype() == Dtype::Bool => ops::select(seen, scores, scalar(-1e9, q.dtype())?)?,
        Some(bias) => scores.add(bias)?,
        None => scores,
    };
    Ok(Some((scores, v)))
}

fn attention_by_products(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Some((scores, v)) = scores_of(step)? else { return inner.run(at, step) };
    // Without rounding the weights first: where the scale is a power of two, a softmax between the products is what MLX's kernel does on a CPU.
    let powers = ops::exp(scores.subtract(scores.max_axis(-1, true)?)?)?;
    Ok(ops::matmul(&powers, v)?.divide(powers.sum_axis(-1, true)?)?)
}

fn attention_by_log_sum(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Some((scores, v)) = scores_of(step)? else { return inner.run(at, step) };
    let weights = ops::exp(scores.subtract(scores.logsumexp_axis(-1, true)?)?)?;
    Ok(ops::matmul(&weights, v)?)
}

fn norms_by_moments(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    match step {
        Step::LayerNorm { x, weight, bias, eps, kernel_area: None } => {
            let wide = x.as_dtype(Dtype::Float32)?;
            let centred = wide.subtract(wide.mean_axis(-1, true)?)?;
            let scaled = by_moments(&centred, &weight.to(x.dtype())?, eps)?;
            Ok(scaled.add(bias.to(x.dtype())?)?.as_dtype(x.dtype())?)
        }
        Step::RmsNorm { x, weight, eps } => {
            Ok(by_moments(&x.as_dtype(Dtype::Float32)?, &weight.to(x.dtype())?, eps)?.as_dtype(x.dtype())?)
        }
        _ => inner.run(at, step),
    }
}

/// `x` in float32, which the caller rounds once: so do the kernels.
fn by_moments(x: &Array, weight: &Array, eps: f32) -> Result<Array> {
    let squares = x.multiply(x)?.mean_axis(-1, true)?;
    Ok(x.divide(ops::sqrt(squares.add(scalar(eps, x.dtype())?)?)?)?.multiply(weight)?)
}

fn added(y: Array, bias: Option<&Param>) -> Result<Array> {
    Ok(match bias {
        Some(bias) => y.add(bias.to(y.dtype())?)?,
        None => y,
    })
}

fn split_products(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    match step {
        Step::Product { x, weight: Matrix::Floats(weight), bias } if x.dim(-1) > 1 => {
            let (weight, depth) = (weight.to(x.dtype())?, x.dim(-1));
            let part = |start: i32, end: i32| -> Result<Array> {
                Ok(ops::matmul(taken(x, -1, start..end)?, taken(&weight, -1, start..end)?.t())?)
            };
            added(part(0, depth / 2)?.add(part(depth / 2, depth)?)?, bias)
        }
        _ => inner.run(at, step),
    }
}

fn quartered_products(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    match step {
        Step::Product { x, weight: Matrix::Floats(weight), bias } if x.dim(-1) > 3 => {
            let (weight, depth) = (weight.to(x.dtype())?, x.dim(-1));
            let parts = (0..4).map(|part| -> Result<Array> {
                let depths = part * depth / 4..(part + 1) * depth / 4;
                Ok(ops::matmul(taken(x, -1, depths.clone())?, taken(&weight, -1, depths)?.t())?)
            });
            let sum = parts.reduce(|sum, part| Ok(sum?.add(part?)?)).transpose()?.unwrap_or_else(|| x.clone());
            added(sum, bias)
        }
        _ => inner.run(at, step),
    }
}

fn convolution_by_products(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Convolve { x, weight, bias, stride, padding: [before, after] } = step else {
        return inner.run(at, step);
    };
    let side = (before, after);
    let padded = ops::pad(x, &[(0, 0), side, side, (0, 0)][..], None, None)?;
    // Summed in float32 and rounded once, as the kernel does.
    let wide = weight.to(Dtype::Float32)?;
    let (kh, kw) = (wide.dim(1), wide.dim(2));
    let (height, width) = ((padded.dim(1) - kh) / stride + 1, (padded.dim(2) - kw) / stride + 1);
    let every = |start: i32, count: i32| (0..count).map(move |i| start + i * stride);
    let parts = (0..kh * kw).map(|place| -> Result<Array> {
        let (row, column) = (place / kw, place % kw);
        let seen = taken(&taken(&padded, 1, every(row, height))?, 2, every(column, width))?;
        Ok(ops::matmul(seen.as_dtype(Dtype::Float32)?, wide.try_index((.., row, column))?.t())?)
    });
    let sum = parts.reduce(|sum, part| Ok(sum?.add(part?)?)).transpose()?.unwrap_or_else(|| x.clone());
    added(sum.as_dtype(x.dtype())?, bias)
}

fn sigmoid_by_exp(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    match step {
        Step::Activate { x, function: Operation::QuickGelu } => by_exp(x, 1.702),
        Step::Activate { x, function: Operation::Silu } => by_exp(x, 1.0),
        _ => inner.run(at, step),
    }
}

/// x · (1 + tanh(factor·x / 2)) / 2.
fn sigmoid_by_tanh(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let (x, factor) = match step {
        Step::Activate { x, function: Operation::QuickGelu } => (x, 1.702),
        Step::Activate { x, function: Operation::Silu } => (x, 1.0),
        _ => return inner.run(at, step),
    };
    let half = scalar(0.5, x.dtype())?;
    let tanh = ops::tanh(x.multiply(scalar(factor / 2.0, x.dtype())?)?)?;
    Ok(x.multiply(tanh.multiply(&half)?.add(&half)?)?)
}

/// x / (1 + exp(-factor·x)).
fn by_exp(x: &Array, factor: f32) -> Result<Array> {
    let power = ops::exp(x.multiply(scalar(-factor, x.dtype())?)?)?;
    Ok(x.divide(power.add(scalar(1.0, x.dtype())?)?)?)
}

/// x − x·Φ(−x), which is x·Φ(x).
fn gelu_by_complement(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Activate { x, function: Operation::Gelu } = step else { return inner.run(at, step) };
    // -x·Φ(-x) was made of the opposite: x + that.
    Ok(x.add(gelu(&x.negative()?)?)?)
}

/// Each pair of numbers times the matrix that turns it.
fn rotation_by_product(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Rotate { x, positions, .. } = step else { return inner.run(at, step) };
    let (shape, half) = (x.shape().to_vec(), x.dim(3) / 2);
    let (cos, sin) = positions.cos_sin(x.dtype())?;
    let part = |x: &Array, range: std::ops::Range<i32>| x.try_index((.., .., .., range));
    let (cos, sin) = (part(&cos, 0..half)?, part(&sin, 0..half)?);
    // [B, 1, T, half, 2, 2]: (x₁, x₂) becomes (x₁·cos − x₂·sin, x₁·sin + x₂·cos).
    let rows = [ops::stack(&[&cos, &sin], 4)?, ops::stack(&[&sin.negative()?, &cos], 4)?];
    let turning = ops::stack(&rows, 4)?;
    let pairs = ops::stack(&[part(x, 0..half)?, part(x, half..2 * half)?], 4)?.expand_dims(4)?;
    let turned = ops::matmul(pairs, turning)?.squeeze_axes(&[4])?;
    Ok(turned.swap_axes(3, 4)?.reshape(&shape)?)
}

/// The other axis first: that of the turned table.
fn tables_rows_first(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Resample { table, size, mode, dtype } = step else { return inner.run(at, step) };
    let turned = table.swap_axes(1, 2)?;
    Ok(inner.run(at, Step::Resample { table: &turned, size, mode, dtype })?.swap_axes(1, 2)?)
}

fn router_by_exp(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Score { logits, function: Scoring::Softmax } = step else { return inner.run(at, step) };
    let powers = ops::exp(logits.subtract(logits.max_axis(-1, true)?)?)?;
    Ok(powers.divide(powers.sum_axis(-1, true)?)?)
}

fn experts_backwards(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Combine { outputs, weights, shared } = step else { return inner.run(at, step) };
    let weighted = outputs.as_dtype(Dtype::Float32)?.multiply(weights.expand_dims(-1)?)?;
    let each = (0..outputs.dim(1)).rev().map(|j| weighted.try_index((.., j)));
    let sum = each.reduce(|sum, next| sum?.add(next?)).transpose()?.unwrap_or(weighted.clone());
    let sum = sum.as_dtype(outputs.dtype())?;
    Ok(match shared {
        Some(shared) => sum.add(shared)?,
        None => sum,
    })
}
