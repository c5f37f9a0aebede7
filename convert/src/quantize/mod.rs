//! Group quantization, bit for bit what `mx.quantize` and `mx.dequantize` of MLX 0.32.2 make on a CPU; no MLX is needed for it.
//!
//! ```text
//! parameters  which modes, bits and groups there are; shapes and dtypes of what they make
//! element     float32, float16, bfloat16: little-endian bytes ↔ f32, rounding to nearest even
//! pack        codes of 2…8 bits ↔ one little-endian stream of bits
//! minifloat   the codes' own number formats: E2M1, E4M3, E8M0
//! affine      integers on a grid: scale and bias per group
//! scaled      mxfp4, mxfp8, nvfp4: tiny floats under one shared scale per group
//! ```
//!
//! A group is 16 to 128 neighbours along the last axis. It is quantized alone: any split of a tensor between groups gives the same
//! bytes as one call, so a caller may stream.
//!
//! # Layout
//!
//! `weight` is a little-endian stream of bits, read by MLX as `uint32` words: code *i* of a row stands in bits `i·b … i·b + b − 1`, bit
//! *k* being bit `k mod 8` of byte `k / 8`. For 2, 4 and 8 bits that is 16, 8 or 4 whole codes a word, lowest bits first. The others
//! straddle bytes and words: eight codes of 3 bits fill 3 bytes, eight of 5 bits fill 5 bytes, four of 6 bits fill 3 bytes:
//!
//! ```text
//! 3 bits   byte 0: c2₀₁ c1 c0        byte 1: c5₀ c4 c3 c2₂          byte 2: c7 c6 c5₁₂          (high bits left)
//! 5 bits   byte 0: c1₀₋₂ c0          byte 1: c3₀ c2 c1₃₄            byte 2: c4₀₋₃ c3₁₋₄   byte 3: c6₀₁ c5 c4₄   byte 4: c7 c6₂₋₄
//! 6 bits   byte 0: c1₀₁ c0           byte 1: c2₀₋₃ c1₂₋₅            byte 2: c3 c2₄₅
//! ```
//!
//! # What it answers to
//!
//! MLX's CPU: `fast::Quantize::eval_cpu` (mlx/backend/cpu/quantized.cpp) for affine quantization, and for everything else the graphs of
//! small operations in mlx/ops.cpp (`fp_quantize`, `affine_dequantize`, `fp_dequantize`), where every step is rounded to the array's own
//! dtype. The MX scales are those of MLX pull request 4353, which is in the released 0.32.2: rounded **up** to a power of two.
//! Nothing is contracted or reassociated on x86-64: not one multiply-add is fused, and the tests hold it to that.
//!
//! # MLX's GPU kernels are not the same arithmetic
//!
//! Read in the sources (mlx/backend/metal/kernels/{quantized,fp_quantized,fp4,fp8}.h and their CUDA twins), not measured here. We match
//! the CPU; the same weights quantized on a Mac's GPU can differ in these places, and each dequantizes what the other made:
//!
//! - affine: the GPU takes its maximum from 0 upwards. A group of negative numbers only gets the range `[min, 0]`, on the CPU
//!   `[min, max]`: other scale, other codes. Halves are rounded away from zero (`round`), on the CPU to even (`rint`).
//! - affine `dequantize`: the GPU may fuse or widen `scale × code + bias`; the CPU rounds the product to the dtype, then the sum.
//! - mxfp4, nvfp4: in a tie the GPU's E2M1 takes the even code (0.75 → 1), the CPU the smaller magnitude (0.75 → 0.5); the GPU keeps the
//!   sign of what rounds to zero (code 8), the CPU does not.
//! - all three: the GPU multiplies by the scale's reciprocal in f32; the CPU divides, in the source's dtype. The GPU derives the scale in
//!   f32; the CPU rounds `max / 6` or `max / 448` to the source's dtype first, which for bfloat16 can be the next smaller power of two.
//! - MX groups below about 2⁻¹²⁵: see [`first_wrapped_group`].

mod affine;
mod element;
mod minifloat;
mod pack;
mod parameters;
mod scaled;

