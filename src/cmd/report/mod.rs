//! `mlxport report`: work on the records of parity runs.

mod diff;
mod ledger;
mod merge;
mod render;

use std::process::ExitCode;

use crate::output::with_error_object;

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
    match &args.command {
        Command::Merge(args) => with_error_object(args.json, merge::run(args)),
        Command::Diff(args) => with_error_object(args.json, diff::run(args)),
        Command::Ledger(args) => with_error_object(args.json, ledger::run(args)),
        Command::Render(args) => render::run(args),
    }
}
