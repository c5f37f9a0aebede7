//! The ledger: a file of JSON lines that grows by one line per run, so that an error can be watched across commits.
//!
//! A line holds a run's verdict and, for each of its systems and modes, the largest error and the tap nearest to (or furthest
//! over) its tolerance. Lines of one *series* (fixture, dtype, device, system) may be compared with each other. A run of the atlas is a
//! line for each port, which counts model types in place of taps.

mod atlas;
mod page;
mod text;

use std::collections::BTreeMap;

use mlxport_verdict::{
    Mode, Run, TapRef, Verdict,
    diff::{DRIFT, QUIET},
    nonfinite,
};
use serde::{Deserialize, Serialize};

use crate::content::system_rows;
use crate::error::ReportError;
use crate::text_format::{clean, clip_end};

pub use atlas::atlas_entries;
pub use page::ledger_html;
pub use text::{ledger_object, ledger_text};

/// The version of a line.
pub const LEDGER_SCHEMA: &str = "mlxport.ledger/1";

/// One run: one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// [`LEDGER_SCHEMA`].
    pub schema: String,
    /// The commit that was judged, as the caller names it.
    pub commit: String,
    /// When it ran: RFC 3339, UTC.
    pub time: String,
    /// The version of mlxport.
    pub tool: String,
    /// The fixture's name.
    pub fixture: String,
    /// SHA-256 of the fixture's manifest.json.
    pub manifest_sha256: String,
    /// The hash of the converted weights.
    pub weights_hash: String,
    /// `f32`, `bf16`, …
    pub dtype: String,
    /// `cpu` or `gpu`.
    pub device: String,
    /// `linux/x86_64`.
    pub system: String,
    /// The version of MLX.
    pub mlx: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Comparisons.
    pub taps: usize,
    /// Those that failed.
    pub failed: usize,
    /// By system and mode, in execution order.
    pub systems: Vec<SystemEntry>,
}

/// One system in one mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemEntry {
    /// `SAM`, `CLIP`, `projector`, `decoder`, `head`, `other`.
    pub name: String,
    /// From where inputs came.
    pub mode: Mode,
    /// Comparisons.
    pub taps: usize,
    /// Those that failed.
    pub failed: usize,
    /// The largest relative RMS error; NaN is the largest.
    #[serde(default, with = "nonfinite::option")]
    pub error: Option<f64>,
    /// The tap nearest to, or furthest over, its tolerance.
    pub worst: Option<TapRef>,
}

/// A system that comes closer to its tolerance and is still within it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Drift {
    /// The series.
    pub series: String,
    /// The system.
    pub name: String,
    /// In which mode.
    pub mode: Mode,
    /// The smallest error ÷ tolerance that the series had before.
    pub from: f64,
    /// The commit that had it.
    pub commit: String,
    /// Error ÷ tolerance now.
    pub to: f64,
}

impl Entry {
    /// The line of `run`.
    #[must_use]
    pub fn of(run: &Run, commit: &str, time: &str) -> Self {
        let environment = &run.environment;
        Self {
            schema: LEDGER_SCHEMA.to_owned(),
            commit: commit.to_owned(),
            time: time.to_owned(),
            tool: run.tool.version.clone(),
            fixture: run.fixture.name.clone(),
            manifest_sha256: run.fixture.manifest_sha256.clone(),
            weights_hash: run.model.weights_hash.clone(),
            dtype: environment.dtype.clone(),
            device: environment.device.clone(),
            system: format!("{}/{}", environment.os, environment.arch),
            mlx: environment.mlx_version.clone(),
            verdict: run.summary.verdict,
            taps: run.taps.len(),
            failed: run.taps.iter().filter(|tap| !tap.passed()).count(),
            systems: system_rows(run)
                .into_iter()
                .map(|row| SystemEntry {
                    name: row.system.to_string(),
                    mode: row.mode,
                    taps: row.taps,
                    failed: row.failed,
                    error: row.largest_error,
                    worst: row.worst.map(TapRef::to),
                })
                .collect(),
        }
    }

    /// The line, its end included.
    #[must_use]
    pub fn line(&self) -> String {
        let text = serde_json::to_string(self).expect("a line has string keys and its non-finite numbers are strings");
        text + "\n"
    }

    /// What this line may be compared with: `tiny-small/f32/cpu/linux/x86_64`.
    #[must_use]
    pub fn series(&self) -> String {
        clean(&format!("{}/{}/{}/{}", self.fixture, self.dtype, self.device, self.system))
    }

    /// The line's system of this name and mode.
    pub(crate) fn system(&self, name: &str, mode: Mode) -> Option<&SystemEntry> {
        self.systems.iter().find(|system| system.name == name && system.mode == mode)
    }
}

impl SystemEntry {
    /// Error ÷ tolerance of the worst tap.
    pub(crate) fn ratio(&self) -> Option<f64> {
        self.worst.as_ref()?.ratio
    }
}

/// Reads a whole ledger.
///
/// # Errors
/// The first line that is no entry, by number and column, or has another schema.
pub fn parse_ledger(text: &str) -> crate::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let wrong = |column, message: &str| ReportError::Parse {
            line: at + 1,
            column,
            message: clip_end(&clean(message), 300),
        };
        let entry: Entry = serde_json::from_str(line).map_err(|error| {
            let full = error.to_string();
            let place = format!(" at line {} column {}", error.line(), error.column());
            wrong(error.column(), full.strip_suffix(&place).unwrap_or(&full))
        })?;
        if entry.schema != LEDGER_SCHEMA {
            return Err(wrong(1, &format!("schema {:?}, expected {LEDGER_SCHEMA:?}", entry.schema)));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// Entries by series, each in the order of the file.
pub(crate) fn by_series(entries: &[Entry]) -> BTreeMap<String, Vec<&Entry>> {
    let mut series: BTreeMap<String, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        series.entry(entry.series()).or_default().push(entry);
    }
    series
}

/// Every system whose last run passes, and stands nearer to its tolerance than the best run before it by [`DRIFT`] or more.
#[must_use]
pub fn drifts(entries: &[Entry]) -> Vec<Drift> {
    let mut found = Vec::new();
    for (series, runs) in by_series(entries) {
        let Some((last, before)) = runs.split_last() else { continue };
        for system in &last.systems {
            let past = before.iter().filter_map(|run| {
                let ratio = run.system(&system.name, system.mode)?.ratio()?;
                ratio.is_finite().then_some((ratio, run))
            });
            let Some((from, best)) = past.min_by(|a, b| a.0.total_cmp(&b.0)) else { continue };
            let to = system.ratio().unwrap_or(f64::NAN);
            if system.failed == 0 && to >= QUIET && to >= DRIFT * from {
                let (name, commit) = (system.name.clone(), best.commit.clone());
                found.push(Drift { series: series.clone(), name, mode: system.mode, from, commit, to });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
