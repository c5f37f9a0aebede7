//! Judges one recording by another, whoever made them.
//!
//! ```text
//! reference, candidate → same inputs? → points paired by name (rename) → the same elements of both (elements), an expert's rows
//! in one order (experts) → judged against the reference's floors (judge) → Run
//! ```
//!
//! Nothing is run here, and MLX is not needed: a recording of somebody's port, made with that port's own tools, is held against one
//! of PyTorch. One pair of tensors is in memory at a time. The floors are the reference's, and where they were measured, those of the
//! candidate's runtime: of bare operations on the reference's own operands (`runtime`). Who is judged does not set the measure.

mod elements;
mod error;
pub mod experts;
mod inputs;
mod joined;
mod judge;
mod pairs;
mod rename;
mod run;
mod runtime;

pub use error::{Error, Result};
pub use experts::Experts;
pub use joined::{Leaf, both, coverage};
pub use rename::Renames;
pub use run::{Request, compare};
