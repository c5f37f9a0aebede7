//! `mlxport parity --mutate`: plant faults one by one, and see which are caught and where.

use std::{path::Path, process::ExitCode};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use mlxport_parity::Request;
use mlxport_reports::{mutation_json, mutation_text, write_mutation_report};

use mlxport_verdict::MutationSummary;

use crate::{cmd::variants, exit, output::to_stdout};

/// Plants every fault of the catalogue and runs every correct variant.
///
/// # Errors
/// When model, fixture or device cannot be used, or the model does not pass as it is.
pub fn run(request: &Request, report_dir: Option<&Path>, json: bool) -> anyhow::Result<ExitCode> {
    // Hidden by itself where stderr is no terminal.
    let bar =
        ProgressBar::new(0).with_style(ProgressStyle::with_template("{bar:40} {pos}/{len} faults and variants {msg}")?);
    let mut report = mlxport_parity::mutate(request, |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    })?;
    bar.set_message("variants in processes of their own");
    report.variants.extend(variants::run(request));
    report.summary = MutationSummary::of(&report.mutants, &report.variants);
    bar.finish_and_clear();
    if let Some(dir) = report_dir {
        write_mutation_report(dir, &report).with_context(|| format!("writing the report to {}", dir.display()))?;
    }
    if json {
        eprint!("{}", mutation_text(&report));
        to_stdout(&mutation_json(&report))?;
    } else {
        to_stdout(&mutation_text(&report))?;
    }
    Ok(ExitCode::from(if report.summary.passes() { exit::PASS } else { exit::DIVERGENCE }))
}
