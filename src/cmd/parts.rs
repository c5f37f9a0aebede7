//! `mlxport parity --parts`: projectors and single operations against what PyTorch computed.

use std::{path::Path, process::ExitCode};

use mlxport_model::runtime::Place;
use mlxport_parity::parts::parts;

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
        to_stdout(&report.text())?;
    }
    Ok(ExitCode::from(if report.passes() { exit::PASS } else { exit::DIVERGENCE }))
}
