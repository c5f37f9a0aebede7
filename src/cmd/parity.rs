//! `mlxport parity`: run a converted model against a recording of PyTorch, layer by layer.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::ValueEnum;
use mlxport_model::{fault::Faults, runtime::Place};
use mlxport_parity::{Request, Selection};
use mlxport_reports::write_report;
use mlxport_verdict::{Mode, SCHEMA};

use crate::{
    exit,
    output::{show_record, to_stdout},
};

/// Flags of `mlxport parity`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The converted model's directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The recording's directory
    #[arg(long, value_name = "DIR")]
    fixture: PathBuf,
    /// From the recording's inputs, or every module from its own recorded input
    #[arg(long, value_enum, default_value_t = Modes::Both)]
    mode: Modes,
    /// Where to run
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    device: Device,
    /// The dtype of activations
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    dtype: Dtype,
    /// Only taps whose path fits this glob, `model.layers.*` say
    #[arg(long, value_name = "GLOB")]
    select: Option<String>,
    /// Write record.json, report.md and report.txt there
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Print the record as one JSON object on stdout; the report for people goes to stderr
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Modes {
    Cumulative,
    Isolated,
    Both,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Device {
    Cpu,
    Gpu,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Dtype {
    F32,
    Bf16,
}

/// Runs the command.
///
/// # Errors
/// When model, fixture or device cannot be used: no verdict.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let outcome = verdict(args);
    if let (true, Err(error)) = (args.json, &outcome) {
        let object = serde_json::json!({ "schema": SCHEMA, "ok": false, "error": format!("{error:#}") });
        to_stdout(&format!("{object}\n"))?;
    }
    outcome
}

fn verdict(args: &Args) -> anyhow::Result<ExitCode> {
    if args.dtype == Dtype::Bf16 {
        anyhow::bail!(
            "--dtype bf16: the recordings hold no bfloat16 floors, so there is no tolerance to judge by; use f32"
        );
    }
    let request = Request {
        model: args.model.clone(),
        fixture: args.fixture.clone(),
        modes: match args.mode {
            Modes::Cumulative => vec![Mode::Cumulative],
            Modes::Isolated => vec![Mode::Isolated],
            Modes::Both => vec![Mode::Cumulative, Mode::Isolated],
        },
        selection: Selection::parse(args.select.as_deref())?,
        place: match args.device {
            Device::Cpu => Place::Cpu,
            Device::Gpu => Place::Gpu,
        },
        faults: Faults::default(),
    };
    let record = mlxport_parity::run(&request)?;
    if let Some(dir) = &args.report {
        write_report(dir, &record).with_context(|| format!("writing the report to {}", dir.display()))?;
    }
    show_record(&record, args.json)?;
    Ok(exit::of_verdict(record.summary.verdict))
}
