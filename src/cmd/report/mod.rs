//! `mlxport report`: work on the records of parity runs.

mod diff;
mod ledger;
mod merge;
mod render;

use std::{path::Path, process::ExitCode};

use anyhow::Context;
use mlxport_convert::files::read_bounded;
use mlxport_reports::from_json;
use mlxport_verdict::Run;

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
    Merge(merge::Args),
    /// What got worse, better, is new or gone between two records; exit code 1 where something newly fails
    Diff(diff::Args),
    /// A file that grows by one line per run, and a chart of each system's error across commits
    Ledger(ledger::Args),
    /// Make any of the reports again from a record
    Render(render::Args),
}

/// Runs the command.
///
/// # Errors
/// When a record or a ledger cannot be read, a report not be written, or the records are not the parts of one run.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (json, outcome) = match &args.command {
        Command::Merge(args) => (args.json, merge::run(args)),
        Command::Diff(args) => (args.json, diff::run(args)),
        Command::Ledger(args) => (args.json, ledger::run(args)),
        Command::Render(args) => (false, render::run(args)),
    };
    if let (true, Err(error)) = (json, &outcome) {
        to_stdout(&parity::error_object(error))?;
    }
    outcome
}

/// The record of a report directory, or in a file of its own.
fn record(place: &Path) -> anyhow::Result<Run> {
    // What is not there is a directory, unless it is called like a record.
    let is_file = place.is_file() || (!place.exists() && place.extension().is_some_and(|ending| ending == "json"));
    let path = if is_file { place.to_owned() } else { place.join("record.json") };
    let bytes = read_bounded(&path, MAX_RECORD_BYTE_LEN).with_context(|| path.display().to_string())?;
    let text = String::from_utf8(bytes).with_context(|| path.display().to_string())?;
    from_json(&text).with_context(|| path.display().to_string())
}
