//! Where a page's results go and how they get there: whole or not at all.

use std::{
    collections::BTreeSet,
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

use crate::{
    fingerprint, json,
    page_id::{PageId, page_folder},
    prepare::PreparedPage,
    read_page::ReadPage,
    settings::{Format, Settings},
    sources::{Source, dotted_ending},
};

/// What a page's folder holds.
pub(crate) const MARKDOWN: &str = "result.mmd";
/// The text as the model wrote it, references and all.
pub(crate) const WRITTEN: &str = "result_ori.mmd";
/// The page with its boxes drawn.
pub(crate) const BOXES: &str = "result_with_boxes.jpg";
/// The geometric figure that its text describes, plotted.
pub(crate) const GEOMETRY: &str = "geo.jpg";
/// The pictures cut out of it.
pub(crate) const IMAGES: &str = "images";
/// What `--json` says of the page, and what it is made of.
pub(crate) const RECORD: &str = "page.json";
/// Where the evaluation's records are: its own files have no place for them.
const RECORDS: &str = ".mlxport";

/// What there is already where a page's results go. They are ours where they have our record.
pub(crate) fn existing(id: &PageId, out: &Path, format: Format, made_of: &Value) -> Existing {
    let (target, record) = match format {
        Format::Markdown => (out.join(id.name()), out.join(id.name()).join(RECORD)),
        Format::Eval => (evaluation_files(id, out)[1].clone(), evaluation_record(id, out)),
    };
    if fs::symlink_metadata(&target).is_err() {
        return Existing::Nothing;
    }
    let found: Option<Value> = fs::read(record).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    // An older version wrote no record of what a page is made of, but the page's name.
    let Some(found) = found.filter(|found| found[fingerprint::KEY].is_object() || found["page"] == *id.name()) else {
        return Existing::Foreign(format!(
            "{}: expected nothing, or results that mlxport wrote, found something else: it is left as it is; \
             move it, or name another --out",
            target.display()
        ));
    };
    let differs = fingerprint::differences(&found[fingerprint::KEY], made_of);
    let notes = found["degraded"].as_array().map(|all| all.iter().filter_map(Value::as_str).map(str::to_owned));
    Existing::Ours { differs, ended: found["ended"].as_bool(), degraded: notes.into_iter().flatten().collect() }
}

/// Where the evaluation's record is.
fn evaluation_record(id: &PageId, out: &Path) -> PathBuf {
    out.join(RECORDS).join(format!("{}.json", evaluation_stem(id)))
}

fn evaluation_stem(id: &PageId) -> String {
    let stem = id.file.strip_suffix(&dotted_ending(&id.file)).unwrap_or(&id.file);
    match id.number {
        Some(number) => format!("{stem}_{}", page_folder(number)),
        None => stem.to_owned(),
    }
}

/// The evaluation's two files: the text as written, and its Markdown, which comes last.
fn evaluation_files(id: &PageId, out: &Path) -> [PathBuf; 2] {
    let stem = evaluation_stem(id);
    [out.join(format!("{stem}_det.md")), out.join(format!("{stem}.md"))]
}

/// What there is already where a page's results go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// Nothing.
    Nothing,
    /// Something that no `mlxport ocr` wrote; what is to be said of it.
    Foreign(String),
    /// Results.
    Ours {
        /// What they are made of otherwise than now, by name.
        differs: Vec<String>,
        /// Whether the model came to an end by itself.
        ended: Option<bool>,
        /// What the page lost.
        degraded: Vec<String>,
    },
}

/// Results that would take the place of an input, or of something that is no folder of results.
///
/// # Errors
/// All of them, where there are any.
pub(crate) fn refuse_inputs(out: &Path, format: Format, sources: &[Source]) -> anyhow::Result<()> {
    let inputs: BTreeSet<PathBuf> = sources.iter().filter_map(|source| source.path.canonicalize().ok()).collect();
    let mut wrong = Vec::new();
    for source in sources {
        let id = PageId::of_image(&source.name);
        let targets = match format {
            Format::Markdown => vec![out.join(&source.name)],
            Format::Eval => evaluation_files(&id, out).to_vec(),
        };
        for target in targets {
            if target.canonicalize().is_ok_and(|target| inputs.contains(&target)) {
                wrong.push(format!(
                    "{}: its results would go to {}, which is an input",
                    source.path.display(),
                    target.display()
                ));
            }
        }
    }
    anyhow::ensure!(wrong.is_empty(), "{}\nnothing was read: name another --out", wrong.join("\n"));
    Ok(())
}

