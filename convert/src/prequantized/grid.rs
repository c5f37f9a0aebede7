//! Weights stored as one code each, with a scale for each block of rows and columns: FP8 and int8.

use std::ops::Range;

use safetensors::Dtype;

use crate::checkpoint::TensorSource;
use crate::error::ConvertError;

use super::block::{Area, Block, Stored};

/// A stack of matrices with a code for each weight; a scale (and a zero point) for each block of a matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    /// The codes, `[matrices, rows, columns]`.
    pub codes: Stored,
    /// The scales, `[matrices, rows / block rows, columns / block columns]`.
    pub scales: Stored,
    /// Zero points of the same shape.
    pub zeros: Option<Stored>,
    /// Rows of one matrix.
    pub rows: u64,
    /// Columns of one matrix.
    pub cols: u64,
    /// How the scales lie over a matrix.
    pub blocks: Blocks,
}

/// Blocks of a matrix that share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    /// Rows of a block (the last may have fewer).
    pub rows: u64,
    /// Columns of a block (the last may have fewer).
    pub cols: u64,
    /// Blocks above one another in a matrix.
    pub down: u64,
    /// Blocks beside one another.
    pub across: u64,
    /// Scales from one matrix of a stack to the next: `down × across`, or 0 where all share them.
    pub per_matrix: u64,
}

impl Blocks {
    /// How a grid of scales `shape` lies over a stack of `matrices` matrices of `rows` × `cols`, in blocks of `declared` rows and columns
    /// where a grid of such blocks has that shape, and otherwise in equal blocks. `None` where the scales do not fit.
    pub fn lay(shape: &[u64], matrices: u64, rows: u64, cols: u64, declared: Option<(u64, u64)>) -> Option<Self> {
        let stacked = matrices > 1;
        let (own, down, across) = match *shape {
            _ if shape.iter().product::<u64>() == 1 => (false, 1, 1),
            [n] if stacked && n == matrices => (true, 1, 1),
            [n] if !stacked && n == rows => (false, n, 1),
            [experts, n] if stacked && experts == matrices && (n == rows || n == 1) => (true, n, 1),
            [down, across] if !stacked => (false, down, across),
            [.., down, across] if shape.iter().product::<u64>() == matrices * down * across => (true, down, across),
            _ => return None,
        };
        let fits = |(height, width): &(u64, u64)| {
            *height > 0 && *width > 0 && rows.div_ceil(*height) == down && cols.div_ceil(*width) == across
        };
        let equal = || {
            let whole = down > 0 && across > 0 && rows.is_multiple_of(down) && cols.is_multiple_of(across);
            whole.then(|| (rows / down, cols / across))
        };
        let (height, width) = declared.filter(fits).or_else(equal)?;
        let per_matrix = if own { down * across } else { 0 };
        Some(Self { rows: height.max(1), cols: width.max(1), down, across, per_matrix })
    }
}

impl Grid {
    /// What each code is worth before scale and zero point.
    pub fn table(&self) -> [f32; 256] {
        values_of(self.codes.dtype)
    }

    /// Rows and columns that are well read at once.
    pub fn block_size(&self) -> (u64, u64) {
        const ELEMENTS: u64 = 1 << 18;
        // A scale for each column or nearly so takes four times the room of a code.
        let cols = self.cols.min(ELEMENTS).next_multiple_of(32);
        ((ELEMENTS / cols.max(1)).max(1), cols)
    }

