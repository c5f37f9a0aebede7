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

use std::marker::PhantomData;

use super::Quantization;
use super::element::Element;
use super::pack::{pack_by, unpack};

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
    let buffers = Buffers { values, weight, scales, biases };
    pulp::Arch::new().dispatch(Groups::<E> { q, buffers, element: PhantomData })
}

/// A kernel's call, compiled for each kind of vectors. (A closure may be compiled once, for the narrowest.)
struct Groups<'a, E> {
    q: Quantization,
    buffers: Buffers<'a>,
    element: PhantomData<E>,
}

impl<E: Element> pulp::WithSimd for Groups<'_, E> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> bool {
        let bits = self.q.bits();
        match self.q.group_size() {
            32 => quantize_groups::<E, 32>(bits, self.buffers),
            64 => quantize_groups::<E, 64>(bits, self.buffers),
            _ => quantize_groups::<E, 128>(bits, self.buffers),
        }
    }
}

/// Values of a block: many groups, so that each step is a long loop of its own, which compilers make vectors of.
const BLOCK: usize = 1024;
/// Groups of a block, where they are smallest.
const MOST_GROUPS: usize = BLOCK / 32;

#[inline(always)]
fn quantize_groups<E: Element, const G: usize>(bits: u32, to: Buffers<'_>) -> bool {
    let (mut values, mut codes) = (Aligned::<BLOCK>::new(), [0; BLOCK]);
    let (mut scales, mut biases) = ([0.0; MOST_GROUPS], [0.0; MOST_GROUPS]);
    let mut lanes = Lanes { low: Aligned::new(), high: Aligned::new(), half: Aligned::new(), quarter: Aligned::new() };
    let blocks = E::split(to.values).chunks(BLOCK).zip(to.weight.chunks_mut(BLOCK / 8 * bits as usize));
    let stored = E::split_mut(to.scales).chunks_mut(BLOCK / G).zip(E::split_mut(to.biases).chunks_mut(BLOCK / G));
    for ((raw, weight), (stored_scales, stored_biases)) in blocks.zip(stored) {
        if !E::all_finite(raw) {
            return false;
        }
        let (values, codes) = (&mut values.0[..raw.len()], &mut codes[..raw.len()]);
        let (scales, biases) = (&mut scales[..raw.len() / G], &mut biases[..raw.len() / G]);
        for (value, &raw) in values.iter_mut().zip(raw) {
            *value = E::load(raw);
        }
        ranges::<G>(values, &mut lanes, biases, scales);
        lay::<G>(bits, values, scales, biases);
        for (code, value) in codes.iter_mut().zip(values) {
            *code = value.to_bits() as u8;
        }
        pack_by(bits, codes, weight);
        store::<E>(scales, stored_scales);
        store::<E>(biases, stored_biases);
    }
    true
}

/// Lays a grid over every group: `biases` and `scales` hold the smallest and the largest values, and then what they are named for;
/// `values` become codes, each in the last bits of a float.
#[inline(always)]
fn lay<const G: usize>(bits: u32, values: &mut [f32], scales: &mut [f32], biases: &mut [f32]) {
    // The highest code, as a number.
    let last = ((1_u32 << bits) - 1) as f32;
    for (bias, scale) in biases.iter_mut().zip(scales.iter_mut()) {
        (*scale, *bias) = grid(last, *bias, *scale);
    }
    let groups = values.as_chunks_mut::<G>().0.iter_mut();
    for (values, (&scale, &bias)) in groups.zip(scales.iter().zip(biases.iter())) {
        for value in values {
            *value = nearest(last, (*value - bias) / scale);
        }
    }
}

#[inline(always)]
fn store<E: Element>(values: &[f32], out: &mut [E::Raw]) {
    for (out, &value) in out.iter_mut().zip(values) {
        *out = E::store(value);
    }
}

