//! `cargo xtask mlx-vlm`: does mlx-vlm load what `convert` writes, and write the same? Every quantization, against its own converter.
//!
//! mlx-vlm is installed from the package index into `target/mlx-vlm`, for this check and for the benchmark only.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::bench::release::{self, Size};
use crate::stages::succeed;
use crate::{bench, cargo};

/// Layers, experts and vocabulary of the release that is converted: the widths are the real ones, for mlx-vlm has them in its code.
const SIZE: Size = Size { layers: Some(2), experts: Some(8), vocabulary: Some(4096), sparse: false };

/// Every mode, bits and group size that MLX has; none of them is the conversion without quantization.
fn cases() -> Vec<Vec<String>> {
    let texts = |text: String| text.split(' ').map(str::to_owned).collect();
    let mut cases = vec![Vec::new()];
    for bits in [2, 3, 4, 5, 6, 8] {
        let of = |group| texts(format!("--quantize affine --bits {bits} --group-size {group}"));
        cases.extend([32, 64, 128].map(of));
    }
    cases.extend(["mxfp4", "mxfp8", "nvfp4"].map(|mode| texts(format!("--quantize {mode}"))));
    cases.push(texts("--quantize affine --quantize-rules mixed_3_6".into()));
    cases
}

/// Installs mlx-vlm, converts with both in every way, and has mlx-vlm load ours strictly.
///
/// # Errors
/// The first way in which they disagree.
pub fn run() -> Result<ExitCode> {
    let python = install()?;
    let binary = bench::binary()?;
    let source = release::make("small-release", SIZE)?;
    let (own, theirs) = (bench::folder().join("own"), bench::folder().join("theirs"));
    for case in cases() {
        for folder in [&own, &theirs] {
            let _ = fs::remove_dir_all(folder);
        }
        println!("── mlx-vlm: {}", if case.is_empty() { "bf16".to_owned() } else { case.join(" ") });
        let mut own_convert = Command::new(&binary);
        quiet(own_convert.arg("convert").args([&source, &own]).args(&case))?;
        let extra: Vec<&str> = case.iter().map(String::as_str).collect();
        quiet(&mut convert(&python, &source, &theirs, &extra))?;
        succeed(Command::new(&python).arg(script("load.py")).arg(&own).arg("--like").arg(&theirs))?;
    }
    for folder in [&own, &theirs] {
        let _ = fs::remove_dir_all(folder);
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a command that has nothing to say unless it fails.
fn quiet(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| shown.clone())?;
    ensure!(
        output.status.success(),
        "{shown} ended with {}:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// mlx-vlm's converter on a release, with `convert.py`'s own options.
pub fn convert(python: &Path, source: &Path, target: &Path, extra: &[&str]) -> Command {
    let mut command = Command::new(python);
    command.arg(script("convert.py")).args([source, target]).args(extra);
    command
}

/// The Python that has mlx-vlm, if it has been installed here.
pub fn installed() -> Option<PathBuf> {
    let python = folder().join("bin").join("python");
    python.is_file().then_some(python)
}

fn folder() -> PathBuf {
    cargo::workspace_root().join("target").join("mlx-vlm")
}

fn script(name: &str) -> PathBuf {
    cargo::workspace_root().join("xtask").join("mlx_vlm").join(name)
}

fn install() -> Result<PathBuf> {
    if let Some(python) = installed() {
        return Ok(python);
    }
    let work = folder().with_extension("unfinished");
    let _ = fs::remove_dir_all(&work);
    succeed(Command::new("python3").args(["-m", "venv", "--copies"]).arg(&work))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    succeed(Command::new(work.join("bin/python")).args(pip).arg(script("requirements.txt")))?;
    fs::rename(&work, folder()).context("could not put the installation in place")?;
    installed().context("the installation has no Python")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_is_tried_and_the_scripts_are_there() {
        assert_eq!(cases().len(), 1 + 18 + 3 + 1);
        assert!(["convert.py", "load.py", "requirements.txt"].iter().all(|name| script(name).is_file()));
    }
}
