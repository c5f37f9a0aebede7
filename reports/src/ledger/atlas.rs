//! A run of the atlas in the ledger: a line for each port, which counts model types where a record's line counts taps.

use std::collections::BTreeMap;
use std::path::Path;

use mlxport_verdict::Verdict;
use serde::Deserialize;

use super::{Entry, LEDGER_SCHEMA};
use crate::error::ReportError;
use crate::read::text;
use crate::text_format::{clean, clip_end};

/// An atlas of every type of every port is a few megabytes.
const MAX_ATLAS_BYTE_LEN: u64 = 256 << 20;
const SCHEMA: u32 = 1;

/// `atlas.json`, as far as the ledger asks.
#[derive(Deserialize)]
struct Atlas {
    schema: u32,
    cells: Vec<Cell>,
}

#[derive(Deserialize)]
struct Cell {
    port: String,
    model_type: String,
    /// Absent where the type has none.
    verdict: Option<String>,
    made_by: BTreeMap<String, String>,
}

/// The lines of the atlas at `at` (a directory with `atlas.json`, or that file), one for each port; nothing where `at` is none.
///
/// A type counts as failed where any of its seeds fails or is incomplete.
///
/// # Errors
/// The file cannot be read or is no atlas (by line and column).
pub fn atlas_entries(at: &Path, commit: &str, time: &str) -> crate::Result<Option<Vec<Entry>>> {
    let path = if at.is_dir() { at.join("atlas.json") } else { at.to_owned() };
    if path.file_name().is_none_or(|name| name != "atlas.json") || !path.is_file() {
        return Ok(None);
    }
    let inside = |source| ReportError::In { path: path.clone(), source: Box::new(source) };
    let atlas: Atlas = serde_json::from_str(&text(&path, MAX_ATLAS_BYTE_LEN)?).map_err(|error| {
        let message = clip_end(&clean(&error.to_string()), 300);
        inside(ReportError::Parse { line: error.line(), column: error.column(), message })
    })?;
    if atlas.schema != SCHEMA {
        return Err(inside(ReportError::Schema { found: atlas.schema.to_string(), expected: SCHEMA }));
    }
    let mut ports: BTreeMap<&str, Vec<&Cell>> = BTreeMap::new();
    for cell in &atlas.cells {
        ports.entry(&cell.port).or_default().push(cell);
    }
    Ok(Some(ports.iter().map(|(port, cells)| entry(port, cells, commit, time)).collect()))
}

fn entry(port: &str, cells: &[&Cell], commit: &str, time: &str) -> Entry {
    let mut types: BTreeMap<&str, bool> = BTreeMap::new();
    for cell in cells {
        if let Some(verdict) = &cell.verdict {
            *types.entry(&cell.model_type).or_default() |= verdict != "pass";
        }
    }
    let failed = types.values().filter(|failed| **failed).count();
    let of = |name: &str, without: &str| {
        cells.iter().find_map(|cell| cell.made_by.get(name).cloned()).unwrap_or_else(|| without.to_owned())
    };
    let device = if of("device", "the CPU") == "the CPU" { "cpu" } else { "gpu" };
    Entry {
        schema: LEDGER_SCHEMA.to_owned(),
        commit: commit.to_owned(),
        time: time.to_owned(),
        tool: of("binary", "").trim_start_matches("mlxport ").to_owned(),
        fixture: format!("atlas of {port}"),
        // There is no recording and there are no weights: each type's are made anew.
        manifest_sha256: String::new(),
        weights_hash: String::new(),
        dtype: "f32".to_owned(),
        device: device.to_owned(),
        system: of("system", "unknown"),
        mlx: of("mlx", ""),
        verdict: match (types.len(), failed) {
            (0, _) => Verdict::NothingCompared,
            (_, 0) => Verdict::Pass,
            _ => Verdict::Fail,
        },
        taps: types.len(),
        failed,
        systems: Vec::new(),
    }
}
