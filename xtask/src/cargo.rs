//! What cargo knows about this workspace: its root, its target folder, where a dependency's source lies.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Selects what is built after `setup`: all but this program, which would otherwise be built anew with the features of the others.
/// What shares these arguments shares what it builds.
pub const ALL_BUT_XTASK: [&str; 4] = ["--locked", "--workspace", "--exclude", env!("CARGO_PKG_NAME")];

/// Selects the program as `cargo test` builds it. The small test beside it makes cargo count what tests depend on: without it, shared
/// dependencies have fewer features, and they and most of the workspace would be built again.
pub const BINARY_OF_TESTS: [&str; 4] = ["--bin", "mlxport", "--test", "replay"];

/// The workspace's root folder: the parent of this crate's own.
pub fn workspace_root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_path_buf()
}

/// The cargo that started this program, or the one on the path.
pub fn command() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(workspace_root());
    command
}

/// The host's target triple, as rustc names it.
///
/// # Errors
/// When rustc cannot be run or does not say.
pub fn host_triple() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(&rustc)
        .arg("-vV")
        .current_dir(workspace_root())
        .output()
        .with_context(|| format!("could not run {} -vV", rustc.display()))?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
        .context("`rustc -vV` has no line `host: …`")
}

/// `cargo metadata` of the locked workspace for this host; sources that are absent are downloaded by cargo.
///
/// # Errors
/// When cargo fails (its own message is passed on) or answers something that is not JSON.
pub fn metadata(host: &str) -> Result<Value> {
    let output = command()
        .args(["metadata", "--locked", "--format-version", "1"])
        .args(["--filter-platform", host])
        .output()
        .context("could not run cargo metadata")?;
    if !output.status.success() {
        bail!(
            "`cargo metadata --locked` failed ({}):\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    serde_json::from_slice(&output.stdout).context("`cargo metadata` did not answer JSON")
}

/// The folder that cargo builds into.
///
/// # Errors
/// When the metadata does not say.
pub fn target_folder(metadata: &Value) -> Result<PathBuf> {
    let folder = metadata["target_directory"].as_str().context("`cargo metadata` has no target_directory")?;
    Ok(PathBuf::from(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_the_workspace_and_cargo_knows_it() {
        assert!(workspace_root().join("xtask/Cargo.toml").is_file());
        assert!(host_triple().expect("rustc answers").split('-').count() >= 3);
    }

    #[test]
    fn the_target_folder_is_read() {
        let metadata = serde_json::json!({ "target_directory": "somewhere" });
        assert_eq!(target_folder(&metadata).expect("is there"), Path::new("somewhere"));
        assert!(target_folder(&Value::Null).is_err());
    }
}
