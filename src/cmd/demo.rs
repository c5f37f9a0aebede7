//! `mlxport demo`: the main job on data that the binary carries. It converts a small checkpoint, checks every layer, writes the report.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use mlxport_fixtures::write_demo;

/// Flags of `mlxport demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory for the recording, the converted model and the report
    #[arg(long, value_name = "DIR", default_value = "mlxport-demo")]
    out: PathBuf,
}

/// Converts the carried checkpoint, compares the model with PyTorch's recording, and writes the report. The exit code is the verdict's.
///
/// # Errors
/// When the directory belongs to someone else or cannot be written, and whatever `convert` and `parity` report.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let recording = write_demo(&args.out)?;
    let path = |parts: &[&str]| parts.iter().fold(args.out.clone(), |dir, part| dir.join(part)).display().to_string();
    let (checkpoint, model, report) = (path(&["tiny-small", "checkpoint"]), path(&["model"]), path(&["report"]));
    let steps = [
        vec!["convert", &checkpoint, &model, "--force"],
        vec![
            "parity",
            "--model",
            &model,
            "--fixture",
            recording.to_str().context("the directory's name is not UTF-8")?,
            "--report",
            &report,
        ],
    ];
    let mut verdict = ExitCode::SUCCESS;
    for step in steps {
        eprintln!("\n$ mlxport {}", step.join(" "));
        verdict = crate::dispatch(crate::Cli::try_parse_from(std::iter::once("mlxport").chain(step))?.command)?;
        if verdict != ExitCode::SUCCESS {
            break;
        }
    }
    let page = args.out.join("report/report.html");
    if page.is_file() {
        eprintln!("\nOpen {} in a browser to see every tensor.", page.display());
    }
    Ok(verdict)
}
