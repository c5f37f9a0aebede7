//! Weights whose codes are packed along the rows into 32-bit words: compressed-tensors' `pack-quantized`.
//!
//! A row's codes are one little-endian stream of bits, as MLX's are. A code is the signed number plus half the range. Zero points are packed
//! down the columns of their own matrix, in the same way.

use safetensors::Dtype;

use crate::checkpoint::TensorSource;
use crate::error::ConvertError;

use super::block::{Area, Block, Stored, code};

/// A stack of matrices packed along the rows, with a scale for each group of columns of each row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// The words, `[matrices, rows, words]`, `I32`.
    pub words: Stored,
    /// The scales, `[matrices, rows or 1, groups]`.
    pub scales: Stored,
    /// Zero points, `[matrices, rows × bits / 32, groups]`, `I32`, or one for each scale, `I8`; without them all are 0.
    pub zeros: Option<Stored>,
    /// Which group each column is in, `I32`; without it they come in order.
    pub g_idx: Option<Stored>,
    /// Bits of a code.
    pub bits: u32,
    /// Matrices of the stack.
    pub matrices: u64,
    /// Rows of one matrix.
    pub rows: u64,
    /// Columns of one matrix.
    pub cols: u64,
    /// Groups of a row.
    pub groups: u64,
    /// Columns of a group, where they come in order.
    pub group: u64,
    /// Whether all rows of a matrix share one line of scales.
    pub one_line: bool,
}

impl Rows {
    /// What each code is worth before scale and zero point.
    pub fn table(&self) -> [f32; 256] {
        let half = (1_u32 << (self.bits - 1)) as f32;
        std::array::from_fn(|code| code as f32 - half)
    }

    /// Rows and columns that are well read at once.
    pub fn block_size(&self) -> (u64, u64) {
        const ELEMENTS: u64 = 1 << 16;
        let cols = self.cols.min(ELEMENTS).next_multiple_of(32);
        ((ELEMENTS / cols.max(1)).max(1), cols)
    }

    /// Words of a row.
    pub fn words_per_row(&self) -> u64 {
        (self.cols * u64::from(self.bits)).div_ceil(32)
    }

    /// Reads a block.
    pub fn fill(
        &self,
        source: &dyn TensorSource,
        area: &Area,
        block: &mut Block,
        buffer: &mut Vec<u8>,
    ) -> Result<(), ConvertError> {
        if block.codes_wanted {
            self.codes(source, area, block, buffer)?;
        }
        let groups = self.slots(source, area, block, buffer)?;
        block.scales.clear();
        block.zeros.clear();
        let mut line = Vec::new();
        for row in area.rows.clone() {
            let at = if self.one_line { row / self.rows } else { row } * self.groups;
            line.clear();
            self.scales.floats(source, at..at + self.groups, buffer, &mut line)?;
            block.scales.extend(groups.iter().map(|&group| line[group]));
            if let Some(zeros) = &self.zeros {
                if zeros.dtype == Dtype::I8 {
                    line.clear();
                    zeros.floats(source, at..at + self.groups, buffer, &mut line)?;
                } else {
                    self.zero_line(zeros, source, row, buffer, &mut line)?;
                }
                block.zeros.extend(groups.iter().map(|&group| line[group]));
            }
        }
        Ok(())
    }

    fn codes(
        &self,
        source: &dyn TensorSource,
        area: &Area,
        block: &mut Block,
        buffer: &mut Vec<u8>,
    ) -> Result<(), ConvertError> {
        let bits = u64::from(self.bits);
        let per_row = self.words_per_row();
        let (first, last) = (area.cols.start * bits / 32, (area.cols.end * bits).div_ceil(32));
        block.codes.clear();
        for row in area.rows.clone() {
            self.words.bytes(source, row * per_row + first..row * per_row + last, buffer)?;
            let width = area.width();
            block.codes.extend((0..width).map(|at| code(buffer, at * self.bits as usize, self.bits)));
        }
        Ok(())
    }

    /// Gives each column its slot; the group of each slot.
    fn slots(
        &self,
        source: &dyn TensorSource,
        area: &Area,
        block: &mut Block,
        buffer: &mut Vec<u8>,
    ) -> Result<Vec<usize>, ConvertError> {
        block.slots.clear();
        let Some(g_idx) = &self.g_idx else {
            let first = area.cols.start / self.group;
            let last = (area.cols.end - 1) / self.group;
            block.slots.extend(area.cols.clone().map(|col| (col / self.group - first) as usize));
            block.slot_count = (last - first + 1) as usize;
            return Ok((first as usize..=last as usize).collect());
        };
        g_idx.bytes(source, area.cols.clone(), buffer)?;
        for raw in buffer.as_chunks().0 {
            block.slots.push(known_group(g_idx, i32::from_le_bytes(*raw), self.groups)?);
        }
        block.slot_count = self.groups as usize;
        Ok((0..self.groups as usize).collect())
    }

    /// The zero points of one row, as offsets from the middle of the range (which is what they are stored with).
    fn zero_line(
        &self,
        zeros: &Stored,
        source: &dyn TensorSource,
        row: u64,
        buffer: &mut Vec<u8>,
        line: &mut Vec<f32>,
    ) -> Result<(), ConvertError> {
        let bits = u64::from(self.bits);
        let (matrix, inside) = (row / self.rows, row % self.rows);
        let words = (self.rows * bits).div_ceil(32);
        let (first, last) = (inside * bits / 32, ((inside + 1) * bits).div_ceil(32));
        let base = matrix * words;
        zeros.bytes(source, (base + first) * self.groups..(base + last) * self.groups, buffer)?;
        let half = f32::from(1_u8 << (self.bits - 1));
        let shift = (inside * bits % 32) as usize;
        line.clear();
        let line_len = self.groups as usize * 4;
        for group in 0..self.groups as usize {
            let mut stream = [0; 8];
            for word in 0..(last - first) as usize {
                let from = word * line_len + group * 4;
                stream[word * 4..word * 4 + 4].copy_from_slice(&buffer[from..from + 4]);
            }
            line.push(f32::from(code(&stream, shift, self.bits)) - half);
        }
        Ok(())
    }
}

/// A group that there is, or what `g_idx` says instead.
pub fn known_group(g_idx: &Stored, group: i32, groups: u64) -> Result<usize, ConvertError> {
    match u64::try_from(group) {
        Ok(known) if known < groups => Ok(known as usize),
        _ => Err(ConvertError::BadGroup { key: g_idx.key.clone(), group: i64::from(group), groups }),
    }
}
