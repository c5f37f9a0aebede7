//! `mlxport report diff`: what got worse, better, is new or gone between two records.

use std::{path::PathBuf, process::ExitCode};

use mlxport_reports::{diff_json, diff_text, read_record};
use mlxport_verdict::diff::diff;

use crate::{
    exit,
    output::{style, to_stdout},
};

/// Flags of `mlxport report diff`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The record to compare with: a report directory or a record file
    base: PathBuf,
    /// The record that is compared
    head: PathBuf,
    /// Print the comparison as one JSON object on stdout; the text for people goes to stderr
    #[arg(long)]
    pub json: bool,
}

/// Compares; exit code 1 where something newly fails.
///
/// # Errors
/// When a record cannot be read, or the two have no tap in common.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (base, head) = (read_record(&args.base), read_record(&args.head));
    if let (Err(base), Err(head)) = (&base, &head) {
        anyhow::bail!("neither record can be read:\n  {base}\n  {head}");
    }
    let diff = diff(&base?, &head?);
    anyhow::ensure!(
        diff.counts.in_both > 0,
        "the two records have no tap in common: {} has {}, {} has {}",
        args.base.display(),
        diff.base.taps,
        args.head.display(),
        diff.head.taps
    );
    if args.json {
        eprint!("{}", diff_text(&diff, &style(&std::io::stderr())));
        to_stdout(&diff_json(&diff))?;
    } else {
        to_stdout(&diff_text(&diff, &style(&std::io::stdout())))?;
    }
    Ok(ExitCode::from(if diff.ok { exit::PASS } else { exit::DIVERGENCE }))
}
