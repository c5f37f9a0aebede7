//! What a candidate's runtime cannot help being off by: measured on bare operations, with the reference's own operands.
//!
//! ```json
//! {"schema": 1, "reference_manifest_sha256": "…", "floors": {"model.norm#0.out": 6.2e-7}}
//! ```
//!
//! Whoever records the reference measures it: PyTorch's own graph, each bare operation done by the runtime, against the float64 run.
//! The file names the recording that it was measured on, and holds for no other. The port under judgement takes no part.

use std::collections::HashMap;
use std::path::Path;

use mlxport_fixtures::{Fixture, Point};
use serde::Deserialize;

use crate::error::{Error, Result};

/// The largest file that is read.
const MAX_BYTES: u64 = 16 << 20;
/// No float32 operation is off by more on operands that can be judged at all: a larger floor would hide a fault.
const LARGEST: f64 = 1e-2;

/// Relative RMS by point.
#[derive(Debug, Default)]
pub(crate) struct RuntimeFloors {
    floors: HashMap<String, f64>,
}

#[derive(Deserialize)]
struct File {
    schema: u32,
    reference_manifest_sha256: String,
    floors: HashMap<String, f64>,
}

impl RuntimeFloors {
    /// Reads the floors that were measured on `reference`.
    ///
    /// # Errors
    /// The file cannot be read, is of another form, was measured on another recording, or holds a number that is no floor.
    pub fn read(path: &Path, reference: &Fixture) -> Result<Self> {
        let wrong = |violations| Error::RuntimeFloors { path: path.to_owned(), violations };
        let text = text(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let file: File = serde_json::from_str(&text).map_err(|error| wrong(vec![error.to_string()]))?;
        let mut violations = Vec::new();
        if file.schema != 1 {
            violations.push(format!("schema {}, expected 1", file.schema));
        }
        if file.reference_manifest_sha256 != reference.manifest_sha256() {
            violations.push(format!("measured on another recording than {}", reference.name()));
        }
        let unusable = file.floors.iter().filter(|(_, floor)| !(0.0..=LARGEST).contains(*floor));
        violations.extend(
            unusable
                .map(|(name, floor)| format!("{}: floor {floor:e}, expected 0 to {LARGEST:e}", name.escape_debug())),
        );
        violations.sort_unstable();
        if violations.is_empty() { Ok(Self { floors: file.floors }) } else { Err(wrong(violations)) }
    }

    /// The floor of a point; 0 where none was measured.
    pub fn of(&self, point: &Point) -> f64 {
        self.floors.get(&point.id()).copied().unwrap_or(0.0)
    }
}

fn text(path: &Path) -> std::io::Result<String> {
    use std::io::{Error, ErrorKind};
    let found = std::fs::metadata(path)?;
    if !found.is_file() || found.len() > MAX_BYTES {
        let why = format!("expected a regular file of at most {MAX_BYTES} bytes");
        return Err(Error::new(ErrorKind::InvalidInput, why));
    }
    std::fs::read_to_string(path)
}
