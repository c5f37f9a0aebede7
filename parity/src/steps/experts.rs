//! Faults of routers and experts.

use mlx_rs::{Array, Dtype, ops, ops::indexing::TryIndexOp};
use mlxport_model::{
    Result,
    contract::{At, Step, Steps},
};

/// The product in bfloat16.
pub fn product_in_bf16(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Product { x, weight, .. } = step else { return inner.run(at, step) };
    let low = |x: &Array| x.as_dtype(Dtype::Bfloat16);
    Ok(ops::matmul(low(x)?, low(&weight.floats(x.dtype())?)?.t())?.as_dtype(x.dtype())?)
}

/// Softmax over the chosen experts only.
pub fn softmax_of_the_chosen(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Weigh { logits, chosen, .. } = step else { return inner.run(at, step) };
    Ok(ops::softmax_axis(logits.take_along_axis(chosen, -1)?, -1, true)?)
}

/// Experts from the second best on.
pub fn best_passed_over(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Choose { scores, k } = step else { return inner.run(at, step) };
    if !at.name.is_empty() {
        return inner.run(at, step);
    }
    let order = ops::argsort_axis(scores.negative()?, -1)?;
    Ok(order.try_index((.., 1..=k))?.as_dtype(Dtype::Int32)?)
}

/// Results as they are, whatever their weights.
pub fn experts_unweighted(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Combine { outputs, weights, shared } = step else { return inner.run(at, step) };
    inner.run(at, Step::Combine { outputs, weights: &ops::ones_like(weights)?, shared })
}

/// Weights on what experts are given, not on what they return.
pub fn weights_on_input(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    match step {
        Step::Dispatch { rows, weights, slots } => {
            let gates = weights.reshape(&[-1])?.take_axis(Array::from_slice(slots, &[slots.len() as i32]), 0)?;
            Ok(rows.multiply(gates.expand_dims(-1)?.as_dtype(rows.dtype())?)?)
        }
        _ => experts_unweighted(inner, at, step),
    }
}

/// Routed experts alone.
pub fn shared_missing(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Combine { outputs, weights, .. } = step else { return inner.run(at, step) };
    inner.run(at, Step::Combine { outputs, weights, shared: None })
}
