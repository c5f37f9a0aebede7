//! `cargo xtask demo`: the whole road once, on a small checkpoint that lies in the repository: convert, run, compare, report.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::stages::{self, succeed};
use crate::{cargo, setup};

const FIXTURE: &str = "fixtures/data/tiny-gundam";
const MODEL: &str = "out/demo/model";
const REPORT: &str = "out/demo/report";

/// Builds the binary and runs it; its exit code is the demo's.
///
/// # Errors
/// When MLX cannot be made ready or the binary does not build.
pub fn run() -> Result<ExitCode> {
    setup::run(None)?;
    succeed(cargo::command().args(["build", "--release", "--locked"]))?;
    let folder = cargo::target_folder(&cargo::metadata(&cargo::host_triple()?)?)?;
    let binary = folder.join("release").join(format!("mlxport{}", std::env::consts::EXE_SUFFIX));

    let converted = mlxport(&binary, &convert_arguments())?;
    if converted != 0 {
        return Ok(ExitCode::from(converted));
    }
    let verdict = mlxport(&binary, &parity_arguments())?;
    let report = cargo::workspace_root().join(REPORT);
    if report.is_dir() {
        println!("\ndemo: the report lies in {}", report.display());
    }
    Ok(ExitCode::from(verdict))
}

fn convert_arguments() -> Vec<String> {
    vec!["convert".into(), format!("{FIXTURE}/checkpoint"), MODEL.into(), "--force".into()]
}

fn parity_arguments() -> Vec<String> {
    let text = format!("parity --model {MODEL} --fixture {FIXTURE} --mode both --report {REPORT}");
    text.split(' ').map(str::to_owned).collect()
}

fn mlxport(binary: &Path, arguments: &[String]) -> Result<u8> {
    println!("\n$ mlxport {}", arguments.join(" "));
    stages::exit_code(Command::new(binary).args(arguments).current_dir(cargo::workspace_root()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_compares_what_it_has_converted() {
        let convert = convert_arguments().join(" ");
        let parity = parity_arguments().join(" ");
        assert_eq!(convert, "convert fixtures/data/tiny-gundam/checkpoint out/demo/model --force");
        assert!(parity.starts_with("parity --model out/demo/model --fixture fixtures/data/tiny-gundam "));
    }
}
