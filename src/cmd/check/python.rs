//! The Python package, started: `python -m mlxport.check`.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::Args;

/// What brings the package and what it needs.
const PIP: &str = "pip install \"./python[check]\" (see docs/check.md)";

/// Lets the package make the reference, run the port and write recordings into `out`. What it says goes to stderr.
///
/// # Errors
/// Python does not start, the package is not installed, or it could not make a recording; what it said stands above.
pub(super) fn record(args: &Args, out: &Path) -> anyhow::Result<()> {
    let python = &args.python;
    let found = Command::new(python)
        .args(["-c", "import importlib.util, sys; sys.exit(importlib.util.find_spec('mlxport') is None)"])
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("starting {} (--python or MLXPORT_PYTHON says which Python)", python.display()))?;
    if !found.success() {
        bail!("{} has no package mlxport: {PIP}", python.display());
    }
    let status = command(args, out).status().with_context(|| format!("starting {}", python.display()))?;
    if !status.success() {
        bail!("{} -m mlxport.check could not compare anything ({status}); its message stands above", python.display());
    }
    Ok(())
}

fn command(args: &Args, out: &Path) -> Command {
    let mut command = Command::new(&args.python);
    command.args(["-m", "mlxport.check", "--out"]).arg(out);
    command.args(["--scenarios", &args.scenarios, "--seed", &args.seed.to_string(), "--config", &args.config]);
    command.args(["--dtype", &args.dtype]);
    if let Some(kind) = &args.model_type {
        command.args(["--model-type", kind]);
    }
    if let Some(directory) = &args.quantized {
        command.arg("--quantized").arg(directory);
    }
    if let Some(reference) = &args.reference {
        command.args(["--reference", reference]);
    }
    for field in &args.set {
        command.arg(format!("--set={field}"));
    }
    if let Some(port) = &args.port {
        command.args(["--port", port]);
    }
    if args.trust_remote_code {
        command.arg("--trust-remote-code");
    }
    if let Some(model) = &args.model {
        command.arg("--").arg(model);
    }
    // Its progress is for people; stdout is for the verdict.
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}
