//! Element conversions: bf16, f16 and f32 into one another, rounded to nearest even by the `half` crate.
//!
//! A finite value that would become infinite is an error: a converter must not quietly lose a weight. NaN and infinities that are in
//! the source stay what they are.

use half::{bf16, f16};
use safetensors::Dtype;

use crate::checkpoint::TensorSource;
use crate::error::ConvertError;

use super::View;
use super::gather::{Scratch, gather};

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

/// Converts little-endian `source` elements of dtype `from` into `out` as dtype `to`. Both are float dtypes (the plan converts no other)
/// and the slices hold the same number of elements.
///
/// # Errors
/// The first finite value that is infinite as `to`.
pub fn convert(from: Dtype, to: Dtype, source: &[u8], out: &mut [u8]) -> Result<(), f32> {
    match from {
        Dtype::F32 => narrow(source.as_chunks::<4>().0, f32::from_le_bytes, to, out),
        Dtype::F16 => {
            let widen = |bytes| f16::from_le_bytes(bytes).to_f32();
            narrow(source.as_chunks::<2>().0, widen, to, out)
        }
        _ => {
            let widen = |bytes| bf16::from_le_bytes(bytes).to_f32();
            narrow(source.as_chunks::<2>().0, widen, to, out)
        }
    }
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
