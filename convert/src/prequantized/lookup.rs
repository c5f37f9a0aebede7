//! What each code of a slot becomes: worked out once for a scale and a zero point, then looked up for every weight.
//!
//! A release has far fewer pairs of code and scale than weights: a block of 128 × 128 FP8 weights has 256 codes and one scale.

use half::{bf16, f16};
use safetensors::Dtype;

use crate::error::ConvertError;
use crate::quantize;

use super::packed::Packed;

/// The most bytes that the tables of a row's slots take; rows with more slots are decoded weight by weight.
const MAX_BYTE_LEN: usize = 256 << 10;

/// One table for each slot of a row, kept from row to row while scale and zero point stay.
pub struct Lookup {
    /// The bytes of every code of a slot as [`Packed::dtype`], slot by slot.
    bytes: Vec<u8>,
    /// What each slot's table was made for.
    made_for: Vec<Option<Made>>,
    /// How many codes there are.
    code_count: usize,
    /// Bytes of one code's value.
    size: usize,
    values: Vec<f32>,
}

/// Bits of a scale and a zero point.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Made {
    scale: u32,
    zero: u32,
    /// Whether every code has a value in the dtype.
    fits: bool,
}

impl Lookup {
    /// Tables of `code_count` codes, each worth a value of `dtype`.
    pub fn new(code_count: usize, dtype: Dtype) -> Self {
        let size = dtype.bitsize() / 8;
        Self { bytes: Vec::new(), made_for: Vec::new(), code_count, size, values: Vec::new() }
    }

    /// Makes room for so many slots; whether tables are worth it for them.
    pub fn resize(&mut self, slot_count: usize) -> bool {
        let byte_len = slot_count * self.code_count * self.size;
        if byte_len > MAX_BYTE_LEN {
            return false;
        }
        self.bytes.resize(byte_len, 0);
        self.made_for.resize(slot_count, None);
        true
    }

    /// Whether a table pays for a run of `len` weights: it is there, it is needed again, or the run is longer than the table.
    pub fn pays(&self, slot: usize, scale: f32, zero: f32, len: usize, again: bool) -> bool {
        let known = |made: &Made| (made.scale, made.zero) == (scale.to_bits(), zero.to_bits());
        again || len >= self.code_count || self.made_for[slot].as_ref().is_some_and(known)
    }

    /// Decodes `codes` of `slot` into `out`. False, with nothing written, where some code has no finite value in the dtype: whether that
    /// code occurs must be seen weight by weight.
    pub fn decode(
        &mut self,
        slot: usize,
        (scale, zero): (f32, f32),
        worth: &[f32; 256],
        weight: &Packed,
        codes: &[u8],
        out: &mut [u8],
    ) -> bool {
        let table = slot * self.code_count * self.size..(slot + 1) * self.code_count * self.size;
        let wanted = (scale.to_bits(), zero.to_bits());
        let made = match self.made_for[slot] {
            Some(made) if (made.scale, made.zero) == wanted => made,
            _ => {
                self.values.clear();
                self.values.extend(worth[..self.code_count].iter().map(|worth| (worth - zero) * scale));
                let result: Result<(), ConvertError> = finish(&mut self.values, weight, &mut self.bytes[table.clone()]);
                let made = Made { scale: wanted.0, zero: wanted.1, fits: result.is_ok() };
                self.made_for[slot] = Some(made);
                made
            }
        };
        if made.fits {
            match self.size {
                2 => look_up::<2>(&self.bytes[table], codes, out),
                _ => look_up::<4>(&self.bytes[table], codes, out),
            }
        }
        made.fits
    }
}

fn look_up<const SIZE: usize>(table: &[u8], codes: &[u8], out: &mut [u8]) {
    let table = table.as_chunks::<SIZE>().0;
    let out = out.as_chunks_mut::<SIZE>().0;
    // A table of known length needs no check at each weight.
    if let Ok(table) = <&[[u8; SIZE]; 256]>::try_from(table) {
        out.iter_mut().zip(codes).for_each(|(out, &code)| *out = table[usize::from(code)]);
    } else {
        out.iter_mut().zip(codes).for_each(|(out, &code)| *out = table[usize::from(code)]);
    }
}

/// Rounds to the reference's dtype, then to the one that is asked for.
pub(super) fn finish(values: &mut [f32], weight: &Packed, out: &mut [u8]) -> Result<(), ConvertError> {
    let overflow = |value: f32, dtype: Dtype| ConvertError::Overflow {
        key: weight.key.clone(),
        value: f64::from(value),
        dtype: dtype.to_string(),
    };
    if weight.arithmetic != weight.dtype && weight.arithmetic != Dtype::F32 {
        for value in values.iter_mut() {
            let rounded = match weight.arithmetic {
                Dtype::F16 => f16::from_f32(*value).to_f32(),
                _ => bf16::from_f32(*value).to_f32(),
            };
            if rounded.is_infinite() && value.is_finite() {
                return Err(overflow(*value, weight.arithmetic));
            }
            *value = rounded;
        }
    }
    quantize::store(weight.dtype, values, out).map_err(|value| overflow(value, weight.dtype))
}