/// Writes a page's results.
///
/// # Errors
/// When they cannot be written; then nothing is there.
pub(crate) fn write(out: &Path, settings: &Settings, read: &ReadPage, prepared: &PreparedPage) -> anyhow::Result<()> {
    let written = match settings.format {
        Format::Markdown => folder(out, settings, read, prepared),
        Format::Eval => evaluation(out, settings, read, prepared),
    };
    written.with_context(|| format!("writing {} into {}", read.id.name(), out.display()))
}

fn folder(out: &Path, settings: &Settings, read: &ReadPage, prepared: &PreparedPage) -> anyhow::Result<()> {
    let page = &prepared.page;
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
    fs::write(stage.path().join(RECORD), format!("{:#}\n", record(settings, read, prepared)))?;
    let target = out.join(read.id.name());
    if let Some(above) = target.parent() {
        fs::create_dir_all(above)?;
    }
    // Older results are moved aside first, and go with the stage's folder.
    let old = tempfile::Builder::new().prefix(".mlxport-").tempdir_in(out)?;
    if target.exists() {
        fs::rename(&target, old.path().join("old"))?;
    }
    let stage = stage.keep();
    fs::rename(&stage, &target).inspect_err(|_| {
        let _ = fs::rename(old.path().join("old"), &target);
        let _ = fs::remove_dir_all(&stage);
    })?;
    Ok(())
}

fn record(settings: &Settings, read: &ReadPage, prepared: &PreparedPage) -> Value {
    let mut record = json::page(read);
    record["prompt"] = prepared.prompt.as_str().into();
    record["mode"] = settings.mode().name().into();
    record[fingerprint::KEY] = prepared.made_of.clone();
    record
}

fn evaluation(out: &Path, settings: &Settings, read: &ReadPage, prepared: &PreparedPage) -> anyhow::Result<()> {
    let [written, markdown] = evaluation_files(&read.id, out);
    let about = evaluation_record(&read.id, out);
    for above in [written.parent(), about.parent()].into_iter().flatten() {
        fs::create_dir_all(above)?;
    }
    file(&about, &format!("{:#}\n", record(settings, read, prepared)))?;
    // The last one says that the page is done.
    file(&written, &formats::without_end(&read.written))?;
    file(&markdown, &formats::evaluation(&read.written))
}

/// Writes a file that appears whole or not at all; an older one is replaced.
pub(crate) fn file(target: &Path, text: &str) -> anyhow::Result<()> {
    let folder = target.parent().unwrap_or(Path::new("."));
    let mut stage = tempfile::Builder::new().prefix(".mlxport-").tempfile_in(folder)?;
    stage.write_all(text.as_bytes())?;
    stage.persist(target)?;
    Ok(())
}

/// Removes what a run that was killed has left half-written. Two runs into one directory at a time would be in each other's way
/// anyway: both would do the same pages.
pub(crate) fn sweep(out: &Path) {
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
    use crate::sources::Kind;

    /// What becomes of a page of which the model says `text`: its folder, and what is noted.
    fn written(text: &str) -> anyhow::Result<(tempfile::TempDir, Option<String>)> {
        let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ocr/testdata/tokenizer.json");
        let prompter = Prompter::open(&tokenizer)?;
        let tokens = prompter.encode(text, &[])?.0.into_iter().skip(1).map(i32::try_from).collect::<Result<_, _>>()?;
        let page = Page::new(60, 40, vec![200; 60 * 40 * 3]).context("a page")?;
        let id = PageId::of_image("a.png");
        let read = ReadPage::new(&prompter, id.clone(), &page, tokens, Vec::new(), 1.0)?;
        let inputs = mlxport_ocr::prepare(&prompter, "<image>", std::slice::from_ref(&page), mlxport_ocr::Mode::Tiny)?;
        let prepared = PreparedPage {
            id,
            kind: Kind::Image,
            page,
            prompt: "<image>".to_owned(),
            inputs,
            degraded: Vec::new(),
            made_of: Value::Null,
        };
        let out = tempfile::tempdir()?;
        write(out.path(), &Settings::new(Vec::new(), PathBuf::new()), &read, &prepared)?;
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
