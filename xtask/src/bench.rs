//! `cargo xtask bench …`: what is fast is measured here, beside the limit and the peer in one run. No test is timed.

mod audit;
mod convert;
mod dequantize;
mod measure;
pub mod release;
mod serve;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::cargo;
use crate::stages::succeed;

/// What can be measured.
#[derive(Subcommand)]
pub enum Bench {
    /// Audit a release of 6.67 GB and its 4-bit conversion: time against `cat` of both, warm and cold, and memory.
    Audit(audit::Options),
    /// Convert a checkpoint of the release's size: time and memory against `cp` and, where `cargo xtask mlx-vlm` has installed it, mlx-vlm.
    Convert(convert::Options),
    /// `mlxport serve` under many clients, slow ones and a kill among them: nothing lost or mixed up, and how long the first byte takes.
    Serve(serve::Options),
    /// Dequantize a generated FP8-block release: time against `cp` of as many bytes, and memory.
    Dequantize(dequantize::Options),
}

/// Runs one.
///
/// # Errors
/// When something cannot be built, made or run. A target that is missed is printed, and no error.
pub fn run(bench: &Bench) -> Result<ExitCode> {
    match bench {
        Bench::Audit(options) => audit::run(options),
        Bench::Convert(options) => convert::run(options),
        Bench::Serve(options) => serve::run(options),
        Bench::Dequantize(options) => dequantize::run(options),
    }
}

/// Builds the binary as people get it; returns its path.
///
/// # Errors
/// When it does not build.
pub fn binary() -> Result<PathBuf> {
    succeed(cargo::command().args(["build", "--release", "--locked"]))?;
    let folder = cargo::target_folder(&cargo::metadata(&cargo::host_triple()?)?)?;
    Ok(folder.join("release").join(format!("mlxport{}", std::env::consts::EXE_SUFFIX)))
}

/// Where everything that benchmarks make lies.
pub fn folder() -> PathBuf {
    cargo::workspace_root().join("target").join("bench")
}

/// Removes what a run left.
fn clear(target: &Path) -> Result<()> {
    let removed = if target.is_dir() { std::fs::remove_dir_all(target) } else { std::fs::remove_file(target) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| target.display().to_string())
        }
        _ => Ok(()),
    }
}
