//! `cargo xtask recipes [TYPE…]`: every built-in recipe on small random models, held against the converters of mlx-lm and mlx-vlm.
//!
//! The work is the Python package's (`python/mlxport/recipes/`); here it gets an environment, the program, and a place for its results.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::check;

/// Converts, compares, runs and audits; results go into `target/recipes`, or where `--out` says, and a second run goes on there.
///
/// # Errors
/// The environment cannot be made, or the chore cannot be started.
pub fn run(arguments: &[OsString]) -> Result<ExitCode> {
    check::run_module("mlxport.recipes", &check::with_out(arguments, "recipes"))
}
