//! mxfp4, mxfp8 and nvfp4: tiny floats under one scale per group.
//!
//! - **mxfp4**, groups of 32: `s = max|value| / 6`, rounded to the source's dtype. The scale is the smallest power of two that is no
//!   smaller than `s` (1 where `s` is 0), stored as exponent + 127 (E8M0). Codes: `value / scale` as E2M1, ties to the smaller magnitude,
//!   zeros without sign.
//! - **mxfp8**, groups of 32: the same with 448 for 6, codes in E4M3: ties to even, zeros with their sign.
//! - **nvfp4**, groups of 16: `s = max|value| / 6`, rounded to the source's dtype, is stored as E4M3 and is that number. Codes:
//!   `value / scale`, rounded to the source's dtype, as E2M1. A scale that rounds to zero (a group below 6 · 2⁻¹⁰) makes every code 0.
//!
//! Codes come back as `code × scale` in the output's dtype. Answers to the fallbacks of `fp_quantize` and `fp_dequantize` in mlx/ops.cpp,
//! which are what MLX runs on a CPU, and to `ToFP8` and `FromFP8` in mlx/backend/cpu/unary_ops.h.

use super::element::{Element, load_group};
use super::minifloat::{ceil_log2, from_e2m1, from_e4m3, power_of_two, to_e2m1, to_e2m1_afar, to_e4m3};
use super::pack::{pack, unpack};
use super::{Mode, Quantization};

/// E2M1's largest number.
const E2M1_MAX: f32 = 6.0;
/// E4M3's largest number.
const E4M3_MAX: f32 = 448.0;
/// E8M0 is the exponent plus this.
const E8M0_BIAS: i32 = 127;
/// Up to here an f32's distances to E2M1's numbers are exact.
const EXACT_DISTANCES: f32 = 4_194_304.0;

/// Quantizes whole groups; false when a value is not finite.
pub(super) fn quantize_mxfp4<E: Element>(values: &[u8], weight: &mut [u8], scales: &mut [u8]) -> bool {
    quantize_groups::<E, 4, 32>(values, weight, scales, |values, codes| {
        let (byte, scale) = shared_power::<E>(values, E2M1_MAX);
        for (code, value) in codes.iter_mut().zip(values) {
            *code = to_e2m1(value / scale);
        }
        byte
    })
}

/// Quantizes whole groups; false when a value is not finite.
pub(super) fn quantize_mxfp8<E: Element>(values: &[u8], weight: &mut [u8], scales: &mut [u8]) -> bool {
    quantize_groups::<E, 8, 32>(values, weight, scales, |values, codes| {
        let (byte, scale) = shared_power::<E>(values, E4M3_MAX);
        for (code, value) in codes.iter_mut().zip(values) {
            *code = to_e4m3(value / scale);
        }
        byte
    })
}

/// Quantizes whole groups; false when a value is not finite.
pub(super) fn quantize_nvfp4<E: Element>(values: &[u8], weight: &mut [u8], scales: &mut [u8]) -> bool {
    quantize_groups::<E, 4, 16>(values, weight, scales, |values, codes| {
        let largest = largest(values);
        let byte = to_e4m3(E::round(largest / E2M1_MAX));
        let scale = from_e4m3(byte);
        if scale == 0.0 {
            *codes = [0; 16];
        } else if largest / scale < EXACT_DISTANCES {
            // Cheap rounding: what is too small for it is far below ¼ and becomes 0, and float16 cannot overflow (65504 / 448 < 2⁸).
            for (code, value) in codes.iter_mut().zip(values) {
                *code = to_e2m1(E::round_digits(value / scale));
            }
        } else {
            for (code, value) in codes.iter_mut().zip(values) {
                *code = to_e2m1_afar(E::round(value / scale));
            }
        }
        byte
    })
}

