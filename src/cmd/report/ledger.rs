//! `mlxport report ledger`: a file that grows by one line per run, and the chart of it.

use std::{path::PathBuf, process::ExitCode, time::SystemTime};

use anyhow::Context;
use mlxport_reports::{
    Entry, atlas_entries, ledger_html, ledger_object, ledger_text, parse_ledger, read_ledger, read_record, write_text,
};

use crate::{exit, output::to_stdout};

/// Where CI systems say which commit they are at.
const COMMIT_VARIABLES: [&str; 2] = ["GITHUB_SHA", "CI_COMMIT_SHA"];

/// Flags of `mlxport report ledger`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The ledger: JSON lines, one per run
    file: PathBuf,
    /// Add a run: a report directory, a record file, or what `python -m mlxport.atlas` wrote. The ledger is made if it is not there
    #[arg(long, value_name = "RECORD")]
    add: Option<PathBuf>,
    /// The commit that was judged; without it, $GITHUB_SHA or $CI_COMMIT_SHA
    #[arg(long, value_name = "ID", requires = "add", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    commit: Option<String>,
    /// When it ran (RFC 3339); without it, now
    #[arg(long, value_name = "TIME", requires = "add")]
    time: Option<humantime::Timestamp>,
    /// Write a page with charts of each system's error across commits
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print the last run of every series, and what drifts, as one JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// Adds a line where one is asked for, and shows the ledger. The exit code says nothing of the verdicts in it.
///
/// # Errors
/// When a line of the ledger or the record cannot be read (by line and column): then nothing is written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut text = if args.add.is_some() && !args.file.exists() { String::new() } else { read_ledger(&args.file)? };
    let mut entries = parse_ledger(&text).with_context(|| args.file.display().to_string())?;
    if let Some(added) = &args.add {
        let time = args.time.unwrap_or_else(|| SystemTime::now().into());
        let time = humantime::format_rfc3339_seconds(time.into()).to_string();
        let commit = commit(args)?;
        let new = match atlas_entries(added, &commit, &time)? {
            Some(lines) => lines,
            None => vec![Entry::of(&read_record(added)?, &commit, &time)],
        };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.extend(new.iter().map(Entry::line));
        write_text(&args.file, &text).with_context(|| format!("writing {}", args.file.display()))?;
        entries.extend(new);
    }
    if let Some(path) = &args.html {
        write_text(path, &ledger_html(&entries)).with_context(|| format!("writing {}", path.display()))?;
    }
    if args.json {
        eprint!("{}", ledger_text(&entries));
        to_stdout(&ledger_object(&entries))?;
    } else {
        to_stdout(&ledger_text(&entries))?;
    }
    Ok(ExitCode::from(exit::PASS))
}

fn commit(args: &Args) -> anyhow::Result<String> {
    let in_ci = COMMIT_VARIABLES.iter().filter_map(|name| std::env::var(name).ok()).find(|id| !id.is_empty());
    args.commit.clone().or(in_ci).context("--add needs --commit ID (or $GITHUB_SHA, $CI_COMMIT_SHA)")
}
