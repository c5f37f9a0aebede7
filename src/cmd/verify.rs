//! `mlxport verify`: a converted directory against its manifest, every byte hashed again.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use mlxport_convert::{show_byte_len, verify};
use serde_json::json;

/// The schema of `--json`.
const SCHEMA: &str = "mlxport.verify/1";

/// Hash a converted directory again and compare with its manifest.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A directory that `mlxport convert` wrote.
    directory: PathBuf,
    /// Print one JSON object on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the command: exit code 0 when nothing differs, else 2.
///
/// # Errors
/// When stdout or stderr cannot be written.
pub fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let (object, sound) = match verify(&args.directory) {
        Ok(report) => {
            let sound = report.differences.is_empty();
            for difference in &report.differences {
                writeln!(std::io::stderr(), "{difference}")?;
            }
            if !args.json {
                writeln!(
                    std::io::stdout(),
                    "{}: {} files, {} tensors, {}: {}",
                    args.directory.display(),
                    report.files,
                    report.tensors,
                    show_byte_len(report.byte_len),
                    if sound {
                        "as the manifest says".to_owned()
                    } else {
                        format!("{} differences", report.differences.len())
                    }
                )?;
            }
            let object = json!({
                "schema": SCHEMA,
                "ok": sound,
                "directory": args.directory,
                "files": report.files,
                "tensors": report.tensors,
                "byte_len": report.byte_len,
                "differences": report.differences,
            });
            (object, sound)
        }
        Err(error) => {
            writeln!(std::io::stderr(), "error: {error}")?;
            let object = json!({
                "schema": SCHEMA,
                "ok": false,
                "directory": args.directory,
                "error": error.to_string(),
                "differences": [],
            });
            (object, false)
        }
    };
    if args.json {
        writeln!(std::io::stdout(), "{object}")?;
    }
    Ok(ExitCode::from(if sound { 0 } else { 2 }))
}