/// Codes of each group of G by `codes_of`, which returns the scale's byte, packed with B bits.
#[inline(always)]
fn quantize_groups<E: Element, const B: usize, const G: usize>(
    values: &[u8],
    weight: &mut [u8],
    scales: &mut [u8],
    codes_of: impl Fn(&[f32; G], &mut [u8; G]) -> u8,
) -> bool {
    let groups = E::split(values).as_chunks::<G>().0.iter();
    for ((raw, weight), scale) in groups.zip(weight.chunks_exact_mut(G / 8 * B)).zip(scales) {
        if !E::all_finite(raw) {
            return false;
        }
        let mut codes = [0; G];
        *scale = codes_of(&load_group::<E, G>(raw), &mut codes);
        pack::<B>(&codes, weight);
    }
    true
}

/// max|value|, found in eight lanes.
#[inline(always)]
fn largest(values: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 8];
    for chunk in values.as_chunks::<8>().0 {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if value.abs() > *lane { value.abs() } else { *lane };
        }
    }
    lanes.into_iter().fold(0.0, f32::max)
}

/// The exponent of a group's power of two; 0 for a group that is all zero, or rounds to it.
#[inline(always)]
fn shared_exponent<E: Element>(values: &[f32], code_max: f32) -> i32 {
    let wanted = E::round(largest(values) / code_max);
    if wanted == 0.0 { 0 } else { ceil_log2(wanted) }
}

/// A group's power of two, as E8M0 and as a number. Dividing by it is exact, or so small that the code is zero either way: the
/// rounding to the source's dtype that MLX does there changes nothing.
#[inline(always)]
fn shared_power<E: Element>(values: &[f32], code_max: f32) -> (u8, f32) {
    let exponent = shared_exponent::<E>(values, code_max);
    // Below −127 this wraps, as on x86-64 in MLX: `first_wrapped_group` tells.
    ((exponent + E8M0_BIAS) as u8, power_of_two(exponent))
}

/// The first group whose exponent does not fit E8M0.
pub(super) fn first_wrapped_group<E: Element>(q: Quantization, values: &[u8]) -> Option<usize> {
    let code_max = match q.mode() {
        Mode::Mxfp4 => E2M1_MAX,
        Mode::Mxfp8 => E4M3_MAX,
        Mode::Affine | Mode::Nvfp4 => return None,
    };
    let mut groups = E::split(values).as_chunks::<32>().0.iter();
    groups.position(|raw| shared_exponent::<E>(&load_group::<E, 32>(raw), code_max) < -E8M0_BIAS)
}

/// `code × scale` in the output's dtype.
pub(super) fn dequantize_mxfp4<E: Element>(weight: &[u8], scales: &[u8], out: &mut [u8]) {
    dequantize_groups::<E, 4, 32>(weight, scales, out, power_of_e8m0::<E>, from_e2m1);
}

/// `code × scale` in the output's dtype.
pub(super) fn dequantize_mxfp8<E: Element>(weight: &[u8], scales: &[u8], out: &mut [u8]) {
    dequantize_groups::<E, 8, 32>(weight, scales, out, power_of_e8m0::<E>, from_e4m3);
}

/// `code × scale` in the output's dtype.
pub(super) fn dequantize_nvfp4<E: Element>(weight: &[u8], scales: &[u8], out: &mut [u8]) {
    dequantize_groups::<E, 4, 16>(weight, scales, out, from_e4m3, from_e2m1);
}

/// An E8M0 scale as the dtype has it: float16 knows no more than 2⁻²⁴ … 2¹⁵, and 255 is 2¹²⁸, which none has.
fn power_of_e8m0<E: Element>(byte: u8) -> f32 {
    E::round(power_of_two(i32::from(byte) - E8M0_BIAS))
}

#[inline(always)]
fn dequantize_groups<E: Element, const B: usize, const G: usize>(
    weight: &[u8],
    scales: &[u8],
    out: &mut [u8],
    scale_of: impl Fn(u8) -> f32,
    number_of: impl Fn(u8) -> f32,
) {
    let groups = E::split_mut(out).as_chunks_mut::<G>().0.iter_mut();
    for ((weight, &scale), out) in weight.chunks_exact(G / 8 * B).zip(scales).zip(groups) {
        let scale = scale_of(scale);
        let mut codes = [0; G];
        unpack::<B>(weight, &mut codes);
        for (out, code) in out.iter_mut().zip(codes) {
            *out = E::store(number_of(code) * scale);
        }
    }
}
