//! `mlxport report`: work on the records of parity runs.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use mlxport_convert::files::read_bounded;
use mlxport_reports::{from_json, write_report};
use mlxport_verdict::{Run, merge};

use crate::{cmd::parity, output::to_stdout};

/// A record is no longer than this; the largest so far, of 877 taps, has 1 MiB.
const MAX_RECORD_BYTE_LEN: u64 = 256 << 20;

/// Flags of `mlxport report`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Join shards (`mlxport parity --shard`), and at most one cumulative run, into the verdict of the whole
    Merge(MergeArgs),
}

#[derive(Debug, clap::Args)]
struct MergeArgs {
    /// Report directories, as `mlxport parity --report` writes them
    #[arg(required = true, value_name = "DIR")]
    parts: Vec<PathBuf>,
    /// Where the joined report is written
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print the record as one JSON object on stdout; the report for people goes to stderr
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When a record cannot be read or the records are not the parts of one run.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Command::Merge(args) = &args.command;
    let outcome = merged(args);
    if let (true, Err(error)) = (args.json, &outcome) {
        to_stdout(&parity::error_object(error))?;
    }
    outcome
}

fn merged(args: &MergeArgs) -> anyhow::Result<ExitCode> {
    let mut parts = Vec::new();
    let mut wrong = Vec::new();
    for dir in &args.parts {
        match record(dir) {
            Ok(run) => parts.push((dir.display().to_string(), run)),
            Err(error) => wrong.push(format!("{error:#}")),
        }
    }
    anyhow::ensure!(
        wrong.is_empty(),
        "{} of {} records cannot be read:\n  {}",
        wrong.len(),
        args.parts.len(),
        wrong.join("\n  ")
    );
    let record = merge(parts).map_err(|violations| {
        let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("these are not the parts of one run:\n  {}", lines.join("\n  "))
    })?;
    write_report(&args.out, &record).with_context(|| format!("writing the report to {}", args.out.display()))?;
    parity::print(args.json, &record)?;
    Ok(parity::exit_code(&record))
}

/// The record of a report directory.
fn record(dir: &Path) -> anyhow::Result<Run> {
    let path = dir.join("record.json");
    let bytes = read_bounded(&path, MAX_RECORD_BYTE_LEN).with_context(|| path.display().to_string())?;
    let text = String::from_utf8(bytes).with_context(|| path.display().to_string())?;
    from_json(&text).with_context(|| path.display().to_string())
}