/// Scale and bias of a group with this smallest and largest value, unrounded.
#[inline(always)]
fn grid(last: f32, min: f32, max: f32) -> (f32, f32) {
    let step = (max - min) / last;
    let step = if step < 1e-7 { 1e-7 } else { step };
    let (scale, edge) = if min.abs() > max.abs() { (step, min) } else { (-step, max) };
    let steps = (edge / scale).round_ties_even();
    if steps == 0.0 { (scale, 0.0) } else { (edge / steps, edge) }
}

/// Lanes in which a group's smallest and largest are found: as many as the widest vectors have.
const LANES: usize = 16;

/// Aligned, so that no vector lies across two lines of the cache.
#[repr(align(64))]
struct Aligned<const N: usize>([f32; N]);

/// Where [`ranges`] keeps the smallest and the largest values of parts of groups.
struct Lanes {
    low: Aligned<{ LANES * MOST_GROUPS }>,
    high: Aligned<{ LANES * MOST_GROUPS }>,
    half: Aligned<{ LANES / 2 * MOST_GROUPS }>,
    quarter: Aligned<{ LANES / 4 * MOST_GROUPS }>,
}

impl<const N: usize> Aligned<N> {
    const fn new() -> Self {
        Self([0.0; N])
    }
}

/// Smallest and largest of every group; the order in which they are found does not change them.
#[inline(always)]
fn ranges<const G: usize>(values: &[f32], lanes: &mut Lanes, min: &mut [f32], max: &mut [f32]) {
    let Lanes { low: Aligned(low), high: Aligned(high), half: Aligned(half), quarter: Aligned(quarter) } = lanes;
    let each = low.as_chunks_mut::<LANES>().0.iter_mut().zip(high.as_chunks_mut::<LANES>().0);
    for (group, (low, high)) in values.as_chunks::<G>().0.iter().zip(each) {
        let chunks = group.as_chunks::<LANES>().0;
        (*low, *high) = (chunks[0], chunks[0]);
        for chunk in &chunks[1..] {
            for lane in 0..LANES {
                low[lane] = lesser(chunk[lane], low[lane]);
                high[lane] = greater(chunk[lane], high[lane]);
            }
        }
    }
    let count = min.len();
    fold(&low[..LANES * count], half, quarter, min, lesser);
    fold(&high[..LANES * count], half, quarter, max, greater);
}

/// The one of every `LANES` neighbours that `pick` leaves.
#[inline(always)]
fn fold(lanes: &[f32], half: &mut [f32], quarter: &mut [f32], out: &mut [f32], pick: impl Fn(f32, f32) -> f32) {
    let (half, quarter) = (&mut half[..lanes.len() / 2], &mut quarter[..lanes.len() / 4]);
    pairs(lanes, half, &pick);
    pairs(half, quarter, &pick);
    let eighth = &mut half[..lanes.len() / 8];
    pairs(quarter, eighth, &pick);
    pairs(eighth, out, &pick);
}

#[inline(always)]
fn pairs(from: &[f32], to: &mut [f32], pick: impl Fn(f32, f32) -> f32) {
    for ([one, other], to) in from.as_chunks::<2>().0.iter().zip(to) {
        *to = pick(*one, *other);
    }
}

/// One instruction where `f32::min`, which minds NaN, is several.
#[inline(always)]
fn lesser(one: f32, other: f32) -> f32 {
    if one < other { one } else { other }
}

#[inline(always)]
fn greater(one: f32, other: f32) -> f32 {
    if one > other { one } else { other }
}

/// The code nearest to `steps`, ties to even, held within 0 and the last: in the last bits of a float.
#[inline(always)]
fn nearest(last: f32, steps: f32) -> f32 {
    // Holding first and rounding then is the same: both ends are whole. From 2²³ on, f32 has whole numbers only, so the sum is the
    // rounded number, and its last bits are the code.
    let held = if steps < 0.0 { 0.0 } else { steps };
    let held = if held > last { last } else { held };
    held + 8_388_608.0
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
