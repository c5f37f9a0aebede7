//! Where a page's results go and how they get there: whole or not at all.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context;
use mlxport_ocr::{
    formats, geometry,
    grounding::{cuts, with_boxes},
};
use serde_json::Value;

use super::{
    args::{Args, Format},
    json,
    pages::Ready,
    read::Read,
    sources::stem,
};

/// What a page's folder holds.
pub const MARKDOWN: &str = "result.mmd";
/// The text as the model wrote it, references and all.
pub const WRITTEN: &str = "result_ori.mmd";
/// The page with its boxes drawn.
pub const BOXES: &str = "result_with_boxes.jpg";
/// The geometric figure that its text describes, plotted.
pub const GEOMETRY: &str = "geo.jpg";
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

    /// Whether the results that are there are of this prompt and mode; so they count where they do not say.
    pub fn was_asked(&self, out: &Path, args: &Args, prompt: &str) -> bool {
        let record = fs::read(out.join(self.name()).join(RECORD)).unwrap_or_default();
        let record: Value = serde_json::from_slice(&record).unwrap_or_default();
        let same = |name: &str, now: &str| record[name].as_str().is_none_or(|then| then == now);
        same("prompt", prompt) && same("mode", args.mode().name())
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
pub fn write(out: &Path, args: &Args, read: &Read, ready: &Ready) -> anyhow::Result<()> {
    let written = match args.format {
        Format::Markdown => folder(out, args, read, ready),
        Format::Eval => evaluation(out, read),
    };
    written.with_context(|| format!("writing {} into {}", read.place.name(), out.display()))
}

fn folder(out: &Path, args: &Args, read: &Read, ready: &Ready) -> anyhow::Result<()> {
    let page = &ready.page;
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
    if let Some(Ok(figure)) = &read.figure {
        fs::write(stage.path().join(GEOMETRY), geometry::plot(figure).to_jpeg()?)?;
    }
    let mut record = json::page(read);
    record["prompt"] = ready.prompt.as_str().into();
    record["mode"] = args.mode().name().into();
    fs::write(stage.path().join(RECORD), format!("{record:#}\n"))?;
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
    let half = |folder: &Path| {
        let mut whole = Vec::new();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, is_folder) = (entry.path(), entry.file_type().is_ok_and(|kind| kind.is_dir()));
            if !entry.file_name().to_string_lossy().starts_with(".mlxport-") {
                whole.extend(is_folder.then_some(path));
            } else if is_folder {
                let _ = fs::remove_dir_all(&path);
            } else {
                let _ = fs::remove_file(&path);
            }
        }
        whole
    };
    // A document's files are put together in its own folder.
    for folder in half(out) {
        half(&folder);
    }
}

#[cfg(test)]
mod tests {
    use mlxport_ocr::{Page, Prompter};

    use super::*;
    use crate::cmd::ocr::{args::tests::args, sources::Kind};

    /// What becomes of a page of which the model says `text`: its folder, and what is noted.
    fn written(text: &str) -> anyhow::Result<(tempfile::TempDir, Option<String>)> {
        let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("ocr/testdata/tokenizer.json");
        let prompter = Prompter::open(&tokenizer)?;
        let tokens = prompter.encode(text, &[])?.0.into_iter().skip(1).map(i32::try_from).collect::<Result<_, _>>()?;
        let page = Page::new(60, 40, vec![200; 60 * 40 * 3]).context("a page")?;
        let place = Place::of_image("a.png");
        let read = Read::new(&prompter, place.clone(), &page, tokens, 1.0)?;
        let inputs = mlxport_ocr::prepare(&prompter, "<image>", std::slice::from_ref(&page), mlxport_ocr::Mode::Tiny)?;
        let ready = Ready { place, kind: Kind::Image, page, prompt: "<image>".to_owned(), inputs };
        let out = tempfile::tempdir()?;
        write(out.path(), &args(&[]), &read, &ready)?;
        Ok((out, read.note_of_figure()))
    }

    #[test]
    fn a_figure_is_plotted_and_what_is_none_is_noted() -> anyhow::Result<()> {
        let figure = "{'Line': {'line': ['(0, 0) -- (3, 4)', 'A -- B'], 'line_type': ['--', '--'], 'line_endpoint': ['A: (0, 0)']}}";
        let (out, note) = written(figure)?;
        let folder = out.path().join("a.png");
        assert_eq!(fs::read_to_string(folder.join(MARKDOWN))?, figure, "the text is as it was");
        let plot = mlxport_ocr::open(&folder.join(GEOMETRY))?;
        assert_eq!((plot.width(), plot.height()), (600, 600));
        assert!(note.is_some_and(|note| note.starts_with("a.png: parts of its figure") && note.ends_with(": 1")));
        let call = "__import__('os').system('echo line_type')";
        let (out, note) = written(call)?;
        assert!(!out.path().join("a.png").join(GEOMETRY).exists());
        assert_eq!(fs::read_to_string(out.path().join("a.png").join(MARKDOWN))?, call);
        assert!(note.is_some_and(|note| note.contains("no geo.jpg") && note.contains("byte 0: expected a value")));
        let (out, note) = written("a text")?;
        assert!(!out.path().join("a.png").join(GEOMETRY).exists() && note.is_none());
        Ok(())
    }
}
