//! `mlxport report render`: any of the reports again, from a record.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use mlxport_reports::{chart_svg, html, json, junit, markdown_against, read_record, taps_csv, terminal, write_report};
use mlxport_verdict::diff::diff;

use crate::{
    exit,
    output::{style, to_stdout},
};

/// Flags of `mlxport report render`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["format", "out"])))]
pub struct Args {
    /// A report directory or a record file
    record: PathBuf,
    /// Print this format on stdout
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Write all formats into this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// With --format markdown: tell the change from this record, too
    #[arg(long, value_name = "RECORD", requires = "format")]
    base: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For a person at a terminal
    Text,
    /// For a pull request or a step summary; under 1 MiB
    Markdown,
    /// One page that fetches nothing
    Html,
    /// A test case per tap and mode
    Junit,
    /// A line per tap and mode
    Csv,
    /// The record itself
    Json,
    /// The chart of error against tolerance, alone
    Svg,
}

/// Renders. The exit code says nothing of the verdict.
///
/// # Errors
/// When the record cannot be read (by line and column), or a report not be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let run = read_record(&args.record)?;
    anyhow::ensure!(
        args.base.is_none() || args.format == Some(Format::Markdown),
        "--base: only --format markdown tells the change from a base"
    );
    let change = args.base.as_deref().map(read_record).transpose()?.map(|base| diff(&base, &run));
    if let Some(dir) = &args.out {
        write_report(dir, &run).with_context(|| format!("writing the report to {}", dir.display()))?;
    }
    let text = match args.format {
        None => return Ok(ExitCode::from(exit::PASS)),
        Some(Format::Text) => terminal(&run, &style(&std::io::stdout())),
        Some(Format::Markdown) => markdown_against(&run, change.as_ref()),
        Some(Format::Html) => html(&run),
        Some(Format::Junit) => junit(&run)?,
        Some(Format::Csv) => taps_csv(&run)?,
        Some(Format::Json) => json(&run),
        Some(Format::Svg) => chart_svg(&run),
    };
    to_stdout(&text)?;
    Ok(ExitCode::from(exit::PASS))
}
