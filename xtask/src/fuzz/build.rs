//! The build of the fuzz targets: LLVM's coverage pass over every crate, in a target folder of its own.

use std::path::PathBuf;

use anyhow::Result;

use crate::cargo;
use crate::stages::succeed;

use super::OUTPUT;

/// What libFuzzer wants compiled in: a counter per edge, where it lies, and a call at each comparison.
const RUSTFLAGS: [&str; 6] = [
    "--cfg fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Builds all targets; returns the folder they lie in.
///
/// # Errors
/// When the build fails.
pub fn run() -> Result<PathBuf> {
    let host = cargo::host_triple()?;
    let output = cargo::workspace_root().join(OUTPUT);
    let mut command = cargo::command();
    command.args(["build", "--quiet", "--locked", "--package", "mlxport-fuzz", "--bins", "--features", "libfuzzer"]);
    // With a target named, build scripts and procedural macros are spared the flags.
    command.args(["--profile", "fuzz", "--target", &host, "--target-dir"]).arg(&output);
    command.env("RUSTFLAGS", RUSTFLAGS.join(" ")).env_remove("CARGO_ENCODED_RUSTFLAGS").env("CARGO_INCREMENTAL", "0");
    succeed(&mut command)?;
    Ok(output.join(host).join("fuzz"))
}
