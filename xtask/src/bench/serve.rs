//! `cargo xtask bench serve`: many clients at once, some of them slow or gone midway, and a kill in the middle (`xtask/openai/load.py`).

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::cargo;
use crate::stages::succeed;

/// How many, how long.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How long clients ask.
    #[arg(long, default_value_t = 120)]
    seconds: u32,
    /// How many clients, ten of them slow or gone midway.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(11..))]
    clients: u32,
    /// A binary that is built; else it is built as people get it.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Runs the load and prints what it came to.
///
/// # Errors
/// When a request is lost or gets another one's text, or memory grows.
pub fn run(options: &Options) -> Result<ExitCode> {
    let binary = options.binary.clone().map_or_else(super::binary, Ok)?;
    let root = cargo::workspace_root();
    let mut command = Command::new("python3");
    command.arg(root.join("xtask/openai/load.py")).arg(binary).arg(root.join("fixtures/data/tiny-small/checkpoint"));
    command.arg(root.join("ocr/testdata")).arg(super::folder().join("serve"));
    command.arg(options.seconds.to_string()).arg(options.clients.to_string());
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("NO_PROXY", "127.0.0.1");
    succeed(&mut command)?;
    Ok(ExitCode::SUCCESS)
}