use safetensors::Dtype;

pub use parameters::{Mode, Quantization};

use element::{Bf16, Element, F16, F32};

/// A weight that is NaN or infinite: no grid can be laid over its group. (MLX writes one anyway, and all of the group is lost.)
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("element {index} is {value}: only finite values can be quantized")]
pub struct NotFinite {
    /// Which element of the values passed, from 0.
    pub index: usize,
    /// NaN or ±infinity.
    pub value: f32,
}

/// Quantizes `values` (whole groups, little-endian `dtype`: F32, F16 or BF16) as `mx.quantize` does.
///
/// Filled, little endian: `weight` (values × bits / 8 bytes), `scales` (one per group; the source's dtype for affine, else one byte),
/// `biases` (one per group in the source's dtype for affine, else empty).
///
/// # Errors
/// The first value that is NaN or infinite. What the buffers hold then is unspecified.
///
/// # Panics
/// When `dtype` is not one of the three, `values` ends within a group, or a buffer has not exactly its size: a caller's mistake, which
/// no input file can bring about.
pub fn quantize(
    q: Quantization,
    dtype: Dtype,
    values: &[u8],
    weight: &mut [u8],
    scales: &mut [u8],
    biases: &mut [u8],
) -> Result<(), NotFinite> {
    check_sizes(q, dtype, values.len(), [weight.len(), scales.len(), biases.len()]);
    match dtype {
        Dtype::F32 => quantize_as::<F32>(q, values, weight, scales, biases),
        Dtype::F16 => quantize_as::<F16>(q, values, weight, scales, biases),
        _ => quantize_as::<Bf16>(q, values, weight, scales, biases),
    }
}

/// Turns codes back into `dtype` as `mx.dequantize(…, dtype=dtype)` does; for affine `dtype` is also that of `scales` and `biases`.
///
/// Sizes and layout are [`quantize`]'s, `out` being its `values`. Any bytes are accepted: a scale of infinity or NaN gives infinities
/// and NaNs where MLX has them (the bits of a NaN are not MLX's).
///
/// # Panics
/// As [`quantize`].
pub fn dequantize(q: Quantization, dtype: Dtype, weight: &[u8], scales: &[u8], biases: &[u8], out: &mut [u8]) {
    check_sizes(q, dtype, out.len(), [weight.len(), scales.len(), biases.len()]);
    match dtype {
        Dtype::F32 => dequantize_as::<F32>(q, weight, scales, biases, out),
        Dtype::F16 => dequantize_as::<F16>(q, weight, scales, biases, out),
        _ => dequantize_as::<Bf16>(q, weight, scales, biases, out),
    }
}

/// Stores float32 `values` as `dtype` (F32, F16 or BF16), little endian, rounded to nearest even.
///
/// # Errors
/// The first finite value that is infinite as `dtype`.
pub(crate) fn store(dtype: Dtype, values: &[f32], out: &mut [u8]) -> Result<(), f32> {
    match dtype {
        Dtype::F32 => store_as::<F32>(values, out),
        Dtype::F16 => store_as::<F16>(values, out),
        _ => store_as::<Bf16>(values, out),
    }
}

fn store_as<E: Element>(values: &[f32], out: &mut [u8]) -> Result<(), f32> {
    let out = E::split_mut(out);
    for (raw, &value) in out.iter_mut().zip(values) {
        *raw = E::store(value);
    }
    if E::all_finite(out) {
        return Ok(());
    }
    let lost = |(raw, value): &(&E::Raw, &f32)| value.is_finite() && !E::load(**raw).is_finite();
    out.iter().zip(values).find(lost).map_or(Ok(()), |(_, &value)| Err(value))
}

/// The float32 of one stored float.
pub(crate) fn load(dtype: Dtype, bytes: &[u8]) -> f32 {
    let first = |values: Option<f32>| values.unwrap_or(f32::NAN);
    match dtype {
        Dtype::F32 => first(F32::split(bytes).first().map(|&raw| F32::load(raw))),
        Dtype::F16 => first(F16::split(bytes).first().map(|&raw| F16::load(raw))),
        _ => first(Bf16::split(bytes).first().map(|&raw| Bf16::load(raw))),
    }
}

