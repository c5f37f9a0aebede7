//! junit.xml against its published schema (`schemas/junit.xsd`), with libxml2's xmllint where it is installed.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{cargo, stages::succeed};

/// Real records, in git.
const RECORDS: &str = "fuzz/seeds/report";
const SCHEMA: &str = "schemas/junit.xsd";

/// Why it cannot be checked; nothing where it can.
pub fn missing() -> Option<String> {
    let found = Command::new("xmllint").arg("--version").output();
    found.is_err().then(|| "xmllint is not installed".to_owned())
}

/// Makes junit.xml of every record and validates it, by the binary that lies in cargo's debug folder: building it is the caller's, since
/// `cargo test` has just done so with the features of the whole workspace.
///
/// # Errors
/// The first that is not as published, with xmllint's words.
pub fn look() -> Result<()> {
    let target = cargo::target_folder(&cargo::metadata(&cargo::host_triple()?)?)?;
    let root = cargo::workspace_root();
    let folder = tempfile::tempdir()?;
    let mut count = 0;
    for entry in fs::read_dir(root.join(RECORDS)).context(RECORDS)? {
        let record = entry?.path();
        let mut render = Command::new(target.join("debug/mlxport"));
        let output = render.args(["report", "render"]).arg(&record).args(["--format", "junit"]).output()?;
        // A seed that is no record is there for the fuzzer alone.
        if !output.status.success() {
            continue;
        }
        let file = folder.path().join(format!("{count}.xml"));
        fs::write(&file, output.stdout)?;
        succeed(Command::new("xmllint").args(["--noout", "--schema"]).arg(root.join(SCHEMA)).arg(&file))?;
        count += 1;
    }
    ensure!(count > 1, "only {count} records in {RECORDS} could be rendered");
    Ok(())
}
