//! From files to a model's weights: config.json, strict loading, packed matrices.

pub mod config;
pub mod edits;
mod files;
pub mod options;
mod packing;
mod weights;

pub use config::{ConfigEdit, ConfigError, Layout, Provenance};
pub use edits::{Edit, Edits, WeightEdit};
pub use files::Files;
pub use options::LoadOptions;
pub use packing::Packing;
pub use weights::{Class, Names, Scope, Weights};
