//! Steps that look at one element at a time, as one kernel each, by MLX's `compile`: the same operations in the same order and dtypes, launched
//! once, and memory read and written once.
//!
//! On a GPU only: on a CPU MLX would call a C++ compiler while the model runs.

use std::{cell::RefCell, thread::LocalKey};

use mlx_rs::{
    Array,
    error::Exception,
    ops,
    ops::indexing::{IntoStrideBy, TryIndexOp},
    transforms::compile::compile,
};

use crate::{
    backend::functions as activation,
    error::{Error, Result},
};

type Steps = Box<dyn for<'a> FnMut(&'a [Array]) -> std::result::Result<Vec<Array>, Exception>>;

thread_local! {
    // Any shape by one trace, as nothing in them depends on it; the rotation is kept for every shape it has met.
    static GATED: RefCell<Steps> = RefCell::new(Box::new(compile(gated_steps, true)));
    static GELU: RefCell<Steps> = RefCell::new(Box::new(compile(gelu_steps, true)));
    static QUICK_GELU: RefCell<Steps> = RefCell::new(Box::new(compile(quick_gelu_steps, true)));
    static ROTATED: RefCell<Steps> = RefCell::new(Box::new(compile(rotated_steps, false)));
    static SUMMED: RefCell<Steps> = RefCell::new(Box::new(compile(summed_steps, true)));
}

/// silu(gate) · up.
pub fn gated(gate: &Array, up: &Array) -> Result<Array> {
    call(&GATED, &[gate.clone(), up.clone()])
}

/// [`activation::gelu`].
pub fn gelu(x: &Array) -> Result<Array> {
    call(&GELU, std::slice::from_ref(x))
}

/// [`activation::quick_gelu`].
pub fn quick_gelu(x: &Array) -> Result<Array> {
    call(&QUICK_GELU, std::slice::from_ref(x))
}

/// x·cos + (x₂, x₁)·turning with x \[B, heads, 1, d\]; cos and `turning`, (−sin, sin), are \[B, 1, 1, d\] of x's dtype.
pub fn rotated(x: &Array, cos: &Array, turning: &Array) -> Result<Array> {
    call(&ROTATED, &[x.clone(), cos.clone(), turning.clone()])
}

/// Experts' results \[T, k, hidden\] times their weights \[T, k\] in float32, summed, and the shared experts' added where there are any:
/// \[T, hidden\] of the results' dtype, in which the last sum is made.
pub fn summed(outputs: &Array, weights: &Array, shared: Option<&Array>) -> Result<Array> {
    let inputs: Vec<Array> = [Some(outputs), Some(weights), shared].into_iter().flatten().cloned().collect();
    call(&SUMMED, &inputs)
}

fn call(steps: &'static LocalKey<RefCell<Steps>>, inputs: &[Array]) -> Result<Array> {
    let outputs = steps.with(|steps| (*steps.borrow_mut())(inputs))?;
    outputs.into_iter().next().ok_or_else(|| Error::input("compiled steps", "an output", "none"))
}

fn gated_steps(inputs: &[Array]) -> std::result::Result<Vec<Array>, Exception> {
    let (gate, up) = (&inputs[0], &inputs[1]);
    Ok(vec![gate.multiply(ops::sigmoid(gate)?)?.multiply(up)?])
}

fn gelu_steps(inputs: &[Array]) -> std::result::Result<Vec<Array>, Exception> {
    of_one(activation::gelu, inputs)
}

fn quick_gelu_steps(inputs: &[Array]) -> std::result::Result<Vec<Array>, Exception> {
    of_one(activation::quick_gelu, inputs)
}

fn of_one(f: fn(&Array) -> Result<Array>, inputs: &[Array]) -> std::result::Result<Vec<Array>, Exception> {
    f(&inputs[0]).map(|y| vec![y]).map_err(|error| Exception::custom(error.to_string()))
}

