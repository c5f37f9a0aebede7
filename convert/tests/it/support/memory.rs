//! Tensors in memory, and whole outputs read from them in pieces of any size.

use std::collections::BTreeMap;

use mlxport_convert::ConvertError;
use mlxport_convert::checkpoint::{SourceFile, TensorInfo, TensorSource};
use mlxport_convert::transforms::{Assembly, Scratch, View};
use safetensors::Dtype;

/// Tensors in memory: element `i` of tensor `t` is [`value`]`(t, i)`, as f32, so that any mix-up shows.
pub struct Memory {
    tensors: BTreeMap<String, TensorInfo>,
    pub data: BTreeMap<String, Vec<u8>>,
}

impl Memory {
    pub fn new(shapes: &[Vec<u64>]) -> Self {
        let mut memory = Self { tensors: BTreeMap::new(), data: BTreeMap::new() };
        for (t, shape) in shapes.iter().enumerate() {
            let count: u64 = shape.iter().product();
            memory.put(t, shape, (0..count).map(|i| value(t, i)));
        }
        memory
    }

    /// One tensor, `0`, of these values.
    pub fn of(shape: &[u64], values: &[f32]) -> Self {
        let mut memory = Self { tensors: BTreeMap::new(), data: BTreeMap::new() };
        memory.put(0, shape, values.iter().copied());
        memory
    }

    fn put(&mut self, t: usize, shape: &[u64], values: impl Iterator<Item = f32>) {
        let info = TensorInfo::row_major(Dtype::F32, shape.to_vec(), 0, 0);
        self.tensors.insert(t.to_string(), info);
        self.data.insert(t.to_string(), values.flat_map(f32::to_le_bytes).collect());
    }
}

pub fn value(tensor: usize, index: u64) -> f32 {
    (index + 100_000 * tensor as u64) as f32
}

impl TensorSource for Memory {
    fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    fn files(&self) -> &[SourceFile] {
        &[]
    }

    fn read_at(&self, key: &str, byte_offset: u64, out: &mut [u8]) -> Result<(), ConvertError> {
        let at = byte_offset as usize;
        out.copy_from_slice(&self.data[key][at..at + out.len()]);
        Ok(())
    }
}

/// Reads the whole assembly in pieces of `piece` elements, with blocks of at most `block` bytes.
pub fn read(memory: &Memory, assembly: &Assembly, piece: usize, block: usize) -> Vec<f32> {
    let bytes = read_as(memory, assembly, Dtype::F32, piece, block);
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// The same in another dtype, as bytes.
pub fn read_as(memory: &Memory, assembly: &Assembly, dtype: Dtype, piece: usize, block: usize) -> Vec<u8> {
    let size = dtype.bitsize() / 8;
    let mut scratch = Scratch::with_block_byte_len(block);
    let mut out = vec![0; assembly.len() as usize * size];
    let mut first = 0;
    for piece in out.chunks_mut(piece * size) {
        assembly.read(memory, dtype, first, piece, &mut scratch).expect("reads");
        first += (piece.len() / size) as u64;
    }
    out
}

pub fn whole(key: usize, shape: &[u64]) -> View {
    View::whole(&key.to_string(), Dtype::F32, shape)
}
