//! What a run comes to.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{json, read_page::ReadPage, sources::Skipped};

/// What a run comes to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Pages that were read, by their place in the order, where [`crate::Settings::collect_pages`] asks for them.
    pub pages: BTreeMap<usize, ReadPage>,
    /// Pages whose results were there.
    pub done_before: Vec<String>,
    /// Pages whose text came to no end by itself, now or before.
    pub cut_off: Vec<String>,
    /// Pages that lost something on their way to the model, and what.
    pub degraded: Vec<(String, Vec<String>)>,
    /// Files of directories that are not read.
    pub skipped: Vec<Skipped>,
    /// Pages and documents that could not be read, or not be written.
    pub failed: Vec<(String, anyhow::Error)>,
    /// Whether the run was stopped before its end.
    pub interrupted: bool,
}

impl Outcome {
    /// As one JSON object, `mlxport ocr --json`.
    #[must_use]
    pub fn json(&self) -> Value {
        json::run(self)
    }

    /// What went other than well, a line for each kind.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let degraded = "degraded: they lost something on their way to the model; --strict makes that a failure";
        let counts = [
            (self.failed.len(), "failed"),
            (self.degraded.len(), degraded),
            (self.cut_off.len(), "came to no end by themselves"),
            (self.skipped.len(), "not read, see above"),
        ];
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
    }
}
