//! The generated cargo config `.mlx/cargo.toml`, which the committed `.cargo/config.toml` includes when it is there.
//!
//! Cargo lets a config replace the build script of a crate that `links` a library: mlx-sys's, which builds only on macOS,
//! is replaced by "link libmlxc.so, the bindings lie there". libmlxc.so carries its absolute path as SONAME and that of
//! libmlx.so as RUNPATH, so binaries run from anywhere with no rustflags and no environment.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::layout::{BINDINGS, LIBRARY, Layout};
use crate::setup::Flavour;

const FLAVOUR_LINE: &str = "# flavour: ";

/// Points cargo at the finished runtime, in one step; a config that says so already is left alone, so that nothing is rebuilt.
pub fn activate(layout: &Layout, triple: &str, flavour: Flavour) -> Result<()> {
    let runtime = layout.runtime();
    let text = text(triple, flavour, &runtime.join(LIBRARY), &runtime.join(BINDINGS))?;
    let path = layout.base().join("cargo.toml");
    if fs::read_to_string(&path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    let draft = layout.base().join("cargo.toml.new");
    fs::write(&draft, text).with_context(|| draft.display().to_string())?;
    fs::rename(&draft, &path).with_context(|| path.display().to_string())?;
    layout.remove_superseded(flavour)
}

/// The flavour that the config in `root` points at, when there is one.
pub fn active(root: &Path) -> Option<Flavour> {
    let text = fs::read_to_string(root.join(".mlx/cargo.toml")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix(FLAVOUR_LINE))
        .and_then(|name| [Flavour::Cpu, Flavour::Cuda].into_iter().find(|flavour| flavour.to_string() == name))
}

fn text(triple: &str, flavour: Flavour, library: &Path, bindings: &Path) -> Result<String> {
    Ok(format!(
        "# Written by `cargo xtask setup`; do not edit.\n{FLAVOUR_LINE}{flavour}\n\
         [target.{triple}.mlx]\n\
         rustc-link-search = [{}]\n\
         rustc-link-lib = [\"dylib=mlxc\"]\n\
         rustc-env = {{ OUT_DIR = {} }}\n",
        quoted(&format!("native={}", utf8(library)?)),
        quoted(utf8(bindings)?),
    ))
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("the project's path is not UTF-8: {}", path.display()))
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control.is_control() => {
                out.push_str(&format!("\\u{:04X}", u32::from(control)));
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_only_mlxc_and_names_the_bindings() {
        let text = text(
            "x86_64-unknown-linux-gnu",
            Flavour::Cuda,
            Path::new("/p/.mlx/r/lib"),
            Path::new("/p/.mlx/r/bindings"),
        )
        .expect("plain paths");
        assert!(text.contains("[target.x86_64-unknown-linux-gnu.mlx]\n"));
        assert!(text.contains("rustc-link-search = [\"native=/p/.mlx/r/lib\"]\n"));
        assert!(text.contains("rustc-link-lib = [\"dylib=mlxc\"]\n"));
        assert!(text.contains("OUT_DIR = \"/p/.mlx/r/bindings\""));
    }

    #[test]
    fn the_flavour_is_read_back() {
        let root = tempfile::tempdir().expect("temporary folder");
        assert_eq!(active(root.path()), None);
        fs::create_dir(root.path().join(".mlx")).expect("folder made");
        let text = text("t", Flavour::Cuda, Path::new("l"), Path::new("b")).expect("plain paths");
        fs::write(root.path().join(".mlx/cargo.toml"), text).expect("file written");
        assert_eq!(active(root.path()), Some(Flavour::Cuda));
    }

    #[test]
    fn odd_characters_in_paths_are_escaped() {
        assert_eq!(quoted("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000A\"");
    }
}
