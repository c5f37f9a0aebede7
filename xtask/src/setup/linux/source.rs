//! mlx-c as the crate `mlx-sys` carries it, and the MLX version it pins.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

/// The sources that the workspace's locked `mlx-sys` brings.
pub struct Source {
    /// mlx-sys's version.
    pub sys_version: String,
    /// MLX's version, from the `GIT_TAG` in mlx-c's CMakeLists.
    pub mlx_version: String,
    /// mlx-c's root folder: `mlx/c/*.{h,cpp}` lie under it.
    pub mlx_c: PathBuf,
}

impl Source {
    /// mlx-c's files with this extension, sorted.
    ///
    /// # Errors
    /// When the folder cannot be read or holds none.
    pub fn files(&self, extension: &str) -> Result<Vec<PathBuf>> {
        let folder = self.mlx_c.join("mlx/c");
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry.with_context(|| folder.display().to_string())?.path();
            if path.extension().is_some_and(|found| found == extension) {
                files.push(path);
            }
        }
        anyhow::ensure!(!files.is_empty(), "no *.{extension} in {}", folder.display());
        files.sort();
        Ok(files)
    }
}

/// Finds mlx-sys among the workspace's packages.
///
/// # Errors
/// When the workspace has no mlx-sys, or its mlx-c pins no version of MLX.
pub fn find(metadata: &Value) -> Result<Source> {
    let (sys_version, folder) = package(metadata, "mlx-sys")?;
    let mlx_c = folder.join("src/mlx-c");
    let list = mlx_c.join("CMakeLists.txt");
    let text = fs::read_to_string(&list).with_context(|| list.display().to_string())?;
    let mlx_version =
        pinned_version(&text).with_context(|| format!("no line `GIT_TAG vX.Y.Z` in {}", list.display()))?;
    Ok(Source { sys_version, mlx_version, mlx_c })
}

/// Version and source folder of the one package called `name`.
///
/// # Errors
/// When the workspace does not depend on it.
fn package(metadata: &Value, name: &str) -> Result<(String, PathBuf)> {
    let found = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == name)
        .with_context(|| format!("no package `{name}` among the workspace's dependencies"))?;
    let version = found["version"].as_str().context("package has no version")?;
    let manifest = found["manifest_path"].as_str().context("package has no manifest_path")?;
    let folder = Path::new(manifest).parent().context("manifest_path has no parent")?;
    Ok((version.to_owned(), folder.to_path_buf()))
}

fn pinned_version(cmake_lists: &str) -> Option<String> {
    cmake_lists.lines().find_map(|line| {
        let tag = line.trim().strip_prefix("GIT_TAG")?.trim_start();
        let version = tag.strip_prefix('v')?.trim_end().trim_end_matches(')');
        let parts: Vec<_> = version.split('.').collect();
        let numbers = parts.iter().all(|part| part.parse::<u32>().is_ok());
        (parts.len() == 3 && numbers).then(|| version.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::pinned_version;

    #[test]
    fn reads_the_tag_with_and_without_the_closing_bracket() {
        let text = "FetchContent_Declare(\n    mlx\n    GIT_TAG v0.32.2)\n";
        assert_eq!(pinned_version(text).as_deref(), Some("0.32.2"));
        assert_eq!(pinned_version("  GIT_TAG  v1.2.3  ").as_deref(), Some("1.2.3"));
    }

    #[test]
    fn a_branch_or_commit_is_no_version() {
        assert_eq!(pinned_version("GIT_TAG main)"), None);
        assert_eq!(pinned_version("GIT_TAG v0.32)"), None);
        assert_eq!(pinned_version("GIT_TAG 0123abcd)"), None);
        assert_eq!(pinned_version(""), None);
    }
}
