//! What a checkpoint is to everything downstream: a table of tensors, and bytes of each on demand.

use std::collections::{BTreeMap, BTreeSet};

use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use crate::error::ConvertError;

/// The largest `config.json` or index that is read into memory, in bytes.
pub const MAX_JSON_BYTE_LEN: u64 = 64 << 20;

/// What a header says of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type as stored.
    pub dtype: Dtype,
    /// Shape, outermost axis first.
    pub shape: Vec<u64>,
    /// Which of [`TensorSource::files`] holds it.
    pub file: usize,
    /// Where its first element's first byte lies in that file.
    pub byte_offset: u64,
    /// How many stored elements one step along each axis is. A safetensors file has tensors row-major only; a view that PyTorch pickled
    /// may be transposed, have gaps, or repeat elements (0).
    pub strides: Vec<u64>,
}

impl TensorInfo {
    /// A tensor stored row-major.
    pub fn row_major(dtype: Dtype, shape: Vec<u64>, file: usize, byte_offset: u64) -> Self {
        let strides = row_major_strides(&shape);
        Self { dtype, shape, file, byte_offset, strides }
    }
}

/// The strides, in elements, of a shape laid out row-major.
pub fn row_major_strides(shape: &[u64]) -> Vec<u64> {
    let mut strides = vec![1_u64; shape.len()];
    for at in (1..shape.len()).rev() {
        strides[at - 1] = strides[at].saturating_mul(shape[at]);
    }
    strides
}

/// One source file, as the manifest records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// File name inside the checkpoint's directory.
    pub name: String,
    /// Length of the whole file in bytes.
    pub byte_len: u64,
    /// BLAKE3 of its header (length field and JSON; of a PyTorch file, its pickle), in hex. The tensors' bytes are hashed where they are written.
    pub header_blake3: String,
}

/// A set of named tensors whose bytes can be read in pieces, from several threads at once.
pub trait TensorSource: Sync {
    /// Every tensor by key.
    fn tensors(&self) -> &BTreeMap<String, TensorInfo>;

    /// The files they lie in.
    fn files(&self) -> &[SourceFile];

    /// Fills `out` with the bytes of tensor `key` that begin `byte_offset` bytes after its first element, as they are stored
    /// (little endian; [`TensorInfo::strides`] says which element is where).
    ///
    /// # Errors
    /// [`ConvertError::Io`] when the key is unknown, the range leaves the file, or the system cannot read it.
    fn read_at(&self, key: &str, byte_offset: u64, out: &mut [u8]) -> Result<(), ConvertError>;

    /// The names of files that were written to since they were opened: what was read of them may be half of each.
    ///
    /// # Errors
    /// [`ConvertError::Io`] when a file can no longer be looked at.
    fn changed_files(&self) -> Result<Vec<String>, ConvertError> {
        Ok(Vec::new())
    }
}

/// Keys whose absence from the table says nothing, because the file they should be in could not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unreadable {
    /// Keys known to be in a file that could not be read, or whose own entry is broken.
    pub keys: BTreeSet<String>,
    /// True when a file could not be read and nothing says which keys it had.
    pub any: bool,
}

impl Unreadable {
    /// Whether `key` may lie in a part that could not be read.
    pub fn covers(&self, key: &str) -> bool {
        self.any || self.keys.contains(key)
    }

    /// Whether everything could be read.
    pub fn is_empty(&self) -> bool {
        !self.any && self.keys.is_empty()
    }
}
