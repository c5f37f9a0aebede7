//! What every converted `config.json` has: how the checkpoint was written, and how a broken one is told.
//!
//! `mlxport convert` writes every field out, so nothing has a hidden default: a missing field is an error that names it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, de::DeserializeOwned};

/// A field of config.json with another value.
#[derive(Debug, Clone)]
pub struct ConfigEdit {
    /// Which: `/language_config/rms_norm_eps`.
    pub pointer: String,
    /// The value that is read.
    pub value: serde_json::Value,
}

/// No width or vocabulary is larger: a claim beyond it is not believed.
pub(crate) const LARGEST_WIDTH: i32 = 1 << 24;
/// No stack of layers is deeper, no image edge longer in pixels, no count of heads or experts larger.
pub(crate) const LARGEST_COUNT: i32 = 1 << 14;

/// What `mlxport convert` says of the files beside `config.json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Provenance {
    /// Which weights are packed and how they are named.
    pub layout: Layout,
    /// The recipe that made the files.
    #[serde(default)]
    pub recipe: Option<String>,
}

/// How attention projections are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// Packed `qkv`, as mlx-vlm names and loads them.
    #[default]
    MlxVlm,
    /// `q_proj`, `k_proj` and `v_proj` apart.
    Split,
}

impl Layout {
    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MlxVlm => "mlx-vlm",
            Self::Split => "split",
        }
    }
}

/// Why a `config.json` could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is not the JSON of a converted model.
    #[error("{path}: not the config.json of a converted model (run `mlxport convert` on the release first): {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Which field is missing or wrong.
        source: serde_json::Error,
    },
    /// Fields that contradict each other or that this model cannot use.
    #[error("{path}: {}", violations.join("; "))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Every violation.
        violations: Vec<String>,
    },
}

/// Reads `dir/config.json`, changed by `edits`, as `C`.
///
/// # Errors
/// When the file cannot be read or lacks a field.
pub fn read<C: DeserializeOwned>(dir: &Path, edits: &[ConfigEdit]) -> Result<C, ConfigError> {
    let path = dir.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
    // As the converter reads it: Python writes numbers that JSON does not have.
    let text = mlxport_convert::json::to_strict(&text).into_owned();
    let parse = || {
        if edits.is_empty() {
            // From the text, so that an error has its line.
            return serde_json::from_str(&text);
        }
        let mut json: serde_json::Value = serde_json::from_str(&text)?;
        for ConfigEdit { pointer, value } in edits {
            let field = json.pointer_mut(pointer);
            *field.ok_or_else(|| serde::de::Error::custom(format!("{pointer}: expected a field, found none")))? =
                value.clone();
        }
        serde_json::from_value(json)
    };
    parse().map_err(|source| ConfigError::Parse { path: path.clone(), source })
}

/// Every size of `part` that is not believed, so that products of two stay within `i32`.
pub(crate) fn beyond(part: &str, sizes: &[(&str, i32, i32)]) -> Vec<String> {
    let wrong = sizes.iter().filter(|(_, value, largest)| !(1..=*largest).contains(value));
    wrong.map(|(name, value, largest)| format!("{part}.{name} = {value}: expected 1 to {largest}")).collect()
}

/// Whether `a` divides `b`.
pub(crate) fn divides(a: i32, b: i32) -> bool {
    a > 0 && b % a == 0
}