    /// Reads a block. Its rows may belong to several matrices of the stack.
    pub fn fill(
        &self,
        source: &dyn TensorSource,
        area: &Area,
        block: &mut Block,
        buffer: &mut Vec<u8>,
    ) -> Result<(), ConvertError> {
        if block.codes_wanted {
            self.read_codes(source, area, block, buffer)?;
        }
        let first = area.cols.start / self.blocks.cols;
        let last = (area.cols.end - 1) / self.blocks.cols;
        block.slot_count = (last - first + 1) as usize;
        block.slots.clear();
        block.slots.extend(area.cols.clone().map(|col| (col / self.blocks.cols - first) as usize));
        block.scales.clear();
        block.zeros.clear();
        self.grid(&self.scales, source, area, first..last + 1, buffer, &mut block.scales)?;
        match &self.zeros {
            None => Ok(()),
            Some(zeros) => self.grid(zeros, source, area, first..last + 1, buffer, &mut block.zeros),
        }
    }

    fn read_codes(
        &self,
        source: &dyn TensorSource,
        area: &Area,
        block: &mut Block,
        buffer: &mut Vec<u8>,
    ) -> Result<(), ConvertError> {
        let whole_rows = area.width() as u64 == self.cols;
        if whole_rows {
            let range = area.rows.start * self.cols..area.rows.end * self.cols;
            self.codes.bytes(source, range, &mut block.codes)?;
        } else {
            block.codes.clear();
            for row in area.rows.clone() {
                let first = row * self.cols;
                self.codes.bytes(source, first + area.cols.start..first + area.cols.end, buffer)?;
                block.codes.extend_from_slice(buffer);
            }
        }
        if self.codes.dtype == Dtype::I8 {
            // So that codes count up from 0, as those of packed weights do.
            block.codes.iter_mut().for_each(|code| *code ^= 0x80);
        }
        Ok(())
    }

    /// Appends the numbers in `columns` of a grid's lines, once for each row of the area.
    fn grid(
        &self,
        part: &Stored,
        source: &dyn TensorSource,
        area: &Area,
        columns: Range<u64>,
        buffer: &mut Vec<u8>,
        out: &mut Vec<f32>,
    ) -> Result<(), ConvertError> {
        let Blocks { rows: height, across, per_matrix, .. } = self.blocks;
        let line = |row: u64| row / self.rows * per_matrix + row % self.rows / height * across;
        let width = (columns.end - columns.start) as usize;
        let (begin, end) = (line(area.rows.start), line(area.rows.end - 1) + across);
        let mut lines = Vec::new();
        // Where the rows' lines follow on one another, one read has them all.
        let together = width as u64 == across && begin < end && end - begin <= (area.height() as u64 + 1) * across;
        if together {
            part.floats(source, begin..end, buffer, &mut lines)?;
        }
        let mut seen = None;
        for row in area.rows.clone() {
            let line = line(row);
            if seen.replace(line) == Some(line) {
                out.extend_from_within(out.len() - width..);
            } else if let Some(known) = lines.get((line.wrapping_sub(begin)) as usize..).and_then(|l| l.get(..width)) {
                out.extend_from_slice(known);
            } else {
                part.floats(source, line + columns.start..line + columns.end, buffer, out)?;
            }
        }
        Ok(())
    }
}

/// What the 256 codes of an 8-bit dtype are worth (of `I8`, after its sign bit was turned over).
fn values_of(dtype: Dtype) -> [f32; 256] {
    std::array::from_fn(|code| {
        let byte = code as u8;
        match dtype {
            Dtype::I8 => code as f32 - 128.0,
            Dtype::U8 => code as f32,
            Dtype::F8_E5M2 => minifloat(byte, 2, 16, Specials::Ieee),
            Dtype::F8_E5M2FNUZ => minifloat(byte, 2, 17, Specials::OnlyNan),
            Dtype::F8_E4M3FNUZ => minifloat(byte, 3, 9, Specials::OnlyNan),
            _ => minifloat(byte, 3, 8, Specials::LastIsNan),
        }
    })
}

/// Which codes of an 8-bit float are no numbers.
#[derive(Clone, Copy, PartialEq)]
enum Specials {
    /// The last exponent: infinities and NaNs.
    Ieee,
    /// All ones but for the sign is NaN.
    LastIsNan,
    /// What would be −0 is NaN.
    OnlyNan,
}

