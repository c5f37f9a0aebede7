//! A checkpoint whose quantized weights are read as float weights.

use std::collections::BTreeMap;

use crate::checkpoint::{Checkpoint, SourceFile, TensorInfo, TensorSource};
use crate::dtype::byte_len;
use crate::error::ConvertError;

use super::{Packed, decode};

/// A checkpoint with its quantized weights opened: [`TensorSource::tensors`] has the float weights in the place of their parts.
#[derive(Debug)]
pub struct Opened {
    checkpoint: Checkpoint,
    /// Quantized weights, by the key of the float weight.
    weights: BTreeMap<String, Packed>,
    /// What there is to be read; `None` where nothing was opened.
    table: Option<BTreeMap<String, TensorInfo>>,
}

impl Opened {
    /// A checkpoint as it is.
    pub fn plain(checkpoint: Checkpoint) -> Self {
        Self { checkpoint, weights: BTreeMap::new(), table: None }
    }

    /// Puts `weights` in the place of their parts, and leaves out the tensors called `dropped`.
    pub fn open<'k>(&mut self, weights: Vec<Packed>, dropped: impl Iterator<Item = &'k str>) {
        let mut table = self.checkpoint.tensors().clone();
        dropped.for_each(|key| drop(table.remove(key)));
        let file = |weight: &Packed| {
            let stored = weight.parts.first().and_then(|key| self.checkpoint.tensors().get(key));
            stored.map_or(0, |info| info.file)
        };
        for weight in &weights {
            weight.parts.iter().for_each(|key| drop(table.remove(key)));
        }
        for weight in weights {
            let info = TensorInfo::row_major(weight.dtype, weight.shape.clone(), file(&weight), 0);
            table.insert(weight.key.clone(), info);
            self.weights.insert(weight.key.clone(), weight);
        }
        self.table = Some(table);
    }

    /// Adds what [`super::repack`] makes; the plan reads it, no one else sees it.
    pub fn add(&mut self, weights: Vec<Packed>) {
        self.weights.extend(weights.into_iter().map(|weight| (weight.key.clone(), weight)));
    }

    /// The quantized weight that is read under `key`.
    pub fn weight(&self, key: &str) -> Option<&Packed> {
        self.weights.get(key)
    }

    /// Whether nothing was opened: what is read is what is stored.
    pub fn is_plain(&self) -> bool {
        self.table.is_none()
    }

    /// Takes a prefix off every key, as [`Checkpoint::strip_prefix`] does; before anything is opened.
    pub fn strip_prefix(&mut self, prefix: &str) {
        self.checkpoint.strip_prefix(prefix);
    }

    /// The checkpoint as it is stored.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }
}

impl TensorSource for Opened {
    fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        self.table.as_ref().unwrap_or_else(|| self.checkpoint.tensors())
    }

    fn files(&self) -> &[SourceFile] {
        self.checkpoint.files()
    }

    fn read_at(&self, key: &str, byte_offset: u64, out: &mut [u8]) -> Result<(), ConvertError> {
        let Some(weight) = self.weights.get(key) else {
            return self.checkpoint.read_at(key, byte_offset, out);
        };
        let size = (weight.dtype.bitsize() / 8) as u64;
        let end = byte_offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| Some(end) > byte_len(weight.dtype, &weight.shape)) {
            let source = std::io::ErrorKind::UnexpectedEof.into();
            let path = self.checkpoint.root().join(key);
            return Err(ConvertError::Io { action: "read beyond the end of", path, source });
        }
        decode::read(weight, &self.checkpoint, byte_offset / size, out)
    }

    fn changed_files(&self) -> Result<Vec<String>, ConvertError> {
        self.checkpoint.changed_files()
    }
}
