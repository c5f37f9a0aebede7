//! The released arithmetic, one kernel after another.

use mlx_rs::{Array, Dtype, ops, ops::indexing::TryIndexOp};

use super::{attention::attend, windows};
use crate::{
    backend::{
        Matrix, Param,
        functions::{gelu, gelu_tanh, quick_gelu, silu},
        kernels, lanes, resample,
    },
    contract::{At, Operation, Scoring, Step, Steps},
    error::{Error, Result},
};

/// The released arithmetic.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

impl Steps for Plain {
    fn run(&self, _at: At, step: Step) -> Result<Array> {
        match step {
            Step::Product { x, weight, bias } => product(x, weight, bias),
            Step::Convolve { x, weight, bias, stride, padding } => {
                added(convolved(x, &weight.to(x.dtype())?, stride, padding)?, bias)
            }
            Step::LayerNorm { x, weight, bias, eps, kernel_area } => {
                let (weight, bias) = (weight.to(x.dtype())?, bias.to(x.dtype())?);
                match kernel_area {
                    Some(kernel_area) => kernels::layer_norm_in_groups(x, &weight, &bias, eps, kernel_area),
                    None => kernels::layer_norm(x, &weight, &bias, eps),
                }
            }
            Step::RmsNorm { x, weight, eps } => kernels::rms_norm(x, &weight.to(x.dtype())?, eps),
            Step::Activate { x, function } => lanes::by_rows(x, |x| activated(x, function)),
            Step::Gate { both, function } => {
                let (gate, up) = halves(both)?;
                Ok(activated(&gate, function)?.multiply(up)?)
            }
            Step::Attend { q, k, v, scale, mask } => attend((q, k, v), scale, mask),
            Step::Number { ids } => Ok(ids.clone()),
            Step::Rotate { x, positions, .. } => rotated(x, &positions.cos_sin(x.dtype())?),
            Step::Add { x, y, .. } => Ok(x.add(y)?),
            Step::Resample { table, size, mode, dtype } => resample::bicubic_table(table, size, mode, dtype),
            Step::ResampleRows { rows, size, mode, dtype } => resample::linear_rows(rows, size, mode, dtype),
            Step::Distances { q, table, .. } => Ok(ops::matmul(q, table)?),
            Step::Cut { x, size } => windows::cut(x, size),
            Step::Mend { windows, image } => windows::mend(windows, image),
            Step::Flatten { x } => Ok(x.reshape(&[x.dim(0), x.dim(1) * x.dim(2), x.dim(3)])?),
            Step::Join { parts, axis } => Ok(ops::concatenate(parts, axis)?),
            Step::Take { x, start, end } => Ok(x.try_index((.., start..end))?),
            Step::Lay { tiles, across, down } => laid(tiles, across, down),
            other => routed(other),
        }
    }

    fn together(&self) -> bool {
        false
    }

    fn keeps(&self) -> bool {
        true
    }
}

/// What routers and experts are made of.
fn routed(step: Step) -> Result<Array> {
    match step {
        Step::Score { logits, function: Scoring::Softmax } => Ok(ops::softmax_axis(logits, -1, true)?),
        Step::Score { logits, function: Scoring::Sigmoid } => Ok(ops::sigmoid(logits)?),
        Step::Choose { scores, k } => {
            let order = ops::argpartition_axis(scores.negative()?, k - 1, -1)?;
            Ok(order.try_index((.., ..k))?.view_dtype(Dtype::Int32)?)
        }
        Step::Weigh { scores, chosen, .. } => Ok(scores.take_along_axis(chosen, -1)?),
        Step::Dispatch { rows, .. } => Ok(rows.clone()),
        Step::Combine { outputs, weights, shared } => {
            // The release sums in the router's float32 and rounds once.
            let weighted = outputs.as_dtype(Dtype::Float32)?.multiply(weights.expand_dims(-1)?)?;
            let sum = weighted.sum_axis(1, false)?.as_dtype(outputs.dtype())?;
            Ok(match shared {
                Some(shared) => sum.add(shared)?,
                None => sum,
            })
        }
        _ => Err(Error::input("steps", "a step that is known", "another")),
    }
}

fn product(x: &Array, weight: &Matrix, bias: Option<&Param>) -> Result<Array> {
    if let (Matrix::Floats(weight), Some(bias)) = (weight, bias) {
        // In one step, rounded once, as PyTorch's `addmm`.
        return Ok(ops::addmm(bias.to(x.dtype())?, x, weight.turned(x.dtype())?, 1.0, 1.0)?);
    }
    added(weight.product(x)?, bias)
}

fn added(y: Array, bias: Option<&Param>) -> Result<Array> {
    Ok(match bias {
        Some(bias) => y.add(bias.to(y.dtype())?)?,
        None => y,
    })
}

fn convolved(x: &Array, weight: &Array, stride: i32, [before, after]: [i32; 2]) -> Result<Array> {
    if before == after {
        return Ok(ops::conv2d(x, weight, (stride, stride), (before, before), None, None)?);
    }
    let side = (before, after);
    let padded = ops::pad(x, &[(0, 0), side, side, (0, 0)][..], None, None)?;
    Ok(ops::conv2d(padded, weight, (stride, stride), (0, 0), None, None)?)
}

/// One of the activations of [`Operation`], element by element.
pub(super) fn activated(x: &Array, function: Operation) -> Result<Array> {
    match function {
        Operation::Gelu => gelu(x),
        Operation::GeluTanh => gelu_tanh(x),
        Operation::QuickGelu => quick_gelu(x),
        _ => silu(x),
    }
}

/// \[…, 2·inner\] → two of \[…, inner\].
pub(super) fn halves(both: &Array) -> Result<(Array, Array)> {
    let inner = both.dim(-1) / 2;
    let part = |range: std::ops::Range<i32>| both.try_index((ops::indexing::Ellipsis, range));
    Ok((part(0..inner)?, part(inner..2 * inner)?))
}

/// x·cos + (−x₂, x₁)·sin.
pub(super) fn rotated(x: &Array, (cos, sin): &(Array, Array)) -> Result<Array> {
    let half = x.dim(3) / 2;
    let (first, second) = (x.try_index((.., .., .., ..half))?, x.try_index((.., .., .., half..))?);
    let turned = ops::concatenate(&[second.negative()?, first], 3)?;
    Ok(x.multiply(cos)?.add(turned.multiply(sin)?)?)
}

fn laid(tiles: &Array, across: i32, down: i32) -> Result<Array> {
    let edge = kernels::square_edge(tiles)?;
    let hidden = tiles.dim(2);
    let placed = tiles.reshape(&[down, across, edge, edge, hidden])?.transpose_axes(&[0, 2, 1, 3, 4])?;
    Ok(placed.reshape(&[down * edge, across * edge, hidden])?)
}
