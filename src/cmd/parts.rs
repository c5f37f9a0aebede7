//! `mlxport parity --parts`: projectors and single operations against what PyTorch computed.

use std::{fmt::Write as _, path::Path, process::ExitCode};

use mlxport_model::runtime::Place;
use mlxport_parity::parts::{PartsReport, parts};

use crate::{exit, output::to_stdout};

/// Judges the parts in `dir` and prints the verdict.
///
/// # Errors
/// When the files cannot be used.
pub fn run(dir: &Path, place: Place, json: bool) -> anyhow::Result<ExitCode> {
    let report = parts(dir, place)?;
    if json {
        to_stdout(&format!("{}\n", serde_json::to_string(&report)?))?;
    } else {
        to_stdout(&text(&report))?;
    }
    Ok(ExitCode::from(if report.passes() { exit::PASS } else { exit::DIVERGENCE }))
}

fn text(report: &PartsReport) -> String {
    let (word, of) = if report.passes() { ("PASS", "all ") } else { ("FAIL", "") };
    let mut text = match report.failed {
        0 => format!("{word}: {of}{} parts within {} × the measured floor", report.compared, report.k),
        failed => format!("{word}: {failed} of {} parts failed", report.compared),
    };
    let _ = writeln!(text, "; MLX {}\n", report.mlx);
    for tap in &report.taps {
        let error = tap.error().map_or_else(|| "-".to_owned(), |error| format!("{error:.1e}"));
        let ratio = tap.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let failure = tap.failure.as_ref().map_or_else(String::new, |failure| format!("  {failure:?}"));
        let _ = writeln!(text, "{ratio:>8}  {error:>8}  {}{failure}", tap.point);
    }
    text.push_str("\nerror ÷ tolerance, relative RMS, part\n");
    text
}
