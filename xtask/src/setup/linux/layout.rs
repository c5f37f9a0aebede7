//! Where everything lies under `.mlx/`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{remove_folder, stamp::Stamp};
use crate::setup::Flavour;

/// The folders of one set-up.
pub struct Layout {
    base: PathBuf,
    name: String,
}

/// Folder of the unpacked wheels, inside a runtime or the work folder.
pub const WHEELS: &str = "wheels";
/// Folder of `libmlxc.so`.
pub const LIBRARY: &str = "lib";
/// Folder that stands in for mlx-sys's `OUT_DIR`: `bindings.rs`.
pub const BINDINGS: &str = "bindings";
/// Folder of what only the building needs: libclang, object files, pip's scratch.
pub const BUILD: &str = "build";

impl Layout {
    pub fn new(root: &Path, stamp: &Stamp) -> Self {
        Self { base: root.join(".mlx"), name: stamp.folder_name() }
    }

    /// `.mlx`
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Where the finished runtime lies.
    pub fn runtime(&self) -> PathBuf {
        self.base.join(&self.name)
    }

    /// Where it is built.
    pub fn work(&self) -> PathBuf {
        self.base.join(format!("tmp-{}", self.name))
    }

    /// Removes what interrupted runs left. Only called under the lock, so nobody is at work there.
    pub fn remove_unfinished(&self) -> Result<()> {
        for entry in fs::read_dir(&self.base).context("could not list .mlx")? {
            let entry = entry.context("could not list .mlx")?;
            if entry.file_name().to_string_lossy().starts_with("tmp-") {
                remove_folder(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes what only the building needed (libclang alone is 60 MB).
    pub fn drop_build_tools(&self) -> Result<()> {
        remove_folder(&self.work().join(BUILD))
    }

    /// Removes finished runtimes of the same flavour that other inputs made.
    pub fn remove_superseded(&self, flavour: Flavour) -> Result<()> {
        let prefix = format!("{flavour}-");
        for entry in fs::read_dir(&self.base).context("could not list .mlx")? {
            let entry = entry.context("could not list .mlx")?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(&prefix) && name != self.name.as_str() {
                remove_folder(&entry.path())?;
            }
        }
        Ok(())
    }
}
