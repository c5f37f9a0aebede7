//! Reading a strided view in row-major order, in bounded memory and with few, large reads.
//!
//! Four cases, tried in order: contiguous (one read); a block whose span in the source is small and mostly used, read whole and
//! rearranged in memory (a convolution kernel, or several of its filters at once; an expanded or overlapping view, whose span is
//! smaller than itself); an outermost axis that is the source's innermost (a transposition: short runs); anything else is split along
//! its outermost axis, down to single strided rows, which are read in windows. No read leaves the span from the view's first to its
//! last element.

use std::ops::Range;

use crate::checkpoint::TensorSource;
use crate::error::ConvertError;

use super::view::{Axis, View, is_contiguous};

/// The largest block that is read whole to be permuted, in bytes, unless told otherwise.
const BLOCK_BYTE_LEN: usize = 1 << 20;

/// Buffers that one thread reuses from tensor to tensor: one block to permute and one conversion window, both bounded.
#[derive(Debug)]
pub struct Scratch {
    pub(super) block: Block,
    pub(super) window: Vec<u8>,
}

/// The block buffer and its bound.
#[derive(Debug)]
pub(super) struct Block {
    bytes: Vec<u8>,
    max_byte_len: usize,
}

impl Scratch {
    /// Buffers whose block is at most `max_byte_len` bytes (at least one element's). Results do not depend on it.
    pub fn with_block_byte_len(max_byte_len: usize) -> Self {
        let block = Block { bytes: Vec::new(), max_byte_len: max_byte_len.max(8) };
        Self { block, window: Vec::new() }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::with_block_byte_len(BLOCK_BYTE_LEN)
    }
}

/// Fills `out` with the view's elements from `first` on, in the source's dtype.
pub(super) fn gather(
    source: &dyn TensorSource,
    view: &View,
    first: u64,
    out: &mut [u8],
    block: &mut Block,
) -> Result<(), ConvertError> {
    let mut gather = Gather { source, key: &view.key, size: view.dtype.bitsize() / 8, block };
    // Axes of one step say nothing about order and would hide that the rest is contiguous.
    let axes: Vec<Axis> = view.axes.iter().copied().filter(|axis| axis.len != 1).collect();
    gather.fill(view.start, &axes, first, out)
}

struct Gather<'a> {
    source: &'a dyn TensorSource,
    key: &'a str,
    /// Bytes per element.
    size: usize,
    block: &'a mut Block,
}

