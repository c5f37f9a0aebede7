//! A block becomes numbers: `(code − zero) × scale` in float32, rounded to what the reference computes in, then to what is asked for.

use std::ops::Range;

use crate::checkpoint::TensorSource;
use crate::error::ConvertError;
use crate::quantize;
use crate::transforms::cast;

use super::block::{Area, Block, for_each_area};
use super::lookup::{Lookup, finish};
use super::packed::{Form, Packed};

/// Fills `out` with the weight's elements from `first` on, as [`Packed::dtype`], little endian.
///
/// # Errors
/// What the source says, or [`ConvertError::Overflow`] when a finite value has no finite counterpart.
pub fn read(weight: &Packed, source: &dyn TensorSource, first: u64, out: &mut [u8]) -> Result<(), ConvertError> {
    match &weight.form {
        Form::Mlx(_) => mlx(weight, source, first, out),
        Form::Repacked(part) => part.read(source, first, out),
        form => {
            let mut decoder = Decoder::new(weight, form);
            let cols = weight.shape.last().copied().unwrap_or(1).max(1);
            let size = weight.dtype.bitsize() / 8;
            for_each_area(first, (out.len() / size) as u64, cols, form.block_size(), |area, skip| {
                decoder.area(source, &area, skip, first, cols, out)
            })
        }
    }
}

/// Buffers of one read.
struct Decoder<'a> {
    weight: &'a Packed,
    form: &'a Form,
    worth: [f32; 256],
    block: Block,
    /// The area's runs of columns that share a slot.
    runs: Vec<(usize, Range<usize>)>,
    lookup: Lookup,
    buffer: Vec<u8>,
    values: Vec<f32>,
}

impl<'a> Decoder<'a> {
    fn new(weight: &'a Packed, form: &'a Form) -> Self {
        let lookup = Lookup::new(form.code_count(), weight.dtype);
        let (block, worth) = (Block::default(), form.table());
        Self { weight, form, worth, block, runs: Vec::new(), lookup, buffer: Vec::new(), values: Vec::new() }
    }

    /// Decodes an area into its place in `out`, which begins with the weight's element `first`.
    fn area(
        &mut self,
        source: &dyn TensorSource,
        area: &Area,
        skip: usize,
        first: u64,
        cols: u64,
        out: &mut [u8],
    ) -> Result<(), ConvertError> {
        self.form.fill(source, area, &mut self.block, &mut self.buffer)?;
        self.runs.clear();
        self.runs.extend(self.block.runs());
        let tables = self.lookup.resize(self.block.slot_count);
        let (width, size) = (area.width(), self.weight.dtype.bitsize() / 8);
        for (row, at) in area.rows.clone().enumerate() {
            let from = (at * cols + area.cols.start + skip as u64 - first) as usize * size;
            let place = &mut out[from..from + (width - skip) * size];
            self.row(row, width, skip, tables, place)?;
        }
        Ok(())
    }

    /// One row of the block from its column `skip` on.
    fn row(&mut self, row: usize, width: usize, skip: usize, tables: bool, out: &mut [u8]) -> Result<(), ConvertError> {
        let (block, size) = (&self.block, self.weight.dtype.bitsize() / 8);
        let codes = &block.codes[row * width..(row + 1) * width];
        let scaling = |row: usize, slot: usize| {
            let at = row * block.slot_count + slot;
            (block.scales[at], block.zeros.get(at).copied().unwrap_or(0.0))
        };
        let last = block.scales.len() / block.slot_count <= row + 1;
        for (slot, run) in &self.runs {
            let (slot, run) = (*slot, run.start.max(skip)..run.end.max(skip));
            let (scale, zero) = scaling(row, slot);
            let (codes, out) = (&codes[run.clone()], &mut out[(run.start - skip) * size..(run.end - skip) * size]);
            let again = !last && scaling(row + 1, slot) == (scale, zero);
            if tables
                && self.lookup.pays(slot, scale, zero, codes.len(), again)
                && self.lookup.decode(slot, (scale, zero), &self.worth, self.weight, codes, out)
            {
                continue;
            }
            self.values.clear();
            self.values.extend(codes.iter().map(|&code| (self.worth[usize::from(code)] - zero) * scale));
            finish(&mut self.values, self.weight, out)?;
        }
        Ok(())
    }
}

/// MLX's own packing, unpacked as `mx.dequantize` does.
fn mlx(weight: &Packed, source: &dyn TensorSource, first: u64, out: &mut [u8]) -> Result<(), ConvertError> {
    const ELEMENTS: u64 = 1 << 15;
    let Form::Mlx(from) = weight.form else { return Ok(()) };
    let size = weight.dtype.bitsize() / 8;
    let (group, bits, end) = (u64::from(from.group_size()), u64::from(from.bits()), first + (out.len() / size) as u64);
    let mut at = first / group * group;
    let mut buffers = [Vec::new(), Vec::new(), Vec::new()];
    let (mut values, mut written) = (Vec::new(), 0);
    while at < end {
        let len = (end.next_multiple_of(group) - at).min(ELEMENTS);
        for (part, (key, buffer)) in weight.parts.iter().zip(&mut buffers).enumerate() {
            let item = if part == 0 { 4 } else { from.scales_dtype(weight.arithmetic).bitsize() as u64 / 8 };
            let (begin, count) = if part == 0 { (at * bits / 32, len * bits / 32) } else { (at / group, len / group) };
            buffer.resize((count * item) as usize, 0);
            source.read_at(key, begin * item, buffer)?;
        }
        let [words, scales, biases] = &buffers;
        let item = weight.arithmetic.bitsize() / 8;
        values.resize(len as usize * item, 0);
        quantize::dequantize(from, weight.arithmetic, words, scales, biases, &mut values);
        let wanted = (first.max(at) - at) as usize..(end.min(at + len) - at) as usize;
        let place = &mut out[written..written + wanted.len() * size];
        let values = &values[wanted.start * item..wanted.end * item];
        if weight.dtype == weight.arithmetic {
            place.copy_from_slice(values);
        } else {
            cast::convert(weight.arithmetic, weight.dtype, values, place).map_err(|value| ConvertError::Overflow {
                key: weight.key.clone(),
                value,
                dtype: weight.dtype.to_string(),
            })?;
        }
        written += wanted.len() * size;
        at += len;
    }
    Ok(())
}
