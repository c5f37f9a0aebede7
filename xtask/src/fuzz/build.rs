//! The build of the fuzzing program: LLVM's coverage pass over this workspace's crates. What they depend on is what the tests built.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::cargo;
use crate::stages::succeed;

/// Adds to each of the workspace's own crates what libFuzzer wants compiled in: a counter per edge, where it lies, and a call at each comparison.
/// Not to build scripts: they run while cargo builds, and libFuzzer is not linked to them.
const WRAPPER: &str = "#!/bin/sh\n\
    case \" $* \" in *\" build_script_build \"*) exec \"$@\" ;; esac\n\
    exec \"$@\" --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \\\n\
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \\\n\
    -Cllvm-args=-sanitizer-coverage-trace-compares\n";

/// Builds the program; returns where it lies.
///
/// # Errors
/// When the build fails.
pub fn run() -> Result<PathBuf> {
    let output = cargo::workspace_root().join(super::OUTPUT);
    fs::create_dir_all(&output).with_context(|| output.display().to_string())?;
    let wrapper = output.join("instrument.sh");
    fs::write(&wrapper, WRAPPER).with_context(|| wrapper.display().to_string())?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    let mut command = cargo::command();
    // The same selection as the tests', so that dependencies have the same features and are not built again.
    command.arg("build").arg("--quiet").args(cargo::ALL_BUT_XTASK);
    command.args(["--features", "mlxport-fuzz/libfuzzer", "--bin", "fuzz"]);
    command.env("RUSTC_WORKSPACE_WRAPPER", &wrapper).env("CARGO_INCREMENTAL", "0");
    succeed(&mut command)?;
    Ok(cargo::target_folder(&cargo::metadata(&cargo::host_triple()?)?)?.join("debug/fuzz"))
}
