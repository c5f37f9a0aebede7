//! What there is to read: images and documents, by name; directories are listed.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::args::Format;

/// Endings of files that are taken from a directory.
const ENDINGS: [&str; 9] = ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "pdf"];
/// What a PDF begins with.
const PDF_MAGIC: &[u8] = b"%PDF-";

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One page.
    Image,
    /// A PDF: pages.
    Document,
}

/// A file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its file's name, which its results are called by.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// What it holds.
    pub kind: Kind,
}

/// All files of `inputs`: directories are listed, in order of their names.
///
/// # Errors
/// When a directory cannot be listed or has nothing to read, or two files would have their results in one place.
pub fn sources(inputs: &[PathBuf], format: Format) -> anyhow::Result<Vec<Source>> {
    let mut files = Vec::new();
    for input in inputs {
        if input.is_dir() { files.extend(listed(input)?) } else { files.push(input.clone()) }
    }
    let named = |path: PathBuf| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        Some(Source { name, kind: kind(&path), path })
    };
    let sources: Vec<Source> = files.into_iter().filter_map(named).collect();
    let mut seen = BTreeMap::new();
    let mut twins = Vec::new();
    for Source { name, path, .. } in &sources {
        let place = if format == Format::Eval { stem(name) } else { name };
        if let Some(other) = seen.insert(place.to_owned(), path) {
            twins.push(format!("two pages are called {place}: {} and {}", other.display(), path.display()));
        }
    }
    anyhow::ensure!(twins.is_empty(), "{}", twins.join("\n"));
    Ok(sources)
}

/// A file's name without its ending.
pub fn stem(name: &str) -> &str {
    Path::new(name).file_stem().and_then(|stem| stem.to_str()).unwrap_or(name)
}

fn ending(path: &Path) -> Option<String> {
    path.extension().map(|ending| ending.to_string_lossy().to_lowercase())
}

/// By its first bytes where it can be read; a document without a document's ending is one all the same.
fn kind(path: &Path) -> Kind {
    let mut first = [0; PDF_MAGIC.len()];
    let is_file = path.metadata().is_ok_and(|about| about.is_file());
    let begins = is_file && std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut first)).is_ok();
    let is_document = ending(path).as_deref() == Some("pdf") || begins && first == PDF_MAGIC;
    if is_document { Kind::Document } else { Kind::Image }
}

fn listed(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))?;
    let mut inside: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    inside.retain(|path| ending(path).is_some_and(|ending| ENDINGS.contains(&&*ending)) && path.is_file());
    inside.sort();
    anyhow::ensure!(
        !inside.is_empty(),
        "{}: expected images or documents ({}), found none",
        folder.display(),
        ENDINGS.join(", ")
    );
    Ok(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_listed_and_twins_are_told() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| dir.path().join(name);
        for (name, bytes) in [("b.PDF", "%PDF-1.4"), ("a.png", ""), ("c.jpg", "%PDF-1.7"), ("a.txt", ""), ("a.tif", "")]
        {
            std::fs::write(path(name), bytes).expect("written");
        }
        let found = sources(&[dir.path().to_owned()], Format::Markdown).expect("sources");
        let named: Vec<(&str, Kind)> = found.iter().map(|source| (source.name.as_str(), source.kind)).collect();
        let want =
            [("a.png", Kind::Image), ("a.tif", Kind::Image), ("b.PDF", Kind::Document), ("c.jpg", Kind::Document)];
        let mut sorted = named.clone();
        sorted.sort_by_key(|(name, _)| *name);
        assert_eq!(sorted, want);
        let error = sources(&[dir.path().to_owned()], Format::Eval).expect_err("a.md twice").to_string();
        assert!(error.contains("two pages are called a:"), "{error}");
        let error = sources(&[path("a.png"), path("a.png"), path("b.PDF"), path("b.PDF")], Format::Markdown);
        assert_eq!(error.expect_err("both").to_string().lines().count(), 2, "all are listed");
    }
}