impl Gather<'_> {
    fn read(&self, element: u64, out: &mut [u8]) -> Result<(), ConvertError> {
        self.source.read_at(self.key, element * self.size as u64, out)
    }

    /// Elements `first..` of the sub-view that begins at source element `base`.
    fn fill(&mut self, base: u64, axes: &[Axis], first: u64, out: &mut [u8]) -> Result<(), ConvertError> {
        if out.is_empty() {
            return Ok(());
        }
        if is_contiguous(axes) {
            return self.read(base + first, out);
        }
        let count = (out.len() / self.size) as u64;
        let (outer, inner) = (axes[0], &axes[1..]);
        let (step, steps) = steps(elements(inner), first, count);
        let mut touched = axes.to_vec();
        touched[0].len = steps;
        if self.is_block(&touched) {
            let inside = first - step * elements(inner);
            return self.permute(base + step * outer.stride, &touched, inside..inside + count, out);
        }
        if self.is_block(axes) {
            return self.permute(base, axes, first..first + count, out);
        }
        if inner.is_empty() {
            return self.strided_row(base, outer.stride, first, out);
        }
        let row = elements(inner);
        let (mut at, mut rest) = (first, out);
        while !rest.is_empty() {
            let (step, inside) = (at / row, at % row);
            let left = (rest.len() / self.size) as u64;
            let whole_rows = if inside == 0 { left / row } else { 0 };
            let base = base + step * outer.stride;
            let taken = self.rows_at_once(axes, whole_rows, row);
            let count = if taken > 0 { taken * row } else { left.min(row - inside) };
            let (piece, tail) = rest.split_at_mut(count as usize * self.size);
            if taken == 0 {
                self.fill(base, inner, inside, piece)?;
            } else {
                let mut block = axes.to_vec();
                block[0].len = taken;
                if self.is_block(&block) {
                    self.permute(base, &block, 0..taken * row, piece)?;
                } else {
                    self.columns(base, inner, taken as usize, piece)?;
                }
            }
            at += count;
            rest = tail;
        }
        Ok(())
    }

    /// Whether the span of these axes may be read whole: it fits, and at least half of it (counting repeats) is wanted.
    fn is_block(&self, axes: &[Axis]) -> bool {
        let span = span(axes);
        span <= self.most() && span <= elements(axes).saturating_mul(2)
    }

    /// The most elements of one read.
    fn most(&self) -> u64 {
        (self.block.max_byte_len / self.size) as u64
    }

    /// How many of the next whole rows can be taken in one go (0: none, the row must be split further): as many as make a block, else
    /// a run of columns where the outermost axis is the source's innermost.
    fn rows_at_once(&self, axes: &[Axis], whole_rows: u64, row: u64) -> u64 {
        let (outer, inner) = (axes[0], &axes[1..]);
        let room = self.most().saturating_sub(span(inner));
        let steps = room.checked_div(outer.stride).unwrap_or(u64::MAX).saturating_add(1);
        let rows = whole_rows.min(steps);
        let mut block = axes.to_vec();
        block[0].len = rows;
        if span(inner) <= self.most() && rows > 0 && self.is_block(&block) {
            return rows;
        }
        // A row whose steps are all in one place is better read row by row.
        let repeats = inner.iter().filter(|axis| axis.stride == 0).map(|axis| axis.len).product::<u64>();
        if outer.stride == 1 && repeats < row { whole_rows.min(self.most()) } else { 0 }
    }

    /// Reads a block's span whole and writes `range` of its elements in the view's order.
    fn permute(&mut self, base: u64, axes: &[Axis], range: Range<u64>, out: &mut [u8]) -> Result<(), ConvertError> {
        let byte_len = span(axes) as usize * self.size;
        let mut block = std::mem::take(&mut self.block.bytes);
        block.resize(byte_len, 0);
        let read = self.read(base, &mut block);
        if read.is_ok() {
            match self.size {
                2 => copy_permuted::<2>(&block, axes, range.start, out),
                4 => copy_permuted::<4>(&block, axes, range.start, out),
                8 => copy_permuted::<8>(&block, axes, range.start, out),
                _ => copy_permuted::<1>(&block, axes, range.start, out),
            }
        }
        self.block.bytes = block;
        read
    }

    /// `steps` whole rows of a view whose outermost axis is the source's innermost: for each place in a row, one run of `steps`.
    fn columns(&mut self, base: u64, inner: &[Axis], steps: usize, out: &mut [u8]) -> Result<(), ConvertError> {
        let size = self.size;
        let mut run = std::mem::take(&mut self.block.bytes);
        run.resize(steps * size, 0);
        let row_byte_len = elements(inner) as usize * size;
        let mut walk = Walk::new(inner, 0);
        let mut result = Ok(());
        for place in (0..row_byte_len).step_by(size) {
            result = self.read(base + walk.offset, &mut run);
            if result.is_err() {
                break;
            }
            for (step, value) in run.chunks_exact(size).enumerate() {
                let at = step * row_byte_len + place;
                out[at..at + size].copy_from_slice(value);
            }
            walk.advance();
        }
        self.block.bytes = run;
        result
    }

    /// Part of one row whose elements lie `stride` apart, read in windows that span many of them.
    fn strided_row(&mut self, base: u64, stride: u64, first: u64, out: &mut [u8]) -> Result<(), ConvertError> {
        let size = self.size;
        let most = (self.block.max_byte_len / size) as u64;
        let per_window = ((most - 1) / stride.max(1) + 1) as usize;
        let mut window = std::mem::take(&mut self.block.bytes);
        let mut at = base + first * stride;
        let mut result = Ok(());
        for piece in out.chunks_mut(per_window * size) {
            let count = piece.len() / size;
            let span = (count as u64 - 1) * stride + 1;
            window.resize(span as usize * size, 0);
            result = self.read(at, &mut window);
            if result.is_err() {
                break;
            }
            for (step, value) in piece.chunks_exact_mut(size).enumerate() {
                let from = step * stride as usize * size;
                value.copy_from_slice(&window[from..from + size]);
            }
            at += count as u64 * stride;
        }
        self.block.bytes = window;
        result
    }
}

/// Walks the source offsets of a view's elements in row-major order.
struct Walk<'a> {
    axes: &'a [Axis],
    index: Vec<u64>,
    offset: u64,
}

impl<'a> Walk<'a> {
    fn new(axes: &'a [Axis], first: u64) -> Self {
        let mut index = vec![0; axes.len()];
        let (mut rest, mut offset) = (first, 0);
        for (at, axis) in axes.iter().enumerate().rev() {
            index[at] = rest % axis.len;
            rest /= axis.len;
            offset += index[at] * axis.stride;
        }
        Self { axes, index, offset }
    }

    fn advance(&mut self) {
        for (index, axis) in self.index.iter_mut().zip(self.axes).rev() {
            *index += 1;
            self.offset += axis.stride;
            if *index < axis.len {
                return;
            }
            self.offset -= axis.stride * axis.len;
            *index = 0;
        }
    }
}

fn copy_permuted<const SIZE: usize>(block: &[u8], axes: &[Axis], first: u64, out: &mut [u8]) {
    let mut walk = Walk::new(axes, first);
    let (source, _) = block.as_chunks::<SIZE>();
    let (target, _) = out.as_chunks_mut::<SIZE>();
    for value in target {
        *value = source[walk.offset as usize];
        walk.advance();
    }
}

fn elements(axes: &[Axis]) -> u64 {
    axes.iter().map(|axis| axis.len).product()
}

/// The first outermost step that `count` elements from `first` on lie in, and how many steps they touch.
fn steps(row: u64, first: u64, count: u64) -> (u64, u64) {
    let (begin, last) = (first / row, (first + count - 1) / row);
    (begin, last - begin + 1)
}

/// Source elements from the first to the last of non-empty axes, both counted.
fn span(axes: &[Axis]) -> u64 {
    axes.iter().fold(1, |span: u64, axis| span.saturating_add((axis.len - 1).saturating_mul(axis.stride)))
}
