//! Judges one recording by another, whoever made them.
//!
//! ```text
//! reference, candidate → same inputs? → points paired by name (rename) → the same elements of both (elements), an expert's rows
//! in one order (experts) → judged against the reference's floors (judge) → Run
//! ```
//!
//! Nothing is run here, and MLX is not needed: a recording of somebody's port, made with that port's own tools, is held against one
//! of PyTorch. One pair of tensors is in memory at a time. The floors are the reference's alone, for who is judged does not set
//! the measure.

mod elements;
mod error;
pub mod experts;
mod inputs;
mod judge;
mod pairs;
mod rename;
mod run;

pub use error::{Error, Result};
pub use experts::Experts;
pub use rename::Renames;
pub use run::{Request, compare};
