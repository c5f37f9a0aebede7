//! `mlxport compare`: judge one recording by another, whoever made them.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use mlxport_compare::{Renames, Request, compare};
use mlxport_reports::write_report;

use crate::{
    cmd::parity::{exit_code, print},
    output::with_error_object,
};

/// Flags of `mlxport compare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The recording that judges, with its floors
    reference: PathBuf,
    /// The recording that is judged
    candidate: PathBuf,
    /// How the candidate's points are called in the reference: a TOML file of [[point]] from, to
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
    /// What the candidate's runtime is off by on the reference's operands: the runtime_floors.json that `check` writes beside a reference
    #[arg(long, value_name = "FILE")]
    runtime_floors: Option<PathBuf>,
    /// Write record.json, report.md, report.html, report.txt, taps.csv and junit.xml there
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Print the record as one JSON object on stdout; the report for people goes to stderr
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When a recording cannot be used, or the two were fed different inputs: no verdict.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    with_error_object(args.json, verdict(args))
}

fn verdict(args: &Args) -> anyhow::Result<ExitCode> {
    let renames = args.map.as_deref().map(Renames::read).transpose()?.unwrap_or_default();
    let request = Request {
        reference: args.reference.clone(),
        candidate: args.candidate.clone(),
        renames,
        runtime_floors: args.runtime_floors.clone(),
        isolated: false,
    };
    let record = compare(&request)?;
    if let Some(dir) = &args.report {
        write_report(dir, &record).with_context(|| format!("writing the report to {}", dir.display()))?;
    }
    print(args.json, &record)?;
    Ok(exit_code(&record))
}
