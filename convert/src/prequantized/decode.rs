//! A block becomes numbers: `(code − zero) × scale` in float32, rounded to what the reference computes in, then to what is asked for.

use std::ops::Range;

use half::{bf16, f16};
use safetensors::Dtype;

use crate::checkpoint::TensorSource;
use crate::error::ConvertError;
use crate::quantize;
use crate::transforms::cast;

use super::block::{Area, Block};
use super::lookup::Lookup;
use super::{Form, Packed};

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

impl Form {
    /// Rows and columns that are well read at once.
    pub fn block_size(&self) -> (u64, u64) {
        match self {
            Self::Grid(grid) => grid.block_size(),
            Self::Rows(rows) => rows.block_size(),
            Self::Columns(columns) => columns.block_size(),
            Self::Mlx(_) | Self::Repacked(_) => (1, 32),
        }
    }

    /// How many codes there are.
    pub fn code_count(&self) -> usize {
        match self {
            Self::Rows(rows) => 1 << rows.bits,
            Self::Columns(columns) => 1 << columns.bits,
            Self::Grid(_) | Self::Mlx(_) | Self::Repacked(_) => 256,
        }
    }

    /// What each code is worth before scale and zero point.
    pub fn table(&self) -> [f32; 256] {
        match self {
            Self::Grid(grid) => grid.table(),
            Self::Rows(rows) => rows.table(),
            Self::Columns(columns) => columns.table(),
            Self::Mlx(_) | Self::Repacked(_) => [0.0; 256],
        }
    }

    /// Reads a block.
    pub fn fill(
        &self,
        source: &dyn TensorSource,
        area: &Area,
        block: &mut Block,
        buffer: &mut Vec<u8>,
    ) -> Result<(), ConvertError> {
        match self {
            Self::Grid(grid) => grid.fill(source, area, block, buffer),
            Self::Rows(rows) => rows.fill(source, area, block, buffer),
            Self::Columns(columns) => columns.fill(source, area, block, buffer),
            Self::Mlx(_) | Self::Repacked(_) => Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;

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
