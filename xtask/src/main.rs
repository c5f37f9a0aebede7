//! `cargo xtask …`: the project's chores. Each subcommand is one module; this file only parses and sets the exit code.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "chores talk to a person at a terminal")]

mod bench;
mod browser;
mod cargo;
mod check;
mod demo;
mod fuzz;
mod junit;
mod known_bugs;
mod mlx_vlm;
mod openai;
mod recipes;
mod setup;
mod stages;
mod test;
mod tidy;
mod wheel;
mod workflows;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The project's chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Fetch MLX and make it ready for Rust, inside this folder only (Linux; nothing to do on macOS).
    Setup {
        /// Which MLX: for the processor, or for NVIDIA GPUs (CUDA 13), which runs on the processor, too.
        #[arg(long, value_enum, default_value_t = setup::Flavour::Cpu)]
        backend: setup::Flavour,
        /// The same as `--backend cuda`.
        #[arg(long, conflicts_with = "backend", hide = true)]
        cuda: bool,
    },
    /// Look at reports in a headless Chromium: they render, sort and filter, and fetch nothing.
    Browser,
    /// Measure against the peer and the limit.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Check every model type that transformers and mlx-lm or mlx-vlm both have, and write one table (docs/atlas.md).
    Atlas {
        /// What the package's command takes: types, --out, --ports, --seeds, --shard, --jobs, --before
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Plant faults in copies of mlx-lm's models: `mlxport check` must catch each, and accuse no unchanged one.
    CheckMutants,
    /// Convert a small checkpoint that lies in the repository, run it, compare every layer, write a report.
    Demo,
    /// Throw made-up input at every parser (libFuzzer, on the stable toolchain).
    Fuzz(fuzz::Options),
    /// Plant numeric bugs that were fixed in public once more: `mlxport check` must find them, and accuse no mended port (docs/known-bugs.md).
    KnownBugs {
        /// What the package's command takes: ids or globs, --out, --jobs
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Hold conversions against mlx-vlm's: what it loads, and what it writes itself, in every quantization (installs it first).
    MlxVlm,
    /// Let OpenAI's own Python client drive `mlxport serve` (installs it first).
    Openai,
    /// Hold the built-in recipes against the converters of mlx-lm and mlx-vlm, on small random models of every type (docs/recipes.md).
    Recipes {
        /// What the package's command takes: types, --out, --sizes, --jobs, --no-faults, --record; `infer` first: recipes are learned instead
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Everything that must hold before a change goes in: setup, fmt, clippy, test, a short run of every fuzz target, OpenAI's client.
    Test,
    /// The house rules that no compiler checks.
    Tidy,
    /// Build a wheel with the Python package and the program, install it into a fresh environment, run the demo there (Linux).
    Wheel,
}

fn main() -> ExitCode {
    run(Arguments::parse().chore).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(chore: Chore) -> Result<ExitCode> {
    match chore {
        Chore::Setup { backend, cuda } => {
            let flavour = if cuda { setup::Flavour::Cuda } else { backend };
            setup::run(Some(flavour)).map(|()| ExitCode::SUCCESS)
        }
        Chore::Browser => match browser::missing() {
            None => browser::run().map(|()| ExitCode::SUCCESS),
            Some(reason) => anyhow::bail!("{reason}"),
        },
        Chore::Bench(bench) => bench::run(&bench),
        Chore::Atlas { arguments } => check::atlas(&arguments),
        Chore::CheckMutants => check::mutants(),
        Chore::Demo => demo::run(),
        Chore::Fuzz(options) => fuzz::run(&options),
        Chore::KnownBugs { arguments } => known_bugs::run(&arguments),
        Chore::MlxVlm => mlx_vlm::run(),
        Chore::Openai => openai::run(),
        Chore::Recipes { arguments } => recipes::run(&arguments),
        Chore::Test => test::run(),
        Chore::Tidy => tidy::run(),
        Chore::Wheel => wheel::run(),
    }
}
