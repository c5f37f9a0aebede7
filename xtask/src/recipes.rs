//! `cargo xtask recipes [TYPE…]`: every built-in recipe on small random models, held against the converters of mlx-lm and mlx-vlm.
//! `cargo xtask recipes infer [TYPE…]`: recipes learned from mlx-lm's conversions, each used and compared with what it was learned from.
//!
//! The work is the Python package's (`python/mlxport/recipes/`); here it gets an environment, the program, and a place for its results.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::check;

/// Converts, compares, runs and audits, or learns; results go into `target/recipes` or `target/recipes-infer`, or where `--out` says.
///
/// # Errors
/// The environment cannot be made, or the chore cannot be started.
pub fn run(arguments: &[OsString]) -> Result<ExitCode> {
    match arguments {
        [first, rest @ ..] if first == "infer" => {
            check::run_module("mlxport.recipes.infer", &check::with_out(rest, "recipes-infer"))
        }
        _ => check::run_module("mlxport.recipes", &check::with_out(arguments, "recipes")),
    }
}
