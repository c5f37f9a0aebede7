//! Affine quantization: b-bit integers on a grid that has zero on it, `code × scale + bias`.
//!
//! In f32, whatever the source: `scale` is (max − min) / (2ᵇ − 1), at least 10⁻⁷; negated when the maximum is the end further from zero
//! (or both are as far), so that codes count from that end, the *edge*. `q0 = rint(edge / scale)` is how many steps zero lies from it;
//! where that is not 0, the scale is widened or narrowed to `edge / q0`, which puts zero on the grid exactly, and the bias is the edge;
//! where it is, the bias is 0. Codes are `rint((value − bias) / scale)` held within 0 … 2ᵇ − 1. Scale and bias are rounded to the
//! source's dtype only when stored: codes are computed with the unrounded ones. (A range beyond f32 makes the scale infinite and all
//! codes 0, as in MLX.)
//!
//! Answers to `quantize` in mlx/backend/cpu/quantized.cpp and to the fallback of `affine_dequantize` in mlx/ops.cpp.

use super::Quantization;
use super::element::{Element, load_group};
use super::pack::{pack, unpack};

/// What a kernel for one width and group size is given and fills.
struct Buffers<'a> {
    values: &'a [u8],
    weight: &'a mut [u8],
    scales: &'a mut [u8],
    biases: &'a mut [u8],
}

/// Calls a kernel that is compiled for each width and group size.
macro_rules! with_constants {
    ($q:expr, $kernel:ident::<$element:ident>($argument:expr)) => {
        match ($q.bits(), $q.group_size()) {
            (2, group) => with_constants!(@group 2, group, $kernel, $element, $argument),
            (3, group) => with_constants!(@group 3, group, $kernel, $element, $argument),
            (4, group) => with_constants!(@group 4, group, $kernel, $element, $argument),
            (5, group) => with_constants!(@group 5, group, $kernel, $element, $argument),
            (6, group) => with_constants!(@group 6, group, $kernel, $element, $argument),
            (_, group) => with_constants!(@group 8, group, $kernel, $element, $argument),
        }
    };
    (@group $bits:literal, $group:ident, $kernel:ident, $element:ident, $argument:expr) => {
        match $group {
            32 => $kernel::<$element, $bits, 32>($argument),
            64 => $kernel::<$element, $bits, 64>($argument),
            _ => $kernel::<$element, $bits, 128>($argument),
        }
    };
}

/// Quantizes whole groups; false when a value is not finite.
pub(super) fn quantize<E: Element>(
    q: Quantization,
    values: &[u8],
    weight: &mut [u8],
    scales: &mut [u8],
    biases: &mut [u8],
) -> bool {
    // Wider vectors where the processor has them: the same operations on the same numbers, and the same bits.
    pulp::Arch::new().dispatch(|| with_constants!(q, quantize_groups::<E>(Buffers { values, weight, scales, biases })))
}

#[inline(always)]
fn quantize_groups<E: Element, const B: usize, const G: usize>(to: Buffers<'_>) -> bool {
    let groups = E::split(to.values).as_chunks::<G>().0.iter();
    let weights = to.weight.chunks_exact_mut(G / 8 * B);
    let grids = E::split_mut(to.scales).iter_mut().zip(E::split_mut(to.biases));
    for ((raw, weight), (stored_scale, stored_bias)) in groups.zip(weights).zip(grids) {
        if !E::all_finite(raw) {
            return false;
        }
        let values = load_group::<E, G>(raw);
        let (scale, bias) = grid::<B>(&values);
        let mut codes = [0; G];
        for (code, value) in codes.iter_mut().zip(values) {
            *code = nearest::<B>((value - bias) / scale);
        }
        pack::<B>(&codes, weight);
        *stored_scale = E::store(scale);
        *stored_bias = E::store(bias);
    }
    true
}

/// The highest code, as a number.
const fn last_code<const B: usize>() -> f32 {
    ((1_u32 << B) - 1) as f32
}

/// Scale and bias of a group, unrounded.
#[inline(always)]
fn grid<const B: usize>(values: &[f32]) -> (f32, f32) {
    let (min, max) = range(values);
    let step = (max - min) / last_code::<B>();
    let step = if step < 1e-7 { 1e-7 } else { step };
    let (scale, edge) = if min.abs() > max.abs() { (step, min) } else { (-step, max) };
    let steps = (edge / scale).round_ties_even();
    if steps == 0.0 { (scale, 0.0) } else { (edge / steps, edge) }
}

/// Smallest and largest, found in eight lanes: the order does not change them.
#[inline(always)]
fn range(values: &[f32]) -> (f32, f32) {
    let (mut min, mut max) = ([f32::INFINITY; 8], [f32::NEG_INFINITY; 8]);
    for chunk in values.as_chunks::<8>().0 {
        for lane in 0..8 {
            min[lane] = if chunk[lane] < min[lane] { chunk[lane] } else { min[lane] };
            max[lane] = if chunk[lane] > max[lane] { chunk[lane] } else { max[lane] };
        }
    }
    (min.into_iter().fold(f32::INFINITY, f32::min), max.into_iter().fold(f32::NEG_INFINITY, f32::max))
}

/// The code nearest to `steps`, ties to even, held within what B bits can say.
#[inline(always)]
fn nearest<const B: usize>(steps: f32) -> u8 {
    // Holding first and rounding then is the same: both ends are whole. From 2²³ on, f32 has whole numbers only, so the sum is the
    // rounded number, and its last bits are the code.
    let held = if steps < 0.0 { 0.0 } else { steps };
    let held = if held > last_code::<B>() { last_code::<B>() } else { held };
    (held + 8_388_608.0).to_bits() as u8
}

/// What [`dequantize_groups`] is given and fills.
struct Codes<'a> {
    weight: &'a [u8],
    scales: &'a [u8],
    biases: &'a [u8],
    out: &'a mut [u8],
}

/// `code × scale`, rounded, `+ bias`, rounded.
pub(super) fn dequantize<E: Element>(q: Quantization, weight: &[u8], scales: &[u8], biases: &[u8], out: &mut [u8]) {
    with_constants!(q, dequantize_groups::<E>(Codes { weight, scales, biases, out }));
}

fn dequantize_groups<E: Element, const B: usize, const G: usize>(from: Codes<'_>) {
    let weights = from.weight.chunks_exact(G / 8 * B);
    let grids = E::split(from.scales).iter().zip(E::split(from.biases));
    let groups = E::split_mut(from.out).as_chunks_mut::<G>().0.iter_mut();
    for ((weight, (&scale, &bias)), out) in weights.zip(grids).zip(groups) {
        let (scale, bias) = (E::load(scale), E::load(bias));
        let mut codes = [0; G];
        unpack::<B>(weight, &mut codes);
        for (out, code) in out.iter_mut().zip(codes) {
            *out = E::store(E::round(f32::from(code) * scale) + bias);
        }
    }
}
