//! The wheels: MLX itself, OpenBLAS, and libclang for the bindings, by pip, by name, into the work folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::layout::{BUILD, WHEELS};
use super::preflight::Host;
use super::source::Source;
use crate::setup::Flavour;

/// OpenBLAS's library inside the wheels' folder.
pub const OPENBLAS: &str = "scipy_openblas32/lib/libscipy_openblas.so";

/// Versions of what is not pinned by mlx-c; tried together.
const OPENBLAS_WHEEL: &str = "scipy-openblas32==0.3.34.481.3";
const LIBCLANG_WHEEL: &str = "libclang==18.1.1";

/// Folder of `libclang.so`, inside the work folder.
pub fn libclang_folder(work: &Path) -> PathBuf {
    work.join(BUILD).join("clang/native")
}

/// Fetches and unpacks all wheels of the flavour under `work`.
///
/// # Errors
/// When pip finds no wheel of the wanted version for this machine, or cannot reach its index.
pub fn fetch(work: &Path, flavour: Flavour, host: &Host, source: &Source) -> Result<()> {
    let version = &source.mlx_version;
    let target = work.join(WHEELS);
    match flavour {
        Flavour::Cpu => {
            let mlx = format!("mlx-cpu=={version}");
            install(work, &target, host, &["--no-deps", &mlx, OPENBLAS_WHEEL])?;
        }
        // With its dependencies: cuBLAS, cuDNN, NCCL and NVRTC come as wheels too, in the versions MLX was built for.
        Flavour::Cuda => {
            let mlx = format!("mlx-cuda-13=={version}");
            install(work, &target, host, &[&mlx, OPENBLAS_WHEEL])?;
        }
    }
    install(work, &work.join(BUILD), host, &["--no-deps", LIBCLANG_WHEEL])?;
    expect_files(&target, flavour, version)?;
    expect(&libclang_folder(work).join("libclang.so"))
}

fn install(work: &Path, target: &Path, host: &Host, wanted: &[&str]) -> Result<()> {
    // pip's scratch would otherwise lie outside the project's folder.
    let scratch = work.join(BUILD).join("pip");
    fs::create_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    let output = Command::new(&host.python)
        .args(["-m", "pip", "install", "--quiet", "--no-cache-dir"])
        .args(["--disable-pip-version-check", "--no-input", "--no-compile"])
        .args(["--only-binary", ":all:", "--no-warn-conflicts", "--upgrade"])
        .arg("--target")
        .arg(target)
        .args(wanted)
        .env("TMPDIR", &scratch)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PIP_ROOT_USER_ACTION", "ignore")
        // A person's pip configuration may say otherwise, and neither goes with --target.
        .env("PIP_USER", "0")
        .env("PIP_REQUIRE_VIRTUALENV", "0")
        .output()
        .with_context(|| format!("could not run {} -m pip", host.python))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!("{}", explain(wanted, said.trim_end()))
}

fn explain(wanted: &[&str], said: &str) -> String {
    let names: Vec<_> = wanted.iter().copied().filter(|name| !name.starts_with("--")).collect();
    let reason = if !said.contains("No matching distribution") {
        "pip failed"
    } else if said.contains("from versions: none") {
        "pip is offered none at all: either it does not reach its index, or nothing fits this machine \
         (MLX's wheels want glibc 2.35 and Python 3.10, or newer)"
    } else {
        "pip is offered other versions only, and mlx-c works with just this one"
    };
    format!("{}: {reason}; pip said:\n{said}", names.join(", "))
}

fn expect_files(target: &Path, flavour: Flavour, version: &str) -> Result<()> {
    let distribution = match flavour {
        Flavour::Cpu => format!("mlx_cpu-{version}.dist-info"),
        Flavour::Cuda => format!("mlx_cuda_13-{version}.dist-info"),
    };
    expect(&target.join(distribution).join("METADATA"))?;
    expect(&target.join("mlx/lib/libmlx.so"))?;
    expect(&target.join("mlx/include/mlx/mlx.h"))?;
    expect(&target.join(OPENBLAS))
}

fn expect(file: &Path) -> Result<()> {
    if !file.is_file() {
        bail!("pip succeeded, but {} is not there", file.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_version_is_explained() {
        let said = "(from versions: 0.31.0)\nERROR: No matching distribution found for mlx-cpu==9.9.9";
        let text = explain(&["--no-deps", "mlx-cpu==9.9.9"], said);
        assert!(text.starts_with("mlx-cpu==9.9.9: pip is offered other versions only"));
        assert!(text.ends_with(said));
        let text = explain(&["x"], "(from versions: none)\nERROR: No matching distribution found for x");
        assert!(text.starts_with("x: pip is offered none at all"));
        assert!(explain(&["x"], "disk full").starts_with("x: pip failed"));
    }

    #[test]
    fn another_version_than_the_pinned_one_is_refused() {
        let folder = tempfile::tempdir().expect("temporary folder");
        for file in ["mlx_cpu-0.32.2.dist-info/METADATA", "mlx/lib/libmlx.so", "mlx/include/mlx/mlx.h", OPENBLAS] {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().expect("has a parent")).expect("folder made");
            fs::write(path, "").expect("file written");
        }
        assert!(expect_files(folder.path(), Flavour::Cpu, "0.32.2").is_ok());
        assert!(expect_files(folder.path(), Flavour::Cpu, "0.32.3").is_err());
        assert!(expect_files(folder.path(), Flavour::Cuda, "0.32.2").is_err());
    }
}
