//! `mlxport verify`: a converted directory against its manifest, every byte hashed again.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use mlxport_convert::{VerifyReport, report, verify};
use serde_json::{Value, json};

use crate::exit;
use crate::output::{json_line, to_stdout};

/// The schema of `--json`.
const SCHEMA: &str = "mlxport.verify/1";

/// Hash a converted directory again and compare with its manifest.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A directory that `mlxport convert` wrote.
    directory: PathBuf,
    /// Print one JSON object on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the command: exit code 0 when nothing differs, 1 when something does, 2 when there is nothing to compare with.
///
/// # Errors
/// When stdout or stderr cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (report, code) = match verify(&args.directory) {
        Ok(report) => differences(args, &report)?,
        Err(error) => {
            writeln!(std::io::stderr(), "error: {error}")?;
            let report = json!({ "error": error.to_string(), "differences": [] });
            (report, exit::code_of(&error.into()))
        }
    };
    if args.json {
        let ok = code == ExitCode::SUCCESS;
        to_stdout(&json_line(json!({ "schema": SCHEMA, "ok": ok, "directory": args.directory }), report))?;
    }
    Ok(code)
}

/// Prints what was checked and what differs.
fn differences(args: &Args, found: &VerifyReport) -> std::io::Result<(Value, ExitCode)> {
    let sound = found.differences.is_empty();
    for difference in &found.differences {
        writeln!(std::io::stderr(), "{difference}")?;
    }
    if !args.json {
        to_stdout(&report::verified(&args.directory.display().to_string(), found))?;
    }
    let object = json!({
        "files": found.files,
        "tensors": found.tensors,
        "byte_len": found.byte_len,
        "differences": found.differences,
    });
    let code = if sound { exit::PASS } else { exit::DIVERGENCE };
    Ok((object, ExitCode::from(code)))
}
