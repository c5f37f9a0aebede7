//! Changes on the way from the files to the model: none for a model as it is; `mlxport parity --mutate` makes its own.

use mlx_rs::Array;

use super::config::ConfigEdit;
use crate::error::Result;

/// What is read otherwise than it is stored.
#[derive(Debug, Clone, Default)]
pub struct Edits {
    /// Fields of config.json.
    pub config: Vec<ConfigEdit>,
    /// Tensors.
    pub weights: Vec<WeightEdit>,
}

impl Edits {
    /// Whether all is read as it is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.config.is_empty() && self.weights.is_empty()
    }
}

/// One tensor of the files that is read otherwise.
#[derive(Debug, Clone)]
pub struct WeightEdit {
    /// Its key in the converted files.
    pub key: String,
    /// What is done to it.
    pub edit: Edit,
}

/// What is done to a tensor. The result must have the tensor's shape.
#[derive(Debug, Clone)]
pub enum Edit {
    /// It is changed.
    Map(fn(&Array) -> Result<Array>),
    /// Another key's tensor is read in its place.
    Take(String),
}
