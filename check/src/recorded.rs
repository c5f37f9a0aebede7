//! What the Python package recorded: check.json in the folder of its recordings.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use mlxport_compare::Leaf;
use serde::Deserialize;
use serde_json::Value;

/// The largest file that is read.
const MAX_BYTES: u64 = 64 << 20;

/// check.json. The package writes it; only this program reads it.
#[derive(Debug, Deserialize)]
pub struct Recorded {
    /// 1.
    pub schema: u32,
    /// What was checked: a directory, a hub id, or a model type.
    pub model: String,
    /// `mlx-lm`, `mlx-vlm`, or a file and class.
    pub port: String,
    /// Versions of the port and of MLX.
    pub made_by: String,
    /// Why the port did not load, if it did not.
    #[serde(default)]
    pub refused: Option<String>,
    /// In the order in which they ran.
    #[serde(deserialize_with = "in_order")]
    pub scenarios: Vec<(String, Scenario)>,
    /// The outputs that coverage counts.
    pub leaves: Vec<Leaf>,
    /// Modules and parameters without a counterpart.
    pub unmapped: Vec<Unmapped>,
    /// What was found besides errors: each an object with `kind`, `field` and `what`.
    pub findings: Vec<Value>,
    /// Fields that the config was given, moved or lost.
    #[serde(default)]
    pub config: Vec<String>,
    /// Verified causes.
    pub hints: Vec<Cause>,
}

/// One scenario: recordings by folder, or why there are none.
#[derive(Debug, Deserialize)]
pub struct Scenario {
    /// `ran`, `not_run` (the port cannot), or `broke` (the port raised an error).
    pub status: String,
    /// Why it did not run, or what was raised.
    #[serde(default)]
    pub reason: Option<String>,
    /// The folder of PyTorch's recording.
    #[serde(default)]
    pub reference: Option<String>,
    /// The folder of the port's recording.
    #[serde(default)]
    pub candidate: Option<String>,
    /// Reference and candidate of the isolated mode.
    #[serde(default)]
    pub isolated: Option<(String, String)>,
    /// By `point#call`: why the port has no such output.
    #[serde(default)]
    pub missing: BTreeMap<String, String>,
    /// Boundaries that differ and were undone.
    #[serde(default)]
    pub boundaries: Vec<Value>,
    /// Which rule put which points into PyTorch's layout.
    #[serde(default)]
    pub layouts: BTreeMap<String, Vec<String>>,
    /// Whether only logits are compared.
    #[serde(default)]
    pub logits_only: bool,
    /// Verified causes that this scenario alone shows.
    #[serde(default)]
    pub hints: Vec<Cause>,
    /// Invariants of the port alone that do not hold.
    #[serde(default)]
    pub broken: Vec<String>,
}

impl Scenario {
    /// Whether there are recordings to compare.
    #[must_use]
    pub fn ran(&self) -> bool {
        self.reference.is_some() && self.candidate.is_some()
    }
}

/// A module or parameter without a counterpart.
#[derive(Debug, Deserialize, serde::Serialize)]
pub struct Unmapped {
    /// `pytorch` or `port`.
    pub side: String,
    /// Its path.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// A cause that was tried on recorded tensors.
#[derive(Debug, Deserialize)]
pub struct Cause {
    /// The failing point, `model.layers.0.self_attn#0.out`.
    pub point: String,
    /// What may be wrong, in words.
    pub cause: String,
    /// What is left of the error once it is undone, as a share.
    pub error_left: f64,
    /// Whether that is within the tolerance.
    pub within_tolerance: bool,
}

impl Recorded {
    /// Reads the file.
    ///
    /// # Errors
    /// It is absent, too large, or of another form than this program's version expects.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("check.json");
        let size = std::fs::metadata(&path).with_context(|| path.display().to_string())?.len();
        if size > MAX_BYTES {
            bail!("{}: {size} bytes, expected at most {MAX_BYTES}", path.display());
        }
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let recorded: Self = serde_json::from_str(&text)
            .with_context(|| format!("{}: the Python package fits another version of mlxport", path.display()))?;
        if recorded.schema != 1 {
            bail!(
                "{}: schema {}, expected 1: the Python package fits another version",
                path.display(),
                recorded.schema
            );
        }
        Ok(recorded)
    }
}

/// An object's entries in its own order.
fn in_order<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<(String, Scenario)>, D::Error> {
    use serde::de::Error;
    let entries = serde_json::Map::deserialize(from)?;
    let scenario = |(name, value)| Ok((name, serde_json::from_value(value).map_err(D::Error::custom)?));
    entries.into_iter().map(scenario).collect()
}
