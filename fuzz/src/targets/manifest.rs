//! A converted directory and its manifest. Input: a letter that says which file the rest replaces, `m` the manifest, `w` weights,
//! `c` the config.

use std::fs;
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};

use mlxport_convert::files::is_plain_name;
use mlxport_convert::manifest::MANIFEST_FILE;
use mlxport_convert::{ConvertError, Manifest, Request, WriteOptions, prepare, verify};
use tempfile::TempDir;

use crate::place;
use crate::release::{Release, Tensor};

const WEIGHTS: &str = "model-00001-of-00002.safetensors";
const RECIPE: &str = r#"
schema = 1
name = "small"
layouts = ["only"]
fits = { model_type = ["small"] }
config = { fields = [{ path = "model_type", kind = "text" }] }
[table]
rows = [
  { from = "a", shape = ["2", "3"], op = "transpose", to = "A" },
  { from = "b", shape = ["4"], to = "B" },
  { from = "c", shape = ["1"], dtype = ["I64"], op = "drop", reason = "a buffer" },
]
"#;

/// One converted directory for the whole process; inputs are tried in it one at a time.
static CONVERTED: LazyLock<Mutex<TempDir>> = LazyLock::new(|| {
    let home = place::directory();
    let tensor = |key: &str, dtype, shape: &[u64]| Tensor::counting(key, dtype, shape, 1);
    let release = Release {
        recipe: RECIPE.to_owned(),
        config: r#"{"model_type":"small"}"#.to_owned(),
        files: vec![vec![
            tensor("a", safetensors::Dtype::F32, &[2, 3]),
            tensor("b", safetensors::Dtype::BF16, &[4]),
            tensor("c", safetensors::Dtype::I64, &[1]),
        ]],
        indexed: false,
    };
    let source = home.path().join("release");
    let recipe = release.write(&source);
    let request = Request { source, recipe: Some(recipe.display().to_string()), ..Request::default() };
    let options = WriteOptions { max_shard_byte_len: 24, ..WriteOptions::to(home.path().join("converted")) };
    prepare(&request).and_then(|prepared| prepared.write(&options)).expect("a sound release converts");
    Mutex::new(home)
});

/// Replaces a file and verifies the directory.
pub fn run(data: &[u8]) {
    let Some((&which, bytes)) = data.split_first() else { return };
    let name = match which {
        b'm' => MANIFEST_FILE,
        b'w' => WEIGHTS,
        b'c' => "config.json",
        _ => return,
    };
    let home = CONVERTED.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = home.path().join("converted");
    let path = directory.join(name);
    let original = fs::read(&path).expect("the directory is whole");
    place::write(&path, bytes);
    if which == b'm' {
        manifest(&directory, bytes == original);
    } else {
        let report = verify(&directory).expect("the manifest is whole");
        assert_eq!(report.differences.is_empty(), bytes == original, "{name}: {:?}", report.differences);
    }
    place::write(&path, &original);
}

/// Any text as the manifest.
fn manifest(directory: &Path, is_own: bool) {
    let manifest = match Manifest::read(directory) {
        Ok(manifest) => manifest,
        Err(ConvertError::Io { .. }) => {
            assert!(!is_own, "refuses its own manifest");
            return assert!(verify(directory).is_err());
        }
        Err(other) => panic!("not an error of reading: {other}"),
    };
    let report = verify(directory).expect("what can be read can be held against the files");
    assert_eq!((report.files, report.tensors), (manifest.files.len(), manifest.tensors.len()));
    if report.differences.is_empty() {
        for file in &manifest.files {
            assert!(is_plain_name(&file.name), "{:?}", file.name);
            assert_eq!(directory.join(&file.name).metadata().map(|meta| meta.len()).ok(), Some(file.byte_len));
        }
    } else {
        assert!(!is_own, "refuses its own manifest: {:?}", report.differences);
    }
    let text = manifest.to_text().expect("a manifest can be written");
    place::write(&directory.join(MANIFEST_FILE), text.as_bytes());
    assert_eq!(Manifest::read(directory).ok(), Some(manifest), "printed and read again it is the same");
}
