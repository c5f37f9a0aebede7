//! Weights stored transposed, with codes packed down the columns (GPTQ) or across them (AWQ).
//!
//! The matrix that is stored has a row for each input and a column for each output; the weight is the transpose. GPTQ packs neighbours of
//! a column into one little-endian stream of 32-bit words, AWQ eight neighbours of a row into one word, in an order of its own.

use crate::checkpoint::TensorSource;
use crate::error::ConvertError;

use super::block::{Area, Block, Stored, code};
use super::rows::known_group;

/// Where in an AWQ word each of eight neighbours is: autoawq packs them in the order 0, 2, 4, 6, 1, 3, 5, 7.
const AWQ_PLACES: [usize; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// A transposed matrix with a scale and a zero point for each group of inputs of each output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// The words: GPTQ `[inputs × bits / 32, outputs]`, AWQ `[inputs, outputs / 8]`; `I32`.
    pub words: Stored,
    /// Zero points, packed across: `[groups, outputs × bits / 32]`, `I32`.
    pub zeros: Stored,
    /// Scales, `[groups, outputs]`.
    pub scales: Stored,
    /// Which group each input is in, `I32`; without it they come in order.
    pub g_idx: Option<Stored>,
    /// Bits of a code.
    pub bits: u32,
    /// Outputs: rows of the weight.
    pub rows: u64,
    /// Inputs: columns of the weight.
    pub cols: u64,
    /// Groups of inputs.
    pub groups: u64,
    /// Inputs of a group, where they come in order.
    pub group: u64,
    /// How codes and zero points are packed.
    pub order: Order,
}

/// How codes and zero points are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Codes down the columns; zero points across, in order. Stored zero points are one less, within the bits, where `minus_one`.
    Down {
        /// Version 1 of the format.
        minus_one: bool,
    },
    /// AWQ's.
    Across,
}

impl Columns {
    /// What each code is worth before scale and zero point.
    pub fn table(&self) -> [f32; 256] {
        std::array::from_fn(|code| code as f32)
    }

    /// Rows and columns that are well read at once: a few inputs of many outputs, for these lie side by side.
    pub fn block_size(&self) -> (u64, u64) {
        (1024, 64)
    }

    /// Reads a block.
    pub fn fill(
        &self,
        source: &dyn TensorSource,
        area: &Area,
        block: &mut Block,
        buffer: &mut Vec<u8>,
    ) -> Result<(), ConvertError> {
        let (height, width) = (area.height(), area.width());
        if block.codes_wanted {
            block.codes.resize(height * width, 0);
            match self.order {
                Order::Down { .. } => self.codes_down(source, area, block, buffer)?,
                Order::Across => self.codes_across(source, area, block, buffer)?,
            }
        }
        let groups = self.slots(source, area, block, buffer)?;
        let slots = groups.len();
        block.slot_count = slots;
        block.scales.resize(height * slots, 0.0);
        block.zeros.resize(height * slots, 0.0);
        let mut line = Vec::new();
        for (slot, group) in groups.into_iter().enumerate() {
            line.clear();
            let at = group * self.rows;
            self.scales.floats(source, at + area.rows.start..at + area.rows.end, buffer, &mut line)?;
            for (row, &scale) in line.iter().enumerate() {
                block.scales[row * slots + slot] = scale;
            }
            self.zero_line(source, area, group, buffer, &mut line)?;
            for (row, &zero) in line.iter().enumerate() {
                block.zeros[row * slots + slot] = zero;
            }
        }
        Ok(())
    }

    fn codes_down(
        &self,
        source: &dyn TensorSource,
        area: &Area,
        block: &mut Block,
        buffer: &mut Vec<u8>,
    ) -> Result<(), ConvertError> {
        let (bits, height, width) = (u64::from(self.bits), area.height(), area.width());
        let (first, last) = (area.cols.start * bits / 32, (area.cols.end * bits).div_ceil(32));
        let mut streams = vec![0_u8; (last - first) as usize * 4 * height];
        let stream_len = (last - first) as usize * 4;
        for (at, line) in (first..last).enumerate() {
            self.words.bytes(source, line * self.rows + area.rows.start..line * self.rows + area.rows.end, buffer)?;
            for (row, word) in buffer.as_chunks::<4>().0.iter().enumerate() {
                let to = row * stream_len + at * 4;
                streams[to..to + 4].copy_from_slice(word);
            }
        }
        for (stream, codes) in streams.chunks_exact(stream_len).zip(block.codes.chunks_exact_mut(width)) {
            for (at, out) in codes.iter_mut().enumerate() {
                *out = code(stream, at * self.bits as usize, self.bits);
            }
        }
        Ok(())
    }

    fn codes_across(
        &self,
        source: &dyn TensorSource,
        area: &Area,
        block: &mut Block,
        buffer: &mut Vec<u8>,
    ) -> Result<(), ConvertError> {
        let width = area.width();
        let per_line = self.rows / 8;
        let (first, last) = (area.rows.start / 8, area.rows.end.div_ceil(8));
        let skipped = (area.rows.start % 8) as usize;
        for (at, input) in area.cols.clone().enumerate() {
            self.words.bytes(source, input * per_line + first..input * per_line + last, buffer)?;
            for row in 0..area.height() {
                block.codes[row * width + at] = awq_code(buffer, row + skipped);
            }
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
    ) -> Result<Vec<u64>, ConvertError> {
        let mut groups: Vec<u64> = Vec::new();
        block.slots.clear();
        if let Some(g_idx) = &self.g_idx {
            g_idx.bytes(source, area.cols.clone(), buffer)?;
        }
        for (at, col) in area.cols.clone().enumerate() {
            let group = match &self.g_idx {
                None => col / self.group,
                Some(g_idx) => {
                    let raw = buffer.as_chunks::<4>().0[at];
                    known_group(g_idx, i32::from_le_bytes(raw), self.groups)? as u64
                }
            };
            let slot = groups.iter().rposition(|&known| known == group).unwrap_or_else(|| {
                groups.push(group);
                groups.len() - 1
            });
            block.slots.push(slot);
        }
        Ok(groups)
    }

    /// The zero points of a group for the area's rows.
    fn zero_line(
        &self,
        source: &dyn TensorSource,
        area: &Area,
        group: u64,
        buffer: &mut Vec<u8>,
        line: &mut Vec<f32>,
    ) -> Result<(), ConvertError> {
        let bits = u64::from(self.bits);
        let per_line = self.rows * bits / 32;
        // AWQ's order is that of eight neighbours, a word of four bits each: whole words are read.
        let (first, last) = (area.rows.start * bits / 32, (area.rows.end * bits).div_ceil(32));
        self.zeros.bytes(source, group * per_line + first..group * per_line + last, buffer)?;
        let skipped = (area.rows.start * bits % 32) as usize;
        line.clear();
        line.extend((0..area.height()).map(|row| match self.order {
            Order::Across => f32::from(awq_code(buffer, skipped / 4 + row)),
            Order::Down { minus_one } => {
                let stored = u32::from(code(buffer, skipped + row * self.bits as usize, self.bits));
                let plus = u32::from(minus_one);
                ((stored + plus) & ((1 << self.bits) - 1)) as f32
            }
        }));
        Ok(())
    }
}

/// The code of the `at`-th column of AWQ words.
fn awq_code(words: &[u8], at: usize) -> u8 {
    let place = at / 8 * 8 + AWQ_PLACES[at % 8];
    words[place / 2] >> (place % 2 * 4) & 15
}
