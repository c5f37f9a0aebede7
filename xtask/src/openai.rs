//! `cargo xtask openai`: OpenAI's own Python client drives `mlxport serve` (`xtask/openai/drive.py`).
//!
//! The client is installed from the package index into `target/openai`, for this check only.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo;
use crate::stages::succeed;

/// Installs the client and lets it drive the binary.
///
/// # Errors
/// When it cannot be installed, or is told something it does not expect.
pub fn run() -> Result<ExitCode> {
    install()?;
    succeed(cargo::command().arg("build").args(cargo::ALL_BUT_XTASK).args(cargo::BINARY_OF_TESTS))?;
    drive()?;
    Ok(ExitCode::SUCCESS)
}

/// Lets the installed client drive the binary that lies in cargo's debug folder: building it is the caller's, since `cargo test` has just done
/// so with the features of the whole workspace, and a build of the binary alone would begin anew.
///
/// # Errors
/// The first thing that is not as the client expects.
pub fn drive() -> Result<()> {
    let (root, target) = (cargo::workspace_root(), cargo::target_folder(&cargo::metadata(&cargo::host_triple()?)?)?);
    let mut command = Command::new("python3");
    command.arg(script("drive.py"));
    command.arg(target.join("debug").join(format!("mlxport{}", std::env::consts::EXE_SUFFIX)));
    command.arg(root.join("fixtures/data/tiny-small/checkpoint")).arg(root.join("ocr/testdata"));
    command.arg(folder().with_extension("work"));
    // Only what was installed here, and nothing of a proxy between here and here.
    command.env("PYTHONPATH", folder()).env("PYTHONDONTWRITEBYTECODE", "1").env("NO_PROXY", "127.0.0.1");
    succeed(&mut command)
}

/// Installs the client, unless it is there.
///
/// # Errors
/// With pip's reason: no Python, no pip, an index that is not reached, …
pub fn install() -> Result<()> {
    let wanted = fs::read(script("requirements.txt")).context("requirements.txt")?;
    let stamp = folder().join("requirements.txt");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let work = folder().with_extension("unfinished");
    for stale in [&work, &folder()] {
        let _ = fs::remove_dir_all(stale);
    }
    pip(&work)?;
    fs::write(work.join("requirements.txt"), wanted).context("could not mark the installation as whole")?;
    fs::rename(&work, folder()).context("could not put the installation in place")
}

fn pip(target: &Path) -> Result<()> {
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-compile"]);
    command.args(["--only-binary", ":all:", "--no-warn-conflicts", "--target"]).arg(target).arg("--requirement");
    command.arg(script("requirements.txt")).env("PIP_ROOT_USER_ACTION", "ignore");
    // A person's pip configuration may say otherwise, and neither goes with --target.
    command.env("PIP_USER", "0").env("PIP_REQUIRE_VIRTUALENV", "0");
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => bail!("could not run python3: {error}"),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing was said");
    ensure!(output.status.success(), "pip could not install the client: {}", last.trim());
    Ok(())
}

fn folder() -> PathBuf {
    cargo::workspace_root().join("target").join("openai")
}

fn script(name: &str) -> PathBuf {
    cargo::workspace_root().join("xtask").join("openai").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_are_there_and_the_client_is_pinned() {
        assert!(["drive.py", "load.py", "model.py", "server.py"].iter().all(|name| script(name).is_file()));
        let wanted = fs::read_to_string(script("requirements.txt")).expect("requirements.txt");
        let packages: Vec<&str> = wanted.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(
            packages.iter().all(|line| line.contains("==")) && packages.iter().any(|line| line.starts_with("openai=="))
        );
    }
}
