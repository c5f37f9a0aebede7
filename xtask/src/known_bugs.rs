//! `cargo xtask known-bugs [ID…]`: numeric bugs of mlx-lm, mlx-vlm and mlx-audio that were found and fixed in public, planted once more.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::check;

/// Runs the package's own command; copies, old versions and the table lie in `target/known-bugs`, or where `--out` says.
///
/// # Errors
/// The environment cannot be made, or the chore cannot be started.
pub fn run(arguments: &[OsString]) -> Result<ExitCode> {
    check::run_module("mlxport.known_bugs", &check::with_out(arguments, "known-bugs"))
}
