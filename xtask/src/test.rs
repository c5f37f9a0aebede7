//! `cargo xtask test`: everything that must hold before a change goes in. `.ci/run` runs just this.

use std::process::{Command, ExitCode};
use std::thread;

use anyhow::{Result, anyhow};

use crate::stages::{Stages, succeed};
use crate::{browser, cargo, check, fuzz, junit, openai, setup, workflows};

/// Runs all stages.
///
/// # Errors
/// The first stage that fails, by name.
pub fn run() -> Result<ExitCode> {
    let mut stages = Stages::begin("test");
    // pip takes one core and waits for the network; cargo compiles meanwhile.
    let installing = thread::spawn(|| (check::install(), openai::install()));
    stages.run("setup", || setup::run(None))?;
    stages.run("fmt", || succeed(cargo::command().args(["fmt", "--all", "--check"])))?;
    stages.run("clippy", || {
        let arguments = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
        succeed(cargo::command().args(arguments))
    })?;
    stages.run("test", || {
        succeed(alone_on_its_core(cargo::command().arg("test").args(cargo::ALL_BUT_XTASK)))?;
        succeed(cargo::command().args(["test", "--package", "xtask", "--locked"]))
    })?;
    match workflows::actionlint::find() {
        Ok(actionlint) => stages.run("actionlint", || actionlint.run())?,
        Err(reason) => stages.not_run("actionlint", format!("{reason:#}")),
    }
    match junit::missing() {
        None => stages.run("junit", junit::look)?,
        Some(reason) => stages.not_run("junit", reason),
    }
    match browser::missing() {
        None => stages.run("browser", browser::look)?,
        Some(reason) => stages.not_run("browser", reason),
    }
    match fuzz::missing() {
        None => stages.run("fuzz", fuzz::short)?,
        Some(reason) => stages.not_run("fuzz", reason),
    }
    let (python, client) = installing.join().map_err(|_| anyhow!("the thread that runs pip panicked"))?;
    match python {
        Ok(python) => stages.run("check", || check::run(&python))?,
        Err(reason) => stages.not_run("check", format!("{reason:#}")),
    }
    match client {
        Ok(()) => stages.run("openai", openai::drive)?,
        Err(reason) => stages.not_run("openai", format!("{reason:#}")),
    }
    stages.end()
}

/// Tests run small models, as many at once as there are cores. OpenBLAS would start a thread per core in each of them, and threads that wait
/// for work spin: all tests would take twice as long. What other numbers of threads compute is `--mutate`'s to compare, and the tests do.
fn alone_on_its_core(command: &mut Command) -> &mut Command {
    command.env("OPENBLAS_NUM_THREADS", "1")
}
