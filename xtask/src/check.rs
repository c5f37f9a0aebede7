//! The Python package's own checks, in an environment that is kept: `cargo xtask test` runs its linters, its tests and two types end to end;
//! `cargo xtask check-mutants` plants faults in copies of mlx-lm's models.
//!
//! pip's torch brings gigabytes. So the environment lies in `target/check-python`, is made once, and is used again. A machine without
//! it and without a package index cannot run these checks: that is told, and where `CI` is set it is a failure.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::cargo;
use crate::stages::{exit_code, succeed};

/// What the package's checks need beside the package. `MLXPORT_PYTHON` names an interpreter that has them already.
const PACKAGES: [&str; 10] =
    ["torch", "transformers", MLX, "mlx-lm", "mlx-vlm", "numpy", "pytest", "pytest-xdist", "ruff", "pyright"];
/// On Linux the `mlx` wheel has no backend of its own: its extra `cpu` brings one.
const MLX: &str = if cfg!(target_os = "linux") { "mlx[cpu]" } else { "mlx" };
/// The types that are checked end to end.
const TYPES: [&str; 2] = ["llama", "qwen3_moe"];

/// The interpreter, made if needed.
///
/// # Errors
/// There is no Python 3.10, or the packages cannot be installed.
pub fn install() -> Result<PathBuf> {
    if let Some(python) = std::env::var_os("MLXPORT_PYTHON") {
        return Ok(PathBuf::from(python));
    }
    let folder = cargo::workspace_root().join("target").join("check-python");
    let python = folder.join("bin").join("python");
    if !has_packages(&python) {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&folder)).context("making target/check-python")?;
        let mut pip = Command::new(&python);
        // Python compiles what it imports; compiling all of torch beforehand takes a minute.
        pip.args(["-m", "pip", "install", "--quiet", "--no-compile"]);
        succeed(pip.args(PACKAGES)).context("installing torch, transformers, mlx, mlx-lm and mlx-vlm")?;
    }
    Ok(python)
}

fn has_packages(python: &Path) -> bool {
    let script = "import importlib.util as u, sys; sys.exit(any(u.find_spec(n) is None for n in \
                  ['torch', 'transformers', 'mlx', 'mlx_lm', 'mlx_vlm', 'pytest', 'xdist', 'ruff', \
                  'pyright']))";
    python.is_file() && Command::new(python).args(["-c", script]).status().is_ok_and(|status| status.success())
}

/// Linters, tests, and two types end to end, by the binary that lies in cargo's debug folder: building it is the caller's, since `cargo test`
/// has just done so with the features of the whole workspace.
///
/// # Errors
/// The first that fails.
pub fn run(python: &Path) -> Result<()> {
    let package = cargo::workspace_root().join("python");
    let in_package = |arguments: &[&str]| {
        let mut command = with_package(python);
        succeed(command.current_dir(&package).args(arguments))
    };
    in_package(&["-m", "ruff", "check", "."])?;
    let interpreter = python.to_string_lossy();
    in_package(&["-m", "pyright", "--pythonpath", &*interpreter])?;
    // A worker per core, each with a whole file's tests: they share what they record.
    in_package(&["-m", "pytest", "-q", "--numprocesses", "auto", "--dist", "loadfile"])?;
    for kind in TYPES {
        let mut check = Command::new(built());
        check.args(["check", "--model-type", kind, "--python"]).arg(python);
        succeed(check.env("PYTHONPATH", &package))?;
    }
    Ok(())
}

/// Plants faults in copies of mlx-lm's models; every one must be caught, and no unchanged copy accused.
///
/// # Errors
/// The environment cannot be made, or the chore cannot be started.
pub fn mutants() -> Result<ExitCode> {
    run_module("mlxport.mutants", &[])
}

/// Checks every model type of every port and writes one table into `target/atlas`, or where `--out` says.
///
/// # Errors
/// The environment cannot be made, or the chore cannot be started.
pub fn atlas(arguments: &[OsString]) -> Result<ExitCode> {
    run_module("mlxport.atlas", &with_out(arguments, "atlas"))
}

/// The arguments, with `--out` in the target folder where none is given.
pub fn with_out(arguments: &[OsString], folder: &str) -> Vec<OsString> {
    let mut all = arguments.to_vec();
    if !arguments.iter().any(|argument| argument.to_string_lossy().starts_with("--out")) {
        all.push("--out".into());
        all.push(cargo::workspace_root().join("target").join(folder).into());
    }
    all
}

/// Runs a module of the Python package with the program that judges.
///
/// # Errors
/// The environment cannot be made, or the module cannot be started.
pub fn run_module(module: &str, arguments: &[OsString]) -> Result<ExitCode> {
    let python = install()?;
    let mut command = with_package(&python);
    command.args(["-m", module, "--binary"]).arg(binary()?).args(arguments);
    Ok(ExitCode::from(exit_code(&mut command)?))
}

fn with_package(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.env("PYTHONPATH", cargo::workspace_root().join("python"));
    command.env("MLXPORT_BIN", built());
    command
}

/// Builds the program with the features that the tests build it with; returns where it lies.
fn binary() -> Result<PathBuf> {
    succeed(cargo::command().arg("build").args(cargo::ALL_BUT_XTASK).args(cargo::BINARY_OF_TESTS))?;
    let binary = built();
    ensure!(binary.is_file(), "{} was not built", binary.display());
    Ok(binary)
}

fn built() -> PathBuf {
    cargo::workspace_root().join("target").join("debug").join("mlxport")
}
