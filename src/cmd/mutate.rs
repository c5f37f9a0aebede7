//! `mlxport parity --mutate`: plant faults one by one, and see which are caught and where.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use mlxport_model::runtime::DeviceKind;
use mlxport_parity::{Request, mutate::variants_in_processes};
use mlxport_reports::{from_json, mutation_json, mutation_text, write_mutation_report};
use mlxport_verdict::{MutationSummary, Run};

use crate::{exit, output::to_stdout};

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
    report.variants.extend(variants_in_processes(|environment| run_in_process(request, environment)));
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

/// This program with `environment`, on the same model and recording; the record it prints.
fn run_in_process(request: &Request, environment: &[(&str, &str)]) -> Result<Run, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let device = match request.device {
        DeviceKind::Cpu => "cpu",
        DeviceKind::Gpu => "gpu",
    };
    let output = Command::new(program)
        .args(["parity", "--json", "--steps", "plain", "--device", device, "--dtype", request.precision.name()])
        .arg("--model")
        .arg(&request.model)
        .arg("--fixture")
        .arg(&request.fixture)
        .envs(environment.iter().copied())
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8(output.stdout).map_err(|e| e.to_string())?;
    from_json(&text).map_err(|error| format!("{error}; it ended with {}", output.status))
}
