//! One safetensors file, streamed: while one set of buffers is hashed and written, the next is read and converted.
//!
//! Buffers are filled in parallel but written in file order, so the file hash and each tensor's hash are taken on the way and the bytes
//! do not depend on timing. Memory: the buffers, and each one's scratch; nothing grows with the model.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use rayon::prelude::*;

use crate::checkpoint::TensorSource;
use crate::error::ConvertError;
use crate::plan::Plan;
use crate::transforms::Scratch;

use super::shards::Shard;

/// Bytes of all buffers together unless told otherwise.
pub const DEFAULT_BUFFER_BYTE_LEN: usize = 64 << 20;
/// The size of one buffer, in bytes.
const BATCH_BYTE_LEN: usize = 4 << 20;

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// The file's length.
    pub byte_len: u64,
    /// BLAKE3 of the file.
    pub file: blake3::Hash,
    /// BLAKE3 of each tensor's bytes, in the shard's order.
    pub tensors: Vec<blake3::Hash>,
}

/// A run of elements of one tensor.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// Index into the plan's tensors.
    tensor: usize,
    /// First element.
    first: u64,
    byte_len: usize,
    /// Whether the tensor ends with it.
    last: bool,
}

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    scratch: Scratch,
}

/// Writes one shard to `path`, which must not exist.
pub fn write_shard(
    plan: &Plan,
    source: &dyn TensorSource,
    shard: &Shard,
    path: &Path,
    buffer_byte_len: usize,
) -> Result<Written, ConvertError> {
    let file = File::create_new(path).map_err(ConvertError::io("create", path))?;
    let mut sink = Sink {
        file,
        path,
        file_hash: blake3::Hasher::new(),
        tensor_hash: blake3::Hasher::new(),
        byte_len: 0,
        tensors: Vec::new(),
    };
    sink.header(&shard.header)?;
    let batches = batches(plan, shard);
    let width = (buffer_byte_len / BATCH_BYTE_LEN / 2).clamp(1, rayon::current_num_threads());
    let set = || (0..width).map(|_| Buffer::default()).collect::<Vec<_>>();
    let (mut front, mut back) = (set(), set());
    let mut windows = batches.chunks(width);
    let mut current = windows.next();
    if let Some(window) = current {
        fill(plan, source, window, &mut front)?;
    }
    while let Some(window) = current {
        let next = windows.next();
        let (written, filled) = rayon::join(
            || sink.take(window, &front),
            || next.map_or(Ok(()), |next| fill(plan, source, next, &mut back)),
        );
        written?;
        filled?;
        std::mem::swap(&mut front, &mut back);
        current = next;
    }
    sink.finish()
}

/// Cuts the shard into batches of about [`BATCH_BYTE_LEN`]: small tensors share one, large ones take many. Cuts fall on whole rows of
/// the output where rows are short, because that is where permutations read best.
fn batches(plan: &Plan, shard: &Shard) -> Vec<Vec<Piece>> {
    let (mut batches, mut batch, mut room) = (Vec::new(), Vec::new(), BATCH_BYTE_LEN);
    for &tensor in &shard.tensors {
        let output = &plan.tensors[tensor];
        let size = output.dtype.bitsize() / 8;
        let count = output.assembly.len();
        let row = (count / output.shape.first().copied().unwrap_or(1).max(1)).max(1);
        let mut first = 0;
        if count == 0 {
            batch.push(piece(tensor, 0, 0, true));
        }
        while first < count {
            let left = count - first;
            let mut taken = left.min((room / size) as u64);
            if taken < left && row <= (BATCH_BYTE_LEN / size) as u64 {
                // `first` is at a row already: every cut before was.
                taken -= taken % row;
            }
            if taken > 0 {
                let byte_len = taken as usize * size;
                batch.push(piece(tensor, first, byte_len, taken == left));
                room -= byte_len;
                first += taken;
            }
            if first < count {
                batches.push(std::mem::take(&mut batch));
                room = BATCH_BYTE_LEN;
            }
        }
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

fn piece(tensor: usize, first: u64, byte_len: usize, last: bool) -> Piece {
    Piece { tensor, first, byte_len, last }
}

fn fill(
    plan: &Plan,
    source: &dyn TensorSource,
    window: &[Vec<Piece>],
    buffers: &mut [Buffer],
) -> Result<(), ConvertError> {
    buffers.par_iter_mut().zip(window).try_for_each(|(buffer, batch)| {
        let byte_len = batch.iter().map(|piece| piece.byte_len).sum();
        buffer.bytes.resize(byte_len, 0);
        let mut rest = buffer.bytes.as_mut_slice();
        for piece in batch {
            let (out, tail) = rest.split_at_mut(piece.byte_len);
            let tensor = &plan.tensors[piece.tensor];
            tensor.assembly.read(source, tensor.dtype, piece.first, out, &mut buffer.scratch)?;
            rest = tail;
        }
        Ok(())
    })
}

/// The file being written.
struct Sink<'a> {
    file: File,
    path: &'a Path,
    file_hash: blake3::Hasher,
    tensor_hash: blake3::Hasher,
    byte_len: u64,
    tensors: Vec<blake3::Hash>,
}

impl Sink<'_> {
    fn header(&mut self, header: &[u8]) -> Result<(), ConvertError> {
        self.file_hash.update(header);
        self.byte_len += header.len() as u64;
        self.file.write_all(header).map_err(ConvertError::io("write", self.path))
    }

    /// Hashes and writes filled buffers, in order.
    fn take(&mut self, window: &[Vec<Piece>], buffers: &[Buffer]) -> Result<(), ConvertError> {
        for (batch, buffer) in window.iter().zip(buffers) {
            let (file, file_hash) = (&mut self.file, &mut self.file_hash);
            let (tensor_hash, tensors) = (&mut self.tensor_hash, &mut self.tensors);
            let (written, ()) = rayon::join(
                || file.write_all(&buffer.bytes),
                || {
                    file_hash.update(&buffer.bytes);
                    hash_tensors(batch, &buffer.bytes, tensor_hash, tensors);
                },
            );
            written.map_err(ConvertError::io("write", self.path))?;
            self.byte_len += buffer.bytes.len() as u64;
        }
        Ok(())
    }

    fn finish(self) -> Result<Written, ConvertError> {
        self.file.sync_all().map_err(ConvertError::io("flush", self.path))?;
        Ok(Written { byte_len: self.byte_len, file: self.file_hash.finalize(), tensors: self.tensors })
    }
}

fn hash_tensors(batch: &[Piece], bytes: &[u8], hasher: &mut blake3::Hasher, done: &mut Vec<blake3::Hash>) {
    let mut rest = bytes;
    for piece in batch {
        let (own, tail) = rest.split_at(piece.byte_len);
        hasher.update(own);
        if piece.last {
            done.push(hasher.finalize());
            hasher.reset();
        }
        rest = tail;
    }
}