/// Packs `codes` (a multiple of 8 of them, a byte each) as MLX's words hold them. `bits` is one of affine's.
pub(crate) fn pack_codes(bits: u32, codes: &[u8], packed: &mut [u8]) {
    pack::pack_by(bits, codes, packed);
}

/// The first group of `values` whose MX scale MLX's CPU cannot write: all of it under about 2⁻¹²⁵ (mxfp4) or 2⁻¹¹⁹ (mxfp8), not all zero.
///
/// E8M0 ends at 2⁻¹²⁷. MLX's GPU kernels stop there; its CPU converts a negative number to `uint8`, which C++ leaves undefined and
/// x86-64 does modulo 256: the group comes back some 2²⁵⁶ times too large. [`quantize`] writes the same bytes as MLX, so whoever
/// writes files should refuse, or zero, what this finds. Never any group of float16, of affine or of nvfp4.
///
/// # Panics
/// When `dtype` is none of F32, F16, BF16.
pub fn first_wrapped_group(q: Quantization, dtype: Dtype, values: &[u8]) -> Option<usize> {
    match dtype {
        Dtype::F32 => scaled::first_wrapped_group::<F32>(q, values),
        Dtype::F16 => None,
        Dtype::BF16 => scaled::first_wrapped_group::<Bf16>(q, values),
        other => panic!("{other:?} cannot be quantized"),
    }
}

/// Panics unless the buffers belong together.
fn check_sizes(q: Quantization, dtype: Dtype, value_bytes: usize, made: [usize; 3]) {
    assert!(matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16), "{dtype:?} cannot be quantized");
    let item = dtype.bitsize() / 8;
    let (bits, group_size) = (q.bits() as usize, q.group_size() as usize);
    assert!(value_bytes.is_multiple_of(group_size * item), "{value_bytes} bytes are not whole groups of {group_size}");
    let groups = value_bytes / (group_size * item);
    let scale = if q.has_biases() { item } else { 1 };
    let bias = if q.has_biases() { item } else { 0 };
    assert_eq!(
        made,
        [groups * group_size / 8 * bits, groups * scale, groups * bias],
        "bytes of weight, scales, biases"
    );
}

fn quantize_as<E: Element>(
    q: Quantization,
    values: &[u8],
    weight: &mut [u8],
    scales: &mut [u8],
    biases: &mut [u8],
) -> Result<(), NotFinite> {
    let done = match q.mode() {
        Mode::Affine => affine::quantize::<E>(q, values, weight, scales, biases),
        Mode::Mxfp4 => scaled::quantize_mxfp4::<E>(values, weight, scales),
        Mode::Mxfp8 => scaled::quantize_mxfp8::<E>(values, weight, scales),
        Mode::Nvfp4 => scaled::quantize_nvfp4::<E>(values, weight, scales),
    };
    // Kernels only say that something was not finite; which it was is looked up here, off the fast path.
    if done { Ok(()) } else { Err(first_not_finite::<E>(values)) }
}

fn first_not_finite<E: Element>(values: &[u8]) -> NotFinite {
    let found = E::split(values).iter().map(|&raw| E::load(raw)).enumerate().find(|(_, value)| !value.is_finite());
    let (index, value) = found.unwrap_or((0, f32::NAN));
    NotFinite { index, value }
}

fn dequantize_as<E: Element>(q: Quantization, weight: &[u8], scales: &[u8], biases: &[u8], out: &mut [u8]) {
    match q.mode() {
        Mode::Affine => affine::dequantize::<E>(q, weight, scales, biases, out),
        Mode::Mxfp4 => scaled::dequantize_mxfp4::<E>(weight, scales, out),
        Mode::Mxfp8 => scaled::dequantize_mxfp8::<E>(weight, scales, out),
        Mode::Nvfp4 => scaled::dequantize_nvfp4::<E>(weight, scales, out),
    }
}
