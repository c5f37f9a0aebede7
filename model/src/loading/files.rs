//! The safetensors files of a model, shared by all models that are made of them.
//!
//! Headers are read and checked here, by `convert`'s reader; the numbers by MLX itself, and only when they are first computed with: a pass holds
//! the vision towers' weights before it holds the decoder's, and a module that is not run costs nothing.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    rc::Rc,
};

use mlx_rs::{Array, Dtype};
use mlxport_convert::{
    checkpoint::{Checkpoint, TensorInfo, TensorSource},
    error::ConvertError,
};

use crate::error::Result;

/// A model's files, open.
pub struct Files {
    dir: PathBuf,
    checkpoint: Checkpoint,
    /// Tensors that are read when they are first computed with, and then kept as long as a model or this has them, by key.
    lazy: HashMap<String, Array>,
}

impl Files {
    /// Reads the headers of the safetensors files in `dir`.
    ///
    /// # Errors
    /// When a file is missing, truncated or malformed, or index and headers disagree.
    pub fn open(dir: &Path) -> Result<Rc<Self>> {
        let scan = Checkpoint::scan(dir)?;
        ConvertError::unless_empty(scan.violations)?;
        let lazy = lazy(dir, &scan.checkpoint);
        Ok(Rc::new(Self { dir: dir.to_owned(), checkpoint: scan.checkpoint, lazy }))
    }

    /// Where they are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Shapes, dtypes and places, by key.
    pub(super) fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        self.checkpoint.tensors()
    }

    /// One tensor, left to MLX to read where it can; else its bytes pass through one buffer of the tensor's own size.
    pub(super) fn read(&self, key: &str, shape: &[i32], dtype: Dtype) -> std::result::Result<Array, String> {
        if let Some(found) = self.lazy.get(key).filter(|a| a.shape() == shape && a.dtype() == dtype) {
            return Ok(found.clone());
        }
        let mut bytes = vec![0; byte_len(shape, dtype)];
        self.checkpoint.read_at(key, 0, &mut bytes).map_err(|e| e.to_string())?;
        Ok(array_from_bytes(&bytes, shape, dtype))
    }
}

/// What MLX can read by itself: the tensors of safetensors files under names it takes.
fn lazy(dir: &Path, checkpoint: &Checkpoint) -> HashMap<String, Array> {
    let files = checkpoint.files().iter().map(|file| dir.join(&file.name));
    let read = files.filter(|path| path.is_file()).filter_map(|path| Array::load_safetensors(path).ok());
    read.flatten().collect()
}

/// Bytes of a tensor of floats or codes. The reader has checked that the file holds as many, so the product cannot overflow.
fn byte_len(shape: &[i32], dtype: Dtype) -> usize {
    let item = if matches!(dtype, Dtype::Float32 | Dtype::Uint32) { 4 } else { 2 };
    shape.iter().map(|&d| d as usize).product::<usize>() * item
}

/// Copies little-endian bytes into an MLX array. The caller has checked that they are as many as shape and dtype demand.
#[allow(unsafe_code, reason = "mlx-rs has no safe constructor for 16-bit floats from bytes")]
fn array_from_bytes(bytes: &[u8], shape: &[i32], dtype: Dtype) -> Array {
    assert_eq!(bytes.len(), byte_len(shape, dtype), "the buffer was made for this shape and dtype");
    // SAFETY: `bytes` holds exactly the bytes that shape and dtype describe (asserted above), and MLX copies them.
    unsafe { Array::from_raw_data(bytes.as_ptr().cast(), shape, dtype) }
}
