//! A block of a quantized weight: the codes of some rows and columns, with their scales and zero points.

use std::ops::Range;

use safetensors::Dtype;

use crate::checkpoint::TensorSource;
use crate::error::ConvertError;
use crate::transforms::cast;

/// Rows and columns of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Area {
    /// Rows, those of all matrices of a stack counted through.
    pub rows: Range<u64>,
    /// Columns; they begin at a multiple of 32.
    pub cols: Range<u64>,
}

impl Area {
    /// How many rows.
    pub fn height(&self) -> usize {
        (self.rows.end - self.rows.start) as usize
    }

    /// How many columns.
    pub fn width(&self) -> usize {
        (self.cols.end - self.cols.start) as usize
    }
}

/// What a form's `fill` fills. Buffers are used again from block to block.
#[derive(Debug)]
pub struct Block {
    /// Whether codes are read at all; scales and zero points always are.
    pub codes_wanted: bool,
    /// Codes, row by row.
    pub codes: Vec<u8>,
    /// Which slot each column's scale and zero point are in.
    pub slots: Vec<usize>,
    /// How many slots a row has.
    pub slot_count: usize,
    /// Scales, row by row, one for each slot.
    pub scales: Vec<f32>,
    /// Zero points alike; empty where all are 0.
    pub zeros: Vec<f32>,
}

impl Default for Block {
    fn default() -> Self {
        Self {
            codes_wanted: true,
            codes: Vec::new(),
            slots: Vec::new(),
            slot_count: 0,
            scales: Vec::new(),
            zeros: Vec::new(),
        }
    }
}

impl Block {
    /// The columns' runs that share a slot: (slot, columns of the block).
    pub fn runs(&self) -> impl Iterator<Item = (usize, Range<usize>)> + '_ {
        let mut at = 0;
        self.slots.chunk_by(|left, right| left == right).map(move |run| {
            let range = at..at + run.len();
            at = range.end;
            (run[0], range)
        })
    }
}

/// Cuts elements `first .. first + count` of rows of `cols` into areas of at most `block` rows and columns, which begin at a multiple of 32
/// columns; the second argument is how many of an area's first columns were not asked for.
pub fn for_each_area(
    first: u64,
    count: u64,
    cols: u64,
    block: (u64, u64),
    mut each: impl FnMut(Area, usize) -> Result<(), ConvertError>,
) -> Result<(), ConvertError> {
    let (mut at, end) = (first, first + count);
    while at < end {
        let (row, col) = (at / cols, at % cols);
        let left = end - at;
        // Whole rows as far as they go; else what is wanted of one row.
        let rows = if col == 0 && left >= cols { (left / cols).min(block.0) } else { 1 };
        let until = if rows > 1 { cols } else { (col + left).min(cols) };
        let mut from = col / 32 * 32;
        let mut skip = (col - from) as usize;
        while from < until {
            let to = (from + block.1).min(until);
            each(Area { rows: row..row + rows, cols: from..to }, skip)?;
            (from, skip) = (to, 0);
        }
        at += if rows > 1 { rows * cols } else { until - col };
    }
    Ok(())
}

/// One of a weight's tensors, as far as decoding needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its key.
    pub key: String,
    /// Its dtype.
    pub dtype: Dtype,
}

impl Stored {
    /// Its elements `range`, as stored.
    pub fn bytes(&self, source: &dyn TensorSource, range: Range<u64>, out: &mut Vec<u8>) -> Result<(), ConvertError> {
        let size = (self.dtype.bitsize() / 8) as u64;
        out.resize(((range.end - range.start) * size) as usize, 0);
        source.read_at(&self.key, range.start * size, out)
    }

    /// Its elements `range` as float32, appended to `out`. Floats of 8 to 32 bits, powers of two (E8M0, also where they are stored as
    /// `U8`) and small integers are exact.
    pub fn floats(
        &self,
        source: &dyn TensorSource,
        range: Range<u64>,
        buffer: &mut Vec<u8>,
        out: &mut Vec<f32>,
    ) -> Result<(), ConvertError> {
        self.bytes(source, range, buffer)?;
        match self.dtype {
            Dtype::F8_E8M0 | Dtype::U8 => out.extend(buffer.iter().map(|&byte| power_of_two(byte))),
            Dtype::I8 => out.extend(buffer.iter().map(|&byte| f32::from(byte as i8))),
            Dtype::I32 => out.extend(buffer.as_chunks().0.iter().map(|&raw| i32::from_le_bytes(raw) as f32)),
            dtype => {
                let mut wide = vec![0; buffer.len() / (dtype.bitsize() / 8) * 4];
                // float32 holds every value of a narrower float.
                let _ = cast::convert(dtype, Dtype::F32, buffer, &mut wide);
                out.extend(wide.as_chunks().0.iter().map(|&raw| f32::from_le_bytes(raw)));
            }
        }
        Ok(())
    }
}

/// The value of an E8M0 byte: 2ⁿ⁻¹²⁷, and NaN for 255.
fn power_of_two(byte: u8) -> f32 {
    match byte {
        0 => f32::from_bits(1 << 22),
        255 => f32::NAN,
        byte => f32::from_bits(u32::from(byte) << 23),
    }
}

/// The code that begins at bit `at` of a little-endian stream; `bits` is at most 8.
#[inline(always)]
pub fn code(stream: &[u8], at: usize, bits: u32) -> u8 {
    let (byte, shift) = (at / 8, at % 8);
    let low = u32::from(stream[byte]);
    let high = stream.get(byte + 1).map_or(0, |&high| u32::from(high));
    ((low | high << 8) >> shift & ((1 << bits) - 1)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_straddle_bytes() {
        // 3 bits each: 5, 2, 7, 1, …
        let stream = 0b001_111_010_101_u32.to_le_bytes();
        let codes: Vec<u8> = (0..4).map(|at| code(&stream, 3 * at, 3)).collect();
        assert_eq!(codes, [5, 2, 7, 1]);
        assert_eq!(code(&[0xab], 0, 8), 0xab);
    }

    #[test]
    fn exponents_are_powers_of_two() {
        assert_eq!((power_of_two(127), power_of_two(130), power_of_two(0)), (1.0, 8.0, 2_f32.powi(-127)));
        assert!(power_of_two(255).is_nan());
    }

    #[test]
    fn areas_cover_every_element_once() {
        for (first, count, cols, block) in
            [(0, 640, 64, (4, 32)), (7, 100, 33, (2, 32)), (70, 5, 64, (1024, 64)), (5, 1000, 100, (3, 96))]
        {
            let mut seen = vec![0; (first + count) as usize + 1];
            for_each_area(first, count, cols, block, |area, skip| {
                assert!(area.cols.start % 32 == 0 && area.width() as u64 <= block.1 && area.height() as u64 <= block.0);
                for row in area.rows.clone() {
                    for col in area.cols.start + skip as u64..area.cols.end {
                        seen[(row * cols + col) as usize] += 1;
                    }
                }
                Ok(())
            })
            .expect("nothing fails");
            assert!(seen[..first as usize].iter().all(|&n| n == 0), "{first}");
            assert!(seen[first as usize..(first + count) as usize].iter().all(|&n| n == 1), "{first} {count}");
        }
    }
}
