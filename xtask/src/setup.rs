//! `cargo xtask setup`: MLX made ready for Rust. On Linux that is work; on macOS mlx-rs does it by itself.

use std::fmt;

use anyhow::Result;

#[cfg(target_os = "linux")]
mod linux;

/// Which build of MLX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Flavour {
    /// The CPU build, with OpenBLAS for its matrix products.
    Cpu,
    /// The build for NVIDIA GPUs (CUDA 13).
    Cuda,
}

impl fmt::Display for Flavour {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        })
    }
}

/// Makes MLX ready; says so and ends when it is ready already. `None` keeps the flavour chosen last, at first the CPU's.
///
/// # Errors
/// Everything that is missing on this machine, all at once, before anything is fetched; later, the first step that failed.
#[cfg(target_os = "linux")]
pub fn run(flavour: Option<Flavour>) -> Result<()> {
    linux::run(flavour)
}

/// Nothing to make ready: mlx-rs builds MLX itself, with Metal.
///
/// # Errors
/// When the CUDA build is asked for, which does not exist here.
#[cfg(target_os = "macos")]
pub fn run(flavour: Option<Flavour>) -> Result<()> {
    anyhow::ensure!(flavour != Some(Flavour::Cuda), "there is no {} build of MLX for macOS", Flavour::Cuda);
    println!("setup: nothing to fetch on macOS; mlx-rs builds MLX with Metal by itself");
    Ok(())
}

/// MLX is not published for this system.
///
/// # Errors
/// Always.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub fn run(_flavour: Option<Flavour>) -> Result<()> {
    anyhow::bail!(
        "setup knows Linux (glibc, x86_64 or aarch64) and macOS; MLX is not published for {}",
        std::env::consts::OS
    )
}
