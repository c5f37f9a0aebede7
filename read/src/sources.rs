//! What there is to read: images and documents, by name; directories are listed, and what is not read of them is named.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use anyhow::Context;
use mlxport_ocr::ImageFile;

use crate::settings::Format;

/// Endings of files that are taken from a directory.
const ENDINGS: [&str; 11] = ["png", "jpg", "jpeg", "jfif", "jpe", "webp", "bmp", "gif", "tif", "tiff", "pdf"];
/// What a PDF begins with.
const PDF_MAGIC: &[u8] = b"%PDF-";

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One page.
    Image,
    /// Pages: a PDF, or a TIFF of several.
    Document,
}

/// A file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// What its results are called by: its file's name, with as much of its path as no other has.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// What it holds.
    pub kind: Kind,
}

/// A file of a directory that is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The file, or folder.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// All there is to read, and what is not read.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// What is read, in order.
    pub all: Vec<Source>,
    /// What is not.
    pub skipped: Vec<Skipped>,
}

/// How directories are listed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Listing<'a> {
    /// Folders in folders, too.
    pub recursive: bool,
    /// Where results go, which is no input.
    pub out: Option<&'a Path>,
}

/// All files of `inputs`: directories are listed, in order of their names.
///
/// # Errors
/// When a directory cannot be listed, or has nothing to read.
pub(crate) fn list(inputs: &[PathBuf], format: Format, listing: Listing<'_>) -> anyhow::Result<Sources> {
    let mut lister = Lister { listing, ..Lister::default() };
    for input in inputs {
        if input.is_dir() {
            let before = lister.files.len();
            lister.list(input)?;
            anyhow::ensure!(lister.files.len() > before, "{}", lister.nothing_in(input));
        } else {
            lister.files.push(input.clone());
        }
    }
    let Lister { files, mut skipped, .. } = lister;
    let mut seen = BTreeSet::new();
    let mut once = Vec::new();
    for path in files {
        if seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
            once.push(path);
        } else {
            skipped.push(Skipped { path, reason: "it is named twice, and read once".to_owned() });
        }
    }
    let names = names(&once, format);
    let all = once.into_iter().zip(names).map(|(path, name)| Source { name, kind: kind(&path), path }).collect();
    Ok(Sources { all, skipped })
}

/// A file's name without its ending.
pub(crate) fn stem(name: &str) -> &str {
    Path::new(name).file_stem().and_then(|stem| stem.to_str()).unwrap_or(name)
}

/// A name for each file that no other has: the last parts of its path, as few as that takes.
fn names(files: &[PathBuf], format: Format) -> Vec<String> {
    let mut parts: Vec<Vec<String>> = files.iter().map(|path| parts(path)).collect();
    if format == Format::Eval {
        add_endings(&mut parts);
    }
    let mut lengths = vec![1; files.len()];
    loop {
        let names: Vec<String> = parts.iter().zip(&lengths).map(|(parts, length)| last(parts, *length)).collect();
        let mut targets: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, name) in names.iter().enumerate() {
            // Some disks do not tell large letters from small ones.
            targets.entry(target(name, format).to_lowercase()).or_default().push(at);
        }
        let mut grew = false;
        for at in targets.into_values().filter(|all| all.len() > 1).flatten() {
            grew |= lengths[at] < parts[at].len();
            lengths[at] += 1;
        }
        if !grew {
            return names;
        }
    }
}

/// What the evaluation's files are called, or the page's folder.
fn target(name: &str, format: Format) -> String {
    if format == Format::Eval {
        name.strip_suffix(&dotted_ending(name)).unwrap_or(name).to_owned()
    } else {
        name.to_owned()
    }
}

/// A name's ending with its dot; empty where it has none.
pub(crate) fn dotted_ending(name: &str) -> String {
    Path::new(name).extension().map(|ending| format!(".{}", ending.to_string_lossy())).unwrap_or_default()
}

/// An evaluation's files have no ending of their own: `a.png` and `a.jpg` of one folder become `a-png` and `a-jpg`.
fn add_endings(all: &mut [Vec<String>]) {
    let bare = |parts: &Vec<String>| target(&parts.join("/"), Format::Eval).to_lowercase();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for parts in all.iter() {
        *counts.entry(bare(parts)).or_default() += 1;
    }
    for parts in all.iter_mut().filter(|parts| counts[&bare(parts)] > 1) {
        if let Some(name) = parts.last_mut() {
            let (stem, ending) = (stem(name).to_owned(), dotted_ending(name));
            *name = format!("{stem}-{}{ending}", ending.trim_start_matches('.'));
        }
    }
}

/// The parts of a path that can be parts of a result's.
fn parts(path: &Path) -> Vec<String> {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let named = whole.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    });
    named.collect()
}

fn last(parts: &[String], length: usize) -> String {
    parts[parts.len().saturating_sub(length)..].join("/")
}

fn ending(path: &Path) -> Option<String> {
    path.extension().map(|ending| ending.to_string_lossy().to_lowercase())
}

/// Whether a file is a PDF, by its first bytes or its ending: a document without a document's ending is one all the same.
pub(crate) fn is_pdf(path: &Path) -> bool {
    let mut first = [0; PDF_MAGIC.len()];
    let is_file = path.metadata().is_ok_and(|about| about.is_file());
    let begins = is_file && std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut first)).is_ok();
    ending(path).as_deref() == Some("pdf") || begins && first == PDF_MAGIC
}

fn kind(path: &Path) -> Kind {
    if is_pdf(path) || is_tiff_of_pages(path) { Kind::Document } else { Kind::Image }
}

