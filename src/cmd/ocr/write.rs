//! Where a page's results go and how they get there: whole or not at all.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context;
use mlxport_ocr::{
    Page, formats,
    grounding::{cuts, with_boxes},
};

use super::{args::Format, json, read::Read, sources::stem};

/// What a page's folder holds.
pub const MARKDOWN: &str = "result.mmd";
/// The text as the model wrote it, references and all.
pub const WRITTEN: &str = "result_ori.mmd";
/// The page with its boxes drawn.
pub const BOXES: &str = "result_with_boxes.jpg";
/// The pictures cut out of it.
pub const IMAGES: &str = "images";
/// What `--json` says of the page.
pub const RECORD: &str = "page.json";

/// Where a page's results go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file it is in, by name.
    pub file: String,
    /// The page of a document, counted from 1.
    pub number: Option<usize>,
}

impl Place {
    /// An image's.
    pub fn of_image(file: &str) -> Self {
        Self { file: file.to_owned(), number: None }
    }

    /// A document's page's.
    pub fn of_document(file: &str, number: usize) -> Self {
        Self { file: file.to_owned(), number: Some(number) }
    }

    /// What the page is called: `scan.png`, `book.pdf/page-0001`.
    pub fn name(&self) -> String {
        match self.number {
            Some(number) => format!("{}/{}", self.file, page_folder(number)),
            None => self.file.clone(),
        }
    }

    /// Whether the results are there.
    pub fn is_done(&self, out: &Path, format: Format) -> bool {
        match format {
            Format::Markdown => out.join(self.name()).exists(),
            Format::Eval => self.evaluation(out)[1].exists(),
        }
    }

    /// The evaluation's two files: the text as written, and its Markdown, which comes last.
    fn evaluation(&self, out: &Path) -> [PathBuf; 2] {
        let stem = match self.number {
            Some(number) => format!("{}_{}", stem(&self.file), page_folder(number)),
            None => stem(&self.file).to_owned(),
        };
        [out.join(format!("{stem}_det.md")), out.join(format!("{stem}.md"))]
    }
}

/// The folder of a document's page, counted from 1.
pub fn page_folder(number: usize) -> String {
    format!("page-{number:04}")
}

/// Writes a page's results.
///
/// # Errors
/// When they cannot be written; then nothing is there.
pub fn write(out: &Path, format: Format, read: &Read, page: &Page) -> anyhow::Result<()> {
    let written = match format {
        Format::Markdown => folder(out, read, page),
        Format::Eval => evaluation(out, read),
    };
    written.with_context(|| format!("writing {} into {}", read.place.name(), out.display()))
}

fn folder(out: &Path, read: &Read, page: &Page) -> anyhow::Result<()> {
    let stage = tempfile::Builder::new().prefix(".mlxport-").tempdir_in(out)?;
    let images = stage.path().join(IMAGES);
    fs::create_dir(&images)?;
    for (at, cut) in cuts(page, &read.found.references) {
        let part = page.part(cut.left, cut.top, cut.width, cut.height);
        fs::write(images.join(format!("{at}.jpg")), part.to_jpeg()?)?;
    }
    fs::write(stage.path().join(MARKDOWN), &read.found.text)?;
    fs::write(stage.path().join(WRITTEN), &read.written)?;
    fs::write(stage.path().join(BOXES), with_boxes(page, &read.found.references).to_jpeg()?)?;
    fs::write(stage.path().join(RECORD), format!("{:#}\n", json::page(read)))?;
    let target = out.join(read.place.name());
    if let Some(above) = target.parent() {
        fs::create_dir_all(above)?;
    }
    let stage = stage.keep();
    fs::rename(&stage, target).inspect_err(|_| {
        let _ = fs::remove_dir_all(&stage);
    })?;
    Ok(())
}

fn evaluation(out: &Path, read: &Read) -> anyhow::Result<()> {
    let [written, markdown] = read.place.evaluation(out);
    // The second one says that the page is done.
    file(&written, &formats::without_end(&read.written))?;
    file(&markdown, &formats::evaluation(&read.written))
}

/// Writes a file that appears whole or not at all; an older one is replaced.
pub fn file(target: &Path, text: &str) -> anyhow::Result<()> {
    let folder = target.parent().unwrap_or(Path::new("."));
    let mut stage = tempfile::Builder::new().prefix(".mlxport-").tempfile_in(folder)?;
    stage.write_all(text.as_bytes())?;
    stage.persist(target)?;
    Ok(())
}

/// Removes what a run that was killed has left half-written. Two runs into one directory at a time would be in each other's way
/// anyway: both would do the same pages.
pub fn sweep(out: &Path) {
    for entry in fs::read_dir(out).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(".mlxport-") {
            let path = entry.path();
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}
