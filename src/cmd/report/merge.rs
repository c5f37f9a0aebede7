//! `mlxport report merge`: shards into one verdict.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use mlxport_reports::{read_records, write_report};
use mlxport_verdict::merge;

use crate::cmd::parity;

/// Flags of `mlxport report merge`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Report directories, as `mlxport parity --report` writes them
    #[arg(required = true, value_name = "DIR")]
    parts: Vec<PathBuf>,
    /// Where the joined report is written
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print the record as one JSON object on stdout; the report for people goes to stderr
    #[arg(long)]
    pub json: bool,
}

/// Joins the records; the exit code is the verdict's.
///
/// # Errors
/// When a record cannot be read or the records are not the parts of one run: all of it listed.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let record = merge(read_records(&args.parts)?).map_err(|violations| {
        let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("these are not the parts of one run:\n  {}", lines.join("\n  "))
    })?;
    write_report(&args.out, &record).with_context(|| format!("writing the report to {}", args.out.display()))?;
    parity::print(args.json, &record)?;
    Ok(parity::exit_code(&record))
}
