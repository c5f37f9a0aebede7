//! Checkpoint → recipe → plan → transforms → writer → manifest: a PyTorch release becomes MLX-ready safetensors.
//!
//! ```text
//! checkpoint  headers of *.safetensors, pickles of PyTorch's files and the index, checked; tensors read in pieces
//! recipe      a table in TOML or JSON: which key becomes which, what config it is for, what shapes the config demands
//! plan        every output tensor, or everything that is wrong; no tensor byte is read for it
//! transforms  any range of an output tensor, gathered from its sources
//! writer      a directory that appears complete or not at all
//! manifest    what was made of what, with hashes; verify() checks it
//! ```
//!
//! Data goes down this list only. The crate prints nothing, never sees MLX, and holds no tensor whole: memory does not grow with the
//! model. [`prepare`] and [`Prepared::write`] are the whole of a conversion.

#[cfg(not(unix))]
compile_error!("mlxport reads with pread, which only Unix has");

pub mod checkpoint;
pub mod digest;
pub mod dtype;
pub mod error;
pub mod files;
pub mod inspect;
pub mod json;
mod keys;
pub mod manifest;
mod opening;
pub mod origin;
pub mod plan;
mod prefix;
pub mod prequantized;
pub mod progress;
pub mod quantize;
pub mod recipe;
pub mod report;
mod request;
mod size;
mod survey;
pub mod transforms;
pub mod verify;
pub mod writer;

pub use dtype::DtypeChoice;
pub use error::{ConvertError, Violation, ViolationKind, Violations};
pub use inspect::{inspect, inspect_with};
pub use manifest::Manifest;
pub use request::Request;
pub use size::{parse_byte_len, show_byte_len};
pub use survey::{Prepared, Survey, prepare, survey, survey_by};
pub use verify::{VerifyReport, verify};
pub use writer::WriteOptions;
