//! From files to a model's weights: config.json, strict loading, packed matrices.

pub mod config;
pub mod options;
mod packing;
mod weights;

pub use config::{ConfigError, Layout, Provenance};
pub use options::LoadOptions;
pub use packing::Packing;
pub use weights::{Scope, Weights};
