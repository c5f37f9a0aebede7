//! `mlxport audit`: is an MLX conversion the release it claims to be?

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use mlxport_audit::{Request, SCHEMA, audit, files, json, text};
use mlxport_convert::parse_byte_len;
use mlxport_reports::write_text;

use super::hub_progress::resolve;
use crate::exit;
use crate::output::{to_stdout, with_violations};

/// Flags of `mlxport audit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The MLX conversion: a directory or a hub id (owner/name[@revision])
    mlx: String,
    /// The PyTorch release: a directory, one weight file with its config.json beside it, or a hub id
    release: String,
    /// A recipe that says what comes from where; none is needed
    #[arg(long, value_name = "NAME|FILE")]
    recipe: Option<String>,
    /// Keys of the release that may be missing (may be given several times)
    #[arg(long, value_name = "GLOB")]
    may_drop: Vec<String>,
    /// Fail on minor findings and notes, too
    #[arg(long)]
    strict: bool,
    /// What buffers may take
    #[arg(long, value_name = "SIZE", default_value = "192MiB", value_parser = parse_byte_len)]
    memory: u64,
    /// Write record.json, report.md, report.html and report.txt there
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Print the report as one JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// Runs the command: exit code 0 where nothing is wrong, 1 where something is, 2 where no verdict can be given.
///
/// # Errors
/// What keeps a verdict from being given.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    with_violations(args.json, SCHEMA, verdict(args))
}

fn verdict(args: &Args) -> anyhow::Result<ExitCode> {
    let request = Request {
        mlx: resolve(&args.mlx, args.json)?,
        release: resolve(&args.release, args.json)?,
        names: (args.mlx.clone(), args.release.clone()),
        may_drop: args.may_drop.clone(),
        recipe: args.recipe.clone(),
        strict: args.strict,
        memory: args.memory,
    };
    let report = audit(&request)?;
    if let Some(dir) = &args.report {
        std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        files(&report)?.iter().try_for_each(|(name, text)| write_text(dir.join(name), text))?;
    }
    to_stdout(&if args.json { json(&report)? } else { text(&report) })?;
    Ok(ExitCode::from(if report.verdict == "pass" { exit::PASS } else { exit::DIVERGENCE }))
}
