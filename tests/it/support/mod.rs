//! What the end-to-end tests share: the binary, the small fixtures, and models converted from them.

pub mod action;
pub mod schemas;
pub mod tensors;
pub mod vocabulary;

use std::{
    path::{Path, PathBuf},
    process::Output,
};

use assert_cmd::Command;

/// The small fixtures in git, with what each stands for in `fixtures/data/README.md`.
pub const FIXTURES: [&str; 4] = ["tiny-gundam", "tiny-base", "tiny-small", "tiny-grid"];

/// The directory of a small fixture.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/data").join(name)
}

/// Runs the binary.
pub fn mlxport<I, S>(args: I) -> Output
where
    I: IntoIterator<Item = S>,
    S: AsRef<std::ffi::OsStr>,
{
    Command::cargo_bin("mlxport").expect("the binary is built with its tests").args(args).output().expect("it starts")
}

/// The exit code; a signal is a failure.
pub fn code(output: &Output) -> i32 {
    output.status.code().expect("ended by itself, not by a signal")
}

/// Text of stderr.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs `mlxport parity` on a model and a recording, with more flags.
pub fn parity(model: &Path, recording: &Path, more: &[&str]) -> Output {
    let mut args: Vec<&std::ffi::OsStr> = vec!["parity".as_ref(), "--model".as_ref(), model.as_os_str()];
    args.extend(["--fixture".as_ref(), recording.as_os_str()]);
    args.extend(more.iter().map(std::ffi::OsStr::new));
    mlxport(args)
}

/// Replaces one value of a config.json.
pub fn edit_config(path: &Path, pointer: &str, value: serde_json::Value) {
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path).expect("config.json")).expect("JSON");
    *config.pointer_mut(pointer).unwrap_or_else(|| panic!("config.json has {pointer}")) = value;
    std::fs::write(path, config.to_string()).expect("written");
}

/// Converts a checkpoint directory into `target`, which must work.
pub fn convert(checkpoint: &Path, target: &Path, layout: &str) {
    let output =
        mlxport(["convert".as_ref(), checkpoint.as_os_str(), target.as_os_str(), "--layout".as_ref(), layout.as_ref()]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

/// A temporary directory with a converted model in `model/`.
pub fn converted(name: &str, layout: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    convert(&fixture(name).join("checkpoint"), &dir.path().join("model"), layout);
    dir
}

/// A copy of a fixture's checkpoint that a test may damage.
pub fn checkpoint_copy(name: &str, target: &Path) {
    std::fs::create_dir_all(target).expect("created");
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(fixture(name).join("checkpoint").join(file), target.join(file)).expect("copied");
    }
}
