//! A ledger for a person at a terminal, and as one object.

use serde_json::json;

use super::{Entry, by_series, drifts};
use crate::content::verdict_word;
use crate::text_format::{clean, ratio};

/// How many runs of a series are listed.
const LISTED: usize = 10;
/// Characters of a commit's name.
const COMMIT_CHARS: usize = 12;

/// The last runs of every series, and what drifts. Ends with a newline.
#[must_use]
pub fn ledger_text(entries: &[Entry]) -> String {
    let mut lines = vec![format!("{} runs", entries.len())];
    for (series, runs) in by_series(entries) {
        lines.push(format!("\n{series}: {} runs", runs.len()));
        lines.push("  commit        verdict           taps  failed  worst  at".to_owned());
        for run in runs.iter().rev().take(LISTED).rev() {
            let worst = run.systems.iter().filter_map(|system| system.worst.as_ref());
            let worst = worst.max_by(|a, b| key(a.ratio).total_cmp(&key(b.ratio)));
            let (number, at) = worst.map_or((String::new(), String::new()), |worst| {
                (worst.ratio.map_or_else(String::new, ratio), clean(&worst.id().to_string()))
            });
            let row = format!(
                "  {:<COMMIT_CHARS$}  {:<16}  {:>4}  {:>6}  {number:>5}  {at}",
                short(&run.commit),
                verdict_word(run.verdict),
                run.taps,
                run.failed
            );
            lines.push(row.trim_end().to_owned());
        }
    }
    let drifts = drifts(entries);
    if !drifts.is_empty() {
        lines.push("\nDrift inside the tolerance (error ÷ tolerance, the best run before → the last)".to_owned());
    }
    for drift in drifts {
        let (from, to) = (ratio(drift.from), ratio(drift.to));
        let (name, mode, commit) = (clean(&drift.name), drift.mode, short(&drift.commit));
        lines.push(format!("  {}: {name}, {mode}: {from} ({commit}) → {to}", drift.series));
    }
    lines.join("\n") + "\n"
}

/// The same as one object on one line: how many lines there are, the last of every series, what drifts.
#[must_use]
pub fn ledger_object(entries: &[Entry]) -> String {
    let series: Vec<_> = by_series(entries)
        .into_iter()
        .map(|(name, runs)| json!({ "name": name, "runs": runs.len(), "last": runs.last() }))
        .collect();
    let object = json!({
        "schema": "mlxport.ledger-summary/1",
        "ok": true,
        "runs": entries.len(),
        "series": series,
        "drifts": drifts(entries),
    });
    format!("{object}\n")
}

pub(super) fn short(commit: &str) -> String {
    clean(commit).chars().take(COMMIT_CHARS).collect()
}

/// NaN above everything, nothing below.
fn key(ratio: Option<f64>) -> f64 {
    ratio.map_or(f64::NEG_INFINITY, |ratio| if ratio.is_nan() { f64::NAN.abs() } else { ratio })
}