fn is_tiff_of_pages(path: &Path) -> bool {
    let mut first = [0; 2];
    let is_file = path.metadata().is_ok_and(|about| about.is_file());
    let begins = is_file && std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut first)).is_ok();
    begins && [*b"II", *b"MM"].contains(&first) && ImageFile::open(path).is_ok_and(|file| file.page_count() > 1)
}

#[derive(Default)]
struct Lister<'a> {
    listing: Listing<'a>,
    files: Vec<PathBuf>,
    skipped: Vec<Skipped>,
    /// Folders that have been listed: a link may lead back.
    seen: BTreeSet<PathBuf>,
}

impl Lister<'_> {
    fn list(&mut self, folder: &Path) -> anyhow::Result<()> {
        self.seen.insert(folder.canonicalize().unwrap_or_else(|_| folder.to_owned()));
        let listing = || format!("listing {}", folder.display());
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(folder).with_context(listing)? {
            inside.push(entry.with_context(listing)?.path());
        }
        inside.sort();
        for path in inside {
            if path.is_dir() {
                self.folder(path);
            } else if let Some(reason) = not_read(&path) {
                self.skipped.push(Skipped { path, reason });
            } else {
                self.files.push(path);
            }
        }
        Ok(())
    }

    fn folder(&mut self, path: PathBuf) {
        let whole = path.canonicalize().unwrap_or_else(|_| path.clone());
        let is_out = self.listing.out.is_some_and(|out| out.canonicalize().is_ok_and(|out| out == whole));
        let reason = if is_out {
            "results go there".to_owned()
        } else if !self.listing.recursive {
            "a folder: --recursive reads it".to_owned()
        } else if self.seen.contains(&whole) {
            "a folder that has been listed".to_owned()
        } else {
            match self.list(&path) {
                Ok(()) => return,
                Err(error) => format!("{error:#}"),
            }
        };
        self.skipped.push(Skipped { path, reason });
    }

    fn nothing_in(&self, folder: &Path) -> String {
        let endings = ENDINGS.join(", ");
        let mut text = format!("{}: expected images or documents ({endings}), found none", folder.display());
        for Skipped { path, reason } in &self.skipped {
            text.push_str(&format!("\n  not read: {}: {reason}", path.display()));
        }
        text
    }
}

/// Why a file of a directory is not read, if so.
fn not_read(path: &Path) -> Option<String> {
    let named = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    match ending(path) {
        _ if named => Some("a hidden file".to_owned()),
        Some(ending) if ENDINGS.contains(&&*ending) => {
            (!path.is_file()).then(|| "neither a file nor a folder".to_owned())
        }
        Some(ending) if ["heic", "heif", "avif", "jxl", "jp2", "psd", "svg", "djvu"].contains(&&*ending) => {
            Some(format!("{} cannot be decoded: save it as PNG or JPEG", ending.to_uppercase()))
        }
        Some(ending) => Some(format!(".{ending} is no ending of an image or a document")),
        None => Some("its name has no ending: where it is an image, name it by itself".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(inputs: &[PathBuf], format: Format, recursive: bool) -> Sources {
        list(inputs, format, Listing { recursive, out: None }).expect("sources")
    }

    fn names_of(found: &Sources) -> Vec<&str> {
        found.all.iter().map(|source| source.name.as_str()).collect()
    }

    #[test]
    fn directories_are_listed_and_what_is_not_read_is_named() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("sub")).expect("made");
        for (name, bytes) in [
            ("b.PDF", "%PDF-1.4"),
            ("a.png", ""),
            ("c.jpg", "%PDF-1.7"),
            ("a.txt", ""),
            ("a.tif", ""),
            ("y.jfif", ""),
            ("I.HEIC", ""),
            ("noext", ""),
            ("sub/a.png", ""),
        ] {
            std::fs::write(path(name), bytes).expect("written");
        }
        let all = found(&[dir.path().to_owned()], Format::Markdown, false);
        let mut sorted: Vec<(&str, Kind)> = all.all.iter().map(|source| (&*source.name, source.kind)).collect();
        sorted.sort_by_key(|(name, _)| *name);
        let (image, document) = (Kind::Image, Kind::Document);
        let want = [("a.png", image), ("a.tif", image), ("b.PDF", document), ("c.jpg", document), ("y.jfif", image)];
        assert_eq!(sorted, want);
        let skipped: Vec<String> =
            all.skipped.iter().map(|one| format!("{} {}", one.path.display(), one.reason)).collect();
        assert_eq!(skipped.len(), 4, "{skipped:#?}");
        for part in ["I.HEIC HEIC cannot", "a.txt .txt is", "noext its name has no", "sub a folder: --recursive"] {
            assert!(skipped.iter().any(|line| line.contains(part)), "{part}: {skipped:#?}");
        }
        let all = found(&[dir.path().to_owned()], Format::Markdown, true);
        let folder = dir.path().file_name().expect("a name").to_string_lossy().into_owned();
        let own = format!("{folder}/a.png");
        assert!(names_of(&all).contains(&own.as_str()) && names_of(&all).contains(&"sub/a.png"), "{all:?}");
        let all = found(&[path("a.png"), path("a.tif"), path("a.png")], Format::Eval, false);
        assert_eq!(all.skipped.len(), 1, "a file that is named twice is read once");
        assert_eq!(names_of(&all).len(), 2);
        let bare: BTreeSet<String> = names_of(&all).iter().map(|name| target(name, Format::Eval)).collect();
        assert_eq!(bare.len(), 2, "two places: {bare:?}");
    }
}
