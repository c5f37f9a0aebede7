//! One worker: makes a job's outputs piece by piece, hashes each output in order and writes every piece at its place.
//!
//! A piece is read, converted and written before the next one is read; the buffers are reused from job to job and bounded, so memory
//! depends on neither the tensor nor the model.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use safetensors::Dtype;

use crate::checkpoint::TensorSource;
use crate::error::ConvertError;
use crate::plan::{Making, OutputTensor};
use crate::progress::Progress;
use crate::quantize::{self, Quantization};
use crate::transforms::Scratch;

/// Where an output tensor goes.
#[derive(Debug, Clone, Copy)]
pub struct Slot<'a> {
    /// The open file.
    pub file: &'a File,
    /// Its path, for messages.
    pub path: &'a PathBuf,
    /// Where the tensor's first byte goes.
    pub byte_offset: u64,
}

/// What workers share.
pub struct Shared<'a> {
    /// Where tensors are read.
    pub source: &'a dyn TensorSource,
    /// Told of every write.
    pub progress: &'a dyn Progress,
    /// The most bytes of values a piece holds.
    pub piece_byte_len: usize,
}

/// A worker's buffers.
pub struct Worker {
    values: Vec<u8>,
    packed: Vec<Vec<u8>>,
    scratch: Scratch,
}

/// An output on its way: how far it is written, and the hash of what was.
struct Sink<'a> {
    slot: Slot<'a>,
    written: u64,
    hasher: blake3::Hasher,
}

impl<'a> Sink<'a> {
    fn at(slot: Slot<'a>) -> Self {
        Self { slot, written: 0, hasher: blake3::Hasher::new() }
    }

    fn write(&mut self, bytes: &[u8], progress: &dyn Progress) -> Result<(), ConvertError> {
        let Slot { file, path, byte_offset } = self.slot;
        file.write_all_at(bytes, byte_offset + self.written).map_err(ConvertError::io("write", path))?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        progress.advance(bytes.len() as u64);
        Ok(())
    }
}

impl Worker {
    /// A worker whose gathers read at most `block_byte_len` bytes at once where they permute.
    pub fn with_block_byte_len(block_byte_len: usize) -> Self {
        let scratch = Scratch::with_block_byte_len(block_byte_len);
        Self { values: Vec::new(), packed: Vec::new(), scratch }
    }

    /// Makes `outputs`, the parts of one job, at `slots`; their hashes, in order.
    pub fn make(
        &mut self,
        outputs: &[OutputTensor],
        slots: &[Slot<'_>],
        shared: &Shared<'_>,
    ) -> Result<Vec<blake3::Hash>, ConvertError> {
        let mut sinks: Vec<_> = slots.iter().copied().map(Sink::at).collect();
        let tensor = &outputs[0];
        match tensor.making {
            Making::Zeros => self.zeros(tensor, &mut sinks[0], shared)?,
            Making::Store | Making::Repack { .. } => self.store(tensor, &mut sinks[0], shared)?,
            Making::Quantize { to, values, .. } => self.quantize(tensor, to, values, &mut sinks, shared)?,
        }
        Ok(sinks.iter().map(|sink| sink.hasher.finalize()).collect())
    }

    fn store(&mut self, tensor: &OutputTensor, sink: &mut Sink<'_>, shared: &Shared<'_>) -> Result<(), ConvertError> {
        let size = tensor.dtype.bitsize() / 8;
        let row = row_len(&tensor.shape, tensor.assembly.len());
        for piece in pieces(tensor.assembly.len(), row, shared.piece_byte_len / size) {
            self.values.resize((piece.end - piece.start) as usize * size, 0);
            tensor.assembly.read(shared.source, tensor.dtype, piece.start, &mut self.values, &mut self.scratch)?;
            sink.write(&self.values, shared.progress)?;
        }
        Ok(())
    }

    fn zeros(&mut self, tensor: &OutputTensor, sink: &mut Sink<'_>, shared: &Shared<'_>) -> Result<(), ConvertError> {
        for piece in pieces(tensor.byte_len(), 1, shared.piece_byte_len) {
            self.values.clear();
            self.values.resize((piece.end - piece.start) as usize, 0);
            sink.write(&self.values, shared.progress)?;
        }
        Ok(())
    }

    fn quantize(
        &mut self,
        tensor: &OutputTensor,
        to: Quantization,
        values: Dtype,
        sinks: &mut [Sink<'_>],
        shared: &Shared<'_>,
    ) -> Result<(), ConvertError> {
        let size = values.bitsize() / 8;
        let group = u64::from(to.group_size());
        self.packed.resize(3, Vec::new());
        let (count, room) = (tensor.assembly.len(), shared.piece_byte_len / size);
        // Cut at whole rows where they are short, and always between groups.
        let row = row_len(&tensor.shape, count).max(group);
        let unit = if row.is_multiple_of(group) { row } else { group };
        let unit = if unit <= room as u64 { unit } else { group };
        for piece in pieces(count, unit, room.max(group as usize)) {
            let len = piece.end - piece.start;
            let groups = len / group;
            self.values.resize(len as usize * size, 0);
            tensor.assembly.read(shared.source, values, piece.start, &mut self.values, &mut self.scratch)?;
            let [words, scales, biases] = &mut self.packed[..] else { continue };
            words.resize((len * u64::from(to.bits()) / 8) as usize, 0);
            let scale_size = (to.scales_dtype(values).bitsize() / 8) as u64;
            scales.resize((groups * scale_size) as usize, 0);
            biases.resize(if to.has_biases() { scales.len() } else { 0 }, 0);
            quantize::quantize(to, values, &self.values, words, scales, biases).map_err(|bad| {
                ConvertError::NotFinite {
                    name: tensor.name.clone(),
                    element: piece.start + bad.index as u64,
                    value: bad.value,
                }
            })?;
            if let Some(at) = quantize::first_wrapped_group(to, values, &self.values) {
                let (name, mode) = (tensor.name.clone(), to.mode().to_string());
                return Err(ConvertError::TooSmall { name, mode, element: piece.start + at as u64 * group });
            }
            for (sink, bytes) in sinks.iter_mut().zip(&self.packed) {
                sink.write(bytes, shared.progress)?;
            }
        }
        Ok(())
    }
}

/// Elements of one row of the output (everything behind the first axis).
fn row_len(shape: &[u64], count: u64) -> u64 {
    (count / shape.first().copied().unwrap_or(1).max(1)).max(1)
}

/// Cuts `count` elements into runs of at most `room`, at multiples of `unit` where a unit fits: permutations read best in whole rows,
/// and a group must stay whole.
fn pieces(count: u64, unit: u64, room: usize) -> impl Iterator<Item = Range<u64>> {
    let room = (room as u64).max(1);
    let step = if unit <= room { room - room % unit } else { room };
    (0..count.div_ceil(step)).map(move |at| at * step..((at + 1) * step).min(count))
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn pieces_cover_everything_once_and_keep_units_whole() {
        for (count, unit, room) in [(0, 1, 4), (10, 3, 7), (10, 64, 4), (640, 64, 100), (5, 1, 1)] {
            let all: Vec<_> = pieces(count, unit, room).collect();
            let mut at = 0;
            for piece in &all {
                assert_eq!(piece.start, at);
                assert!(piece.end - piece.start <= room as u64);
                assert!(unit > room as u64 || piece.start.is_multiple_of(unit));
                at = piece.end;
            }
            assert_eq!(at, count);
        }
    }
}
