//! What can go wrong while a model is loaded or run.

use std::path::PathBuf;

/// The model's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong while a model is loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// MLX refused an operation.
    #[error("MLX: {0}")]
    Mlx(#[from] mlx_rs::error::Exception),
    /// A tensor could not be borrowed from MLX.
    #[error("MLX: {0}")]
    Slice(#[from] mlx_rs::error::AsSliceError),
    /// The config is unusable.
    #[error(transparent)]
    Config(#[from] crate::loading::ConfigError),
    /// The weights do not fit the config.
    #[error("{dir}: {} violation(s) of strict loading:\n  {}", violations.len(), listed(violations))]
    Weights {
        /// The model's directory.
        dir: PathBuf,
        /// Every violation: missing, unknown, of another shape or dtype.
        violations: Vec<String>,
    },
    /// The weights' files are unusable.
    #[error(transparent)]
    Checkpoint(#[from] mlxport_convert::error::ConvertError),
    /// What the model was given does not fit it.
    #[error("{module}: {found}; expected {expected}")]
    Input {
        /// Where.
        module: String,
        /// What is needed.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A listener ended the pass.
    #[error("{0}")]
    Listener(Box<dyn std::error::Error + Send + Sync>),
}

/// How many violations a message names; a wrong config can cause tens of thousands.
const NAMED: usize = 100;

fn listed(violations: &[String]) -> String {
    let mut text = violations[..violations.len().min(NAMED)].join("\n  ");
    if violations.len() > NAMED {
        text.push_str(&format!("\n  … and {} more", violations.len() - NAMED));
    }
    text
}

impl Error {
    /// An input that does not fit.
    pub fn input(module: &str, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Input { module: module.into(), expected: expected.into(), found: found.into() }
    }
}