fn rotated_steps(inputs: &[Array]) -> std::result::Result<Vec<Array>, Exception> {
    let (x, cos, turning) = (&inputs[0], &inputs[1], &inputs[2]);
    // The other half is a view, of which a kernel reads as of any other; nothing is laid side by side.
    let apart = |t: &Array| t.reshape(&[t.dim(0), t.dim(1), 1, 2, t.dim(3) / 2]);
    let halves = apart(x)?;
    let exchanged = halves.try_index((ops::indexing::Ellipsis, (..).stride_by(-1), ..))?;
    let turned = halves.multiply(apart(cos)?)?.add(exchanged.multiply(apart(turning)?)?)?;
    Ok(vec![turned.reshape(x.shape())?])
}

fn summed_steps(inputs: &[Array]) -> std::result::Result<Vec<Array>, Exception> {
    let (outputs, weights) = (&inputs[0], &inputs[1]);
    let weighted = outputs.as_dtype(weights.dtype())?.multiply(weights.expand_dims(-1)?)?;
    let sum = weighted.sum_axis(-2, false)?.as_dtype(outputs.dtype())?;
    Ok(vec![match inputs.get(2) {
        Some(shared) => sum.add(shared)?,
        None => sum,
    }])
}

#[cfg(test)]
mod tests {
    use mlx_rs::{Dtype, random};

    use super::*;

    /// Compiled and step by step, in both dtypes; a compiler may fuse a product with a sum and round once less.
    #[test]
    fn compiled_steps_compute_what_the_steps_compute() {
        crate::runtime::use_device(crate::runtime::DeviceKind::Cpu).expect("a CPU");
        let key = random::key(3).expect("a key");
        for dtype in [Dtype::Float32, Dtype::Bfloat16] {
            let noise = |shape: &[i32]| {
                let x = random::normal::<f32>(shape, None, None, Some(&key)).expect("noise");
                x.as_dtype(dtype).expect("a cast")
            };
            let same =
                |got: Array, steps: fn(&[Array]) -> std::result::Result<Vec<Array>, Exception>, inputs: &[Array]| {
                    let want = steps(inputs).expect("steps").remove(0);
                    assert_eq!((got.shape(), got.dtype()), (want.shape(), dtype));
                    let floats = |x: &Array| -> Vec<f32> {
                        let x = x.as_dtype(Dtype::Float32).expect("a cast").contiguous().expect("contiguous");
                        x.try_as_slice::<f32>().expect("floats").to_vec()
                    };
                    let step = if dtype == Dtype::Float32 { 1e-6 } else { 2e-2 };
                    for (got, want) in floats(&got).iter().zip(floats(&want)) {
                        assert!((got - want).abs() <= step * (1.0 + want.abs()), "{got} {want}");
                    }
                };
            // One trace serves shapes it has not seen.
            for shape in [&[2, 1, 12][..], &[3, 5]] {
                let both = [noise(shape), noise(shape)];
                same(gated(&both[0], &both[1]).expect("gated"), gated_steps, &both);
                same(gelu(&both[0]).expect("gelu"), gelu_steps, &both[..1]);
                same(quick_gelu(&both[0]).expect("quick_gelu"), quick_gelu_steps, &both[..1]);
            }
            let turn = [noise(&[2, 3, 1, 8]), noise(&[2, 1, 1, 8]), noise(&[2, 1, 1, 8])];
            same(rotated(&turn[0], &turn[1], &turn[2]).expect("rotated"), rotated_steps, &turn);
            let sum = [noise(&[2, 3, 8]), noise(&[2, 3]).as_dtype(Dtype::Float32).expect("a cast"), noise(&[2, 8])];
            same(summed(&sum[0], &sum[1], None).expect("summed"), summed_steps, &sum[..2]);
            same(summed(&sum[0], &sum[1], Some(&sum[2])).expect("summed"), summed_steps, &sum);
            let sum = [noise(&[5, 2, 4]), noise(&[5, 2]).as_dtype(Dtype::Float32).expect("a cast"), noise(&[5, 4])];
            same(summed(&sum[0], &sum[1], None).expect("summed"), summed_steps, &sum[..2]);
            same(summed(&sum[0], &sum[1], Some(&sum[2])).expect("summed"), summed_steps, &sum);
        }
    }
}
