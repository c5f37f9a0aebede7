//! Element conversions: f64, f32, f16, bf16 and the two common 8-bit floats into f32, f16 and bf16, rounded to nearest even, once.
//!
//! A finite value that would become infinite is an error: a converter must not quietly lose a weight. NaN and infinities that are in
//! the source stay what they are.

use half::{bf16, f16};
use safetensors::Dtype;

use crate::checkpoint::TensorSource;
use crate::error::ConvertError;

use super::gather::{Scratch, gather};
use super::view::View;

/// Elements converted at a time.
const WINDOW_ELEMENTS: usize = 1 << 17;

/// Fills `out` with the view's elements from `first` on, as `dtype`.
pub(crate) fn read_as(
    source: &dyn TensorSource,
    view: &View,
    first: u64,
    dtype: Dtype,
    out: &mut [u8],
    scratch: &mut Scratch,
) -> Result<(), ConvertError> {
    if view.dtype == dtype {
        return gather(source, view, first, out, &mut scratch.block);
    }
    let (from, to) = (view.dtype.bitsize() / 8, dtype.bitsize() / 8);
    let mut at = first;
    for piece in out.chunks_mut(WINDOW_ELEMENTS * to) {
        let count = piece.len() / to;
        scratch.window.resize(count * from, 0);
        gather(source, view, at, &mut scratch.window, &mut scratch.block)?;
        convert(view.dtype, dtype, &scratch.window, piece).map_err(|value| ConvertError::Overflow {
            key: view.key.clone(),
            value,
            dtype: dtype.to_string(),
        })?;
        at += count as u64;
    }
    Ok(())
}

/// As [`read_as`], with a number added to every value in the dtype that it is stored in (in float32 where that is another than float32,
/// float16 and bfloat16): so ports add it, before they cast.
pub(crate) fn read_sum(
    source: &dyn TensorSource,
    view: &View,
    plus: i32,
    first: u64,
    dtype: Dtype,
    out: &mut [u8],
    scratch: &mut Scratch,
) -> Result<(), ConvertError> {
    let size = dtype.bitsize() / 8;
    let mut at = first;
    for piece in out.chunks_mut(WINDOW_ELEMENTS * size) {
        let count = piece.len() / size;
        let mut sums = vec![0; count * 4];
        read_as(source, view, at, Dtype::F32, &mut sums, scratch)?;
        for sum in sums.as_chunks_mut::<4>().0 {
            *sum = (f32::from_le_bytes(*sum) + plus as f32).to_le_bytes();
        }
        let too_large = |value| ConvertError::Overflow { key: view.key.clone(), value, dtype: dtype.to_string() };
        let own = if matches!(view.dtype, Dtype::F16 | Dtype::BF16) { view.dtype } else { Dtype::F32 };
        let mut rounded = vec![0; count * own.bitsize() / 8];
        convert(Dtype::F32, own, &sums, &mut rounded).map_err(too_large)?;
        if own == dtype {
            piece.copy_from_slice(&rounded);
        } else {
            convert(own, dtype, &rounded, piece).map_err(too_large)?;
        }
        at += count as u64;
    }
    Ok(())
}

/// Converts little-endian `source` elements of dtype `from` into `out` as dtype `to`. Both are float dtypes (the plan converts no other)
/// and the slices hold the same number of elements.
///
/// # Errors
/// The first finite value that is infinite as `to`.
pub fn convert(from: Dtype, to: Dtype, source: &[u8], out: &mut [u8]) -> Result<(), f64> {
    let narrowed = match from {
        Dtype::F64 => return shorten(source.as_chunks::<8>().0, to, out),
        Dtype::F32 => narrow(source.as_chunks::<4>().0, f32::from_le_bytes, to, out),
        Dtype::F16 => {
            let widen = |bytes| f16::from_le_bytes(bytes).to_f32();
            narrow(source.as_chunks::<2>().0, widen, to, out)
        }
        // An e5m2 is the upper byte of the float16 of the same value.
        Dtype::F8_E5M2 => {
            let widen = |[byte]: [u8; 1]| f16::from_le_bytes([0, byte]).to_f32();
            narrow(source.as_chunks::<1>().0, widen, to, out)
        }
        Dtype::F8_E4M3 => narrow(source.as_chunks::<1>().0, |[byte]| widen_e4m3(byte), to, out),
        _ => {
            let widen = |bytes| bf16::from_le_bytes(bytes).to_f32();
            narrow(source.as_chunks::<2>().0, widen, to, out)
        }
    };
    narrowed.map_err(f64::from)
}

/// The value of a float8 e4m3fn: 4 bits of exponent (bias 7), 3 of mantissa, no infinity, NaN where all seven are ones.
fn widen_e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (u32::from(byte >> 3 & 15), f32::from(byte & 7));
    // The least bit is worth 2^-9 up to exponent 1, and twice as much with every one after; 127 is f32's bias.
    let unit = f32::from_bits((exponent.max(1) + 117) << 23);
    let size = match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * unit,
        _ => (8.0 + mantissa) * unit,
    };
    if byte >= 0x80 { -size } else { size }
}

/// From f64. On the way to 16 bits a value is first cut to f32 with its last bit set if anything was lost ("round to odd"): what is
/// rounded to nearest afterwards is then what the f64 itself would be, because f32 has more than two bits to spare.
fn shorten(source: &[[u8; 8]], to: Dtype, out: &mut [u8]) -> Result<(), f64> {
    if to == Dtype::F32 {
        for (value, out) in source.iter().zip(out.as_chunks_mut::<4>().0) {
            let value = f64::from_le_bytes(*value);
            let rounded = value as f32;
            if rounded.is_infinite() && value.is_finite() {
                return Err(value);
            }
            *out = rounded.to_le_bytes();
        }
        return Ok(());
    }
    let size = to.bitsize() / 8;
    // One at a time, so that an error tells the f64 and not what it was cut to.
    source.iter().zip(out.chunks_exact_mut(size)).try_for_each(|(value, out)| {
        let value = f64::from_le_bytes(*value);
        narrow(&[cut_to_odd(value).to_le_bytes()], f32::from_le_bytes, to, out).map_err(|_| value)
    })
}

/// The f64 towards zero as f32, with the last bit set where that is not exact. NaN and infinities stay.
fn cut_to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    if value.is_nan() || f64::from(nearest) == value {
        return nearest;
    }
    let away = f64::from(nearest).abs() > value.abs();
    f32::from_bits((nearest.to_bits() - u32::from(away)) | 1)
}

fn narrow<const N: usize>(
    source: &[[u8; N]],
    widen: impl Fn([u8; N]) -> f32,
    to: Dtype,
    out: &mut [u8],
) -> Result<(), f32> {
    match to {
        Dtype::F32 => {
            for (value, out) in source.iter().zip(out.as_chunks_mut::<4>().0) {
                *out = widen(*value).to_le_bytes();
            }
        }
        Dtype::F16 => {
            for (value, out) in source.iter().zip(out.as_chunks_mut::<2>().0) {
                let value = widen(*value);
                let rounded = f16::from_f32(value);
                if rounded.is_infinite() && value.is_finite() {
                    return Err(value);
                }
                *out = rounded.to_le_bytes();
            }
        }
        _ => {
            for (value, out) in source.iter().zip(out.as_chunks_mut::<2>().0) {
                let value = widen(*value);
                let rounded = bf16::from_f32(value);
                if rounded.is_infinite() && value.is_finite() {
                    return Err(value);
                }
                *out = rounded.to_le_bytes();
            }
        }
    }
    Ok(())
}
