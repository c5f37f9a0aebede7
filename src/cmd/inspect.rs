//! `mlxport inspect`: keys, shapes and dtypes of a checkpoint, and which recipe fits.

use std::io::Write;
use std::process::ExitCode;

use mlxport_convert::inspect::Verdict;
use mlxport_convert::{ViolationKind, inspect_with, report};
use serde_json::json;

use super::hub_progress::resolve;
use crate::exit;
use crate::output::{json_line, to_stdout, violations};

/// The schema of `--json`.
const SCHEMA: &str = "mlxport.inspect/1";

/// Show what a checkpoint holds and which recipe fits.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Checkpoint directory, one file (safetensors, or any that torch.save wrote), or a hub id (owner/name[@revision]).
    path: String,
    /// Which dict of a PyTorch file is the state dict (a.b: b in a); without it, the one there is.
    #[arg(long, value_name = "NAME")]
    state_dict: Option<String>,
    /// Recipe file to ask too (may be given several times); a built-in one's name has it checked whatever config.json says.
    #[arg(long = "recipe", value_name = "NAME|FILE")]
    recipes: Vec<String>,
    /// Print one JSON object on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the command: exit code 0 when the files and every given recipe file are sound, 2 when they are not.
///
/// # Errors
/// When stdout or stderr cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let found = resolve(&args.path, args.json)
        .map_err(anyhow::Error::from)
        .and_then(|path| Ok(inspect_with(&path, args.state_dict.as_deref(), &args.recipes)?));
    let inspection = match found {
        Ok(inspection) => inspection,
        Err(error) => {
            writeln!(std::io::stderr(), "error: {error}")?;
            if args.json {
                let object = json!({
                    "schema": SCHEMA,
                    "ok": false,
                    "error": error.to_string(),
                    "violations": violations(&error),
                });
                to_stdout(&format!("{object}\n"))?;
            }
            return Ok(exit::code_of(&error));
        }
    };
    let broken = |verdict: &Verdict| verdict.violations.iter().any(|violation| violation.kind == ViolationKind::Recipe);
    let sound = inspection.violations.is_empty() && !inspection.recipes.iter().any(broken);
    if args.json {
        let head = json!({ "schema": SCHEMA, "ok": sound, "path": args.path });
        to_stdout(&json_line(head, serde_json::to_value(&inspection)?))?;
    } else {
        to_stdout(&report::inspection(&inspection))?;
    }
    for violation in &inspection.violations {
        writeln!(std::io::stderr(), "{violation}")?;
    }
    Ok(ExitCode::from(if sound { exit::PASS } else { exit::INPUT }))
}
