//! The stamp: every input that a runtime was made from. Equal stamp and all files there: nothing to do.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::compile::NATIVE_FILES;
use super::layout::{BINDINGS, LIBRARY, WHEELS};
use super::preflight::Host;
use super::source::Source;
use crate::setup::Flavour;

/// Raised when setup itself makes something different from the same inputs.
const FORMAT: u32 = 1;
const FILE: &str = "stamp.txt";

/// The inputs of one runtime, as text.
pub struct Stamp {
    pub flavour: Flavour,
    mlx_version: String,
    text: String,
}

impl Stamp {
    pub fn new(flavour: Flavour, host: &Host, source: &Source, root: &Path) -> Self {
        let natives =
            NATIVE_FILES.iter().flat_map(|(name, text)| [name.as_bytes(), text.as_bytes()]).fold(FNV_START, fnv);
        let text = format!(
            "format {FORMAT}\nflavour {flavour}\nmlx {}\nmlx-sys {}\nhost {}\ncompiler {}\nnative {natives:016x}\nproject {}\n",
            source.mlx_version,
            source.sys_version,
            host.triple,
            host.compiler_version,
            root.display(),
        );
        Self { flavour, mlx_version: source.mlx_version.clone(), text }
    }

    /// The runtime's folder name: other inputs, other folder.
    pub fn folder_name(&self) -> String {
        let hash = fnv(FNV_START, self.text.as_bytes());
        format!("{}-{}-{hash:016x}", self.flavour, self.mlx_version)
    }

    /// Writes the stamp, as the last file of a runtime.
    pub fn write(&self, runtime: &Path) -> Result<()> {
        let path = runtime.join(FILE);
        fs::write(&path, &self.text).with_context(|| path.display().to_string())
    }

    /// Whether `runtime` was made from these inputs and its files are still there.
    pub fn is_complete(&self, runtime: &Path) -> bool {
        fs::read_to_string(runtime.join(FILE)).is_ok_and(|found| found == self.text)
            && self.files().iter().all(|file| runtime.join(file).is_file())
    }

    fn files(&self) -> Vec<PathBuf> {
        vec![
            Path::new(LIBRARY).join("libmlxc.so"),
            Path::new(BINDINGS).join("bindings.rs"),
            Path::new(WHEELS).join("mlx/lib/libmlx.so"),
            Path::new(WHEELS).join(super::wheels::OPENBLAS),
        ]
    }
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, 64 bits: no secrets here, only names that must not collide by accident.
fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(mlx_version: &str, compiler_version: &str) -> Stamp {
        let host = Host { compiler_version: compiler_version.into(), ..Host::for_tests() };
        let source = Source { sys_version: "0.7.0".into(), mlx_version: mlx_version.into(), mlx_c: PathBuf::new() };
        Stamp::new(Flavour::Cpu, &host, &source, Path::new("project"))
    }

    #[test]
    fn every_input_gives_another_folder() {
        let one = stamp("0.32.2", "g++ 12").folder_name();
        assert_eq!(one, stamp("0.32.2", "g++ 12").folder_name());
        assert_ne!(one, stamp("0.32.3", "g++ 12").folder_name());
        assert_ne!(one, stamp("0.32.2", "g++ 13").folder_name());
    }

    #[test]
    fn complete_means_same_stamp_and_every_file() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let stamp_of_now = stamp("0.32.2", "g++ 12");
        for file in stamp_of_now.files() {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().expect("has a parent")).expect("folder made");
            fs::write(path, "").expect("file written");
        }
        assert!(!stamp_of_now.is_complete(folder.path()), "no stamp yet");
        stamp_of_now.write(folder.path()).expect("stamp written");
        assert!(stamp_of_now.is_complete(folder.path()));
        assert!(!stamp("0.32.2", "g++ 13").is_complete(folder.path()));
        fs::remove_file(folder.path().join(&stamp_of_now.files()[0])).expect("file removed");
        assert!(!stamp_of_now.is_complete(folder.path()));
    }
}
