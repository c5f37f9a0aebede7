//! Checkpoints: where tensors come from.
//!
//! Everything downstream sees a checkpoint through [`TensorSource`]: a table of keys with dtype and shape, and a way to read a few
//! bytes of one tensor. [`Checkpoint`] is the implementation: a directory, or one file, of safetensors or of PyTorch's pickles. Nothing here reads a tensor's bytes until it is asked for a range of them.

mod directory;
pub mod form;
pub mod header;
pub mod index;
mod listing;
mod pickle;
mod source;
mod together;

pub use directory::{Checkpoint, Scan};
pub use source::{MAX_JSON_BYTE_LEN, SourceFile, TensorInfo, TensorSource, Unreadable, row_major_strides};
