//! A place on disk for the targets that read files: one directory per process, emptied by its user.

use std::path::PathBuf;

use tempfile::TempDir;

/// A new directory under the system's folder for temporary files; it goes when the value does.
///
/// # Panics
/// When the system gives none: without it nothing can be tested.
pub fn directory() -> TempDir {
    tempfile::Builder::new().prefix("mlxport-fuzz-").tempdir().expect("a temporary directory")
}

thread_local! {
    static DIRECTORY: TempDir = directory();
}

/// A path of this name that belongs to this thread, so that an input costs no new directory.
pub fn path(name: &str) -> PathBuf {
    DIRECTORY.with(|directory| directory.path().join(name))
}

/// Writes a file at a path, whatever was there.
///
/// # Panics
/// When the system cannot.
pub fn write(path: &std::path::Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("the temporary directory is writable");
}