/// The value of an 8-bit float with so many bits of mantissa; its smallest normal number is 2^(2 − `bias`).
fn minifloat(byte: u8, mantissa_bits: u32, bias: i32, specials: Specials) -> f32 {
    let magnitude = u32::from(byte & 0x7f);
    let exponent = magnitude >> mantissa_bits;
    let mantissa = (magnitude & ((1 << mantissa_bits) - 1)) as f32;
    let last = 0x7f >> mantissa_bits;
    let whole = (1_u32 << mantissa_bits) as f32;
    // `bias` counts from the smallest exponent that numbers have, 1.
    let unit = 2_f32.powi(exponent.max(1) as i32 + 1 - bias - mantissa_bits as i32);
    let size = match (specials, exponent) {
        (Specials::Ieee, _) if exponent == last && mantissa == 0.0 => f32::INFINITY,
        (Specials::Ieee, _) if exponent == last => f32::NAN,
        (Specials::LastIsNan, _) if magnitude == 0x7f => f32::NAN,
        (Specials::OnlyNan, _) if byte == 0x80 => f32::NAN,
        (_, 0) => mantissa * unit,
        _ => (whole + mantissa) * unit,
    };
    if byte >= 0x80 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bit_floats_have_the_values_of_their_formats() {
        let e4m3 = values_of(Dtype::F8_E4M3);
        assert_eq!((e4m3[0x38], e4m3[0x7e], e4m3[0x01], e4m3[0xb8]), (1.0, 448.0, 2_f32.powi(-9), -1.0));
        assert!(e4m3[0x7f].is_nan() && e4m3[0xff].is_nan());
        let e5m2 = values_of(Dtype::F8_E5M2);
        for (code, value) in e5m2.iter().enumerate() {
            let half = half::f16::from_le_bytes([0, code as u8]).to_f32();
            assert!(*value == half || value.is_nan() && half.is_nan(), "{code:#x}: {value}, {half}");
        }
        let fnuz = values_of(Dtype::F8_E4M3FNUZ);
        assert_eq!((fnuz[0x40], fnuz[0x7f], fnuz[0x01]), (1.0, 240.0, 2_f32.powi(-10)));
        assert!(fnuz[0x80].is_nan());
        let fnuz = values_of(Dtype::F8_E5M2FNUZ);
        assert_eq!((fnuz[0x40], fnuz[0x7f], fnuz[0x01]), (1.0, 57344.0, 2_f32.powi(-17)));
    }

    #[test]
    fn scales_are_laid_over_matrices_as_their_shapes_say() {
        let lay = |shape: &[u64], matrices, rows, cols, declared| {
            Blocks::lay(shape, matrices, rows, cols, declared).map(|b| (b.rows, b.cols, b.down, b.across, b.per_matrix))
        };
        assert_eq!(lay(&[2, 3], 1, 192, 384, Some((128, 128))), Some((128, 128, 2, 3, 0)));
        assert_eq!(lay(&[2, 3], 1, 192, 384, None), Some((96, 128, 2, 3, 0)));
        assert_eq!(lay(&[2, 3], 1, 193, 384, None), None);
        assert_eq!(lay(&[], 1, 5, 7, Some((128, 128))), Some((128, 128, 1, 1, 0)));
        assert_eq!(lay(&[5], 1, 5, 7, None), Some((1, 7, 5, 1, 0)));
        assert_eq!(lay(&[5, 1], 1, 5, 7, None), Some((1, 7, 5, 1, 0)));
        assert_eq!(lay(&[4], 4, 5, 7, None), Some((5, 7, 1, 1, 1)));
        assert_eq!(lay(&[4, 1, 7], 4, 5, 7, None), Some((5, 1, 1, 7, 7)));
        assert_eq!(lay(&[4, 5], 4, 5, 7, None), Some((1, 7, 5, 1, 5)));
        assert_eq!(lay(&[3, 2], 4, 5, 7, None), None);
    }
}
