//! A part of a weight in MLX's packing, made while it is read: words from codes, scales and biases from scales and zero points.

use safetensors::Dtype;

use crate::checkpoint::TensorSource;
use crate::error::ConvertError;
use crate::plan::Part;
use crate::quantize::{self, Quantization};

use super::block::{Area, Block, for_each_area};
use super::packed::{Form, Packed, Repacked};

impl Repacked {
    /// A part of a weight under a key that no file has.
    pub fn of(weight: &Packed, to: Quantization, part: Part, scales: Dtype) -> Packed {
        let (end, dtype, shape) = match part {
            Part::Weight => ("words", Dtype::U32, to.weight_shape(&weight.shape).unwrap_or_default()),
            Part::Scales => ("scales", scales, to.scales_shape(&weight.shape)),
            Part::Biases => ("biases", scales, to.scales_shape(&weight.shape)),
        };
        let form = Form::Repacked(Box::new(Self { of: weight.clone(), to, part, scales }));
        let key = format!("{}#{end}", weight.key);
        Packed { key, shape, arithmetic: dtype, dtype, parts: weight.parts.clone(), form }
    }

    /// Fills `out` with the part's elements from `first` on.
    ///
    /// # Errors
    /// What the source says; [`ConvertError::NotExact`] for a scale that MLX's arithmetic would round.
    pub fn read(&self, source: &dyn TensorSource, first: u64, out: &mut [u8]) -> Result<(), ConvertError> {
        let cols = self.of.shape.last().copied().unwrap_or(1).max(1);
        let (group, bits) = (u64::from(self.to.group_size()), u64::from(self.to.bits()));
        // What one row of the part is, in bytes.
        let (item, width) = match self.part {
            Part::Weight => (4, cols * bits / 32),
            Part::Scales | Part::Biases => (self.scales.bitsize() as u64 / 8, cols / group),
        };
        let (begin, end) = (first * item, first * item + out.len() as u64);
        let rows = begin / (width * item)..end.div_ceil(width * item);
        let (height, chunk) = self.of.form.block_size();
        let chunk = chunk.next_multiple_of(group);
        let mut block = Block { codes_wanted: self.part == Part::Weight, ..Block::default() };
        let (mut buffer, mut made, table) = (Vec::new(), Vec::new(), self.of.form.table());
        for_each_area(rows.start * cols, (rows.end - rows.start) * cols, cols, (height, chunk), |area, _| {
            self.of.form.fill(source, &area, &mut block, &mut buffer)?;
            for (at, row) in area.rows.clone().enumerate() {
                made.clear();
                let before = match self.part {
                    Part::Weight => {
                        let codes = &block.codes[at * area.width()..(at + 1) * area.width()];
                        made.resize(codes.len() * bits as usize / 8, 0);
                        quantize::pack_codes(self.to.bits(), codes, &mut made);
                        area.cols.start * bits / 8
                    }
                    Part::Scales | Part::Biases => {
                        self.numbers(&block, at, &area, table[0], &mut made)?;
                        area.cols.start / group * item
                    }
                };
                copy_inside(&made, row * width * item + before, begin, out);
            }
            Ok(())
        })
    }

    /// A row's scales or biases.
    fn numbers(
        &self,
        block: &Block,
        row: usize,
        area: &Area,
        first_code: f32,
        out: &mut Vec<u8>,
    ) -> Result<(), ConvertError> {
        let inexact = |value: f32| ConvertError::NotExact {
            key: self.of.key.clone(),
            value: f64::from(value),
            dtype: self.scales.to_string(),
        };
        for col in (0..area.width()).step_by(self.to.group_size() as usize) {
            let at = row * block.slot_count + block.slots[col];
            let scale = block.scales[at];
            let zero = block.zeros.get(at).copied().unwrap_or(0.0);
            // Digits that a product with a code, and the sum of two such, still have room for.
            let room = self.to.bits() + 1;
            if scale.is_finite() && scale.to_bits().trailing_zeros() < room && scale != 0.0 {
                return Err(inexact(scale));
            }
            let value = if self.part == Part::Scales { scale } else { (first_code - zero) * scale };
            let mut bytes = [0; 4];
            let bytes = &mut bytes[..self.scales.bitsize() / 8];
            quantize::store(self.scales, &[value], bytes).map_err(inexact)?;
            if quantize::load(self.scales, bytes) != value && !value.is_nan() {
                return Err(inexact(value));
            }
            out.extend_from_slice(bytes);
        }
        Ok(())
    }
}

/// Copies what of `bytes`, which stand at `at`, lies inside `out`, which begins at `begin`.
fn copy_inside(bytes: &[u8], at: u64, begin: u64, out: &mut [u8]) {
    let end = begin + out.len() as u64;
    let (from, to) = (at.max(begin), (at + bytes.len() as u64).min(end));
    if from < to {
        let source = &bytes[(from - at) as usize..(to - at) as usize];
        out[(from - begin) as usize..(to - begin) as usize].copy_from_slice(source);
    }
}
