//! A document's Markdown out of its pages, as `run_dpsk_ocr_pdf.py` writes it: `NAME.mmd`, `NAME_det.mmd` (as the model wrote
//! it), the pictures as `images/PAGE_N.jpg`, and `NAME_layouts.pdf`, the pages with their boxes drawn.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::BufWriter,
    path::{Path, PathBuf},
};

use anyhow::Context;
use mlxport_ocr::{formats, layouts::Layouts};

use crate::{
    fingerprint, json,
    page_id::page_folder,
    prepare::DocumentEnd,
    sources::stem,
    write::{BOXES, IMAGES, RECORD, WRITTEN, file},
};

/// How a document is put together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JoinRules {
    /// Pages that came to no end are left out.
    pub skip_unfinished: bool,
    /// Pages of another source or setting are taken as they are.
    pub keep: bool,
}

/// Puts together what pages of `document` are there, in order; those of `missing`, with why, are named in their place, and so
/// are those whose results are of another source. Returns what is to be said of pages that another run made.
///
/// # Errors
/// When a page's results cannot be read, or the document not be written.
pub(crate) fn join(
    out: &Path,
    document: &DocumentEnd,
    missing: &BTreeMap<usize, String>,
    rules: JoinRules,
) -> anyhow::Result<Vec<String>> {
    let folder = out.join(&document.name);
    let reading = || format!("putting the pages of {} together", folder.display());
    let (pages, notes) = pages_of(&folder, document, missing, rules.keep).with_context(reading)?;
    all_of(&folder, stem(&document.name), &pages, rules.skip_unfinished).with_context(reading)?;
    Ok(notes)
}

/// A document's pages in order: why one is missing, or nothing.
type Pages = BTreeMap<usize, Option<String>>;

/// The pages of a document in order, with why a page is missing; and what is to be said of those that another run made.
fn pages_of(
    folder: &Path,
    document: &DocumentEnd,
    missing: &BTreeMap<usize, String>,
    keep: bool,
) -> anyhow::Result<(Pages, Vec<String>)> {
    let mut all = Pages::new();
    let mut notes = Vec::new();
    for at in pages(folder)? {
        let made_of = json::made_of(&fs::read(folder.join(page_folder(at)).join(RECORD))?)?;
        let differs = fingerprint::differences_of_document(&made_of, &document.made_of);
        let named = page_folder(at);
        if keep || differs.is_empty() {
            all.insert(at, None);
        } else if at > document.count {
            notes.push(format!("{named} is of another document, which had more pages: it is left out"));
        } else if differs.iter().any(|what| what == "source") {
            notes.push(format!("{named} is of another source, and was not asked for now: it is named as missing"));
            all.insert(at, Some("its results are of another source".to_owned()));
        } else {
            notes.push(format!("{named} was read before with another {}", differs.join(", another ")));
            all.insert(at, None);
        }
    }
    all.extend(missing.iter().map(|(at, why)| (*at, Some(why.clone()))));
    Ok((all, notes))
}

/// What stands in a document's text for a page that could not be read.
pub(crate) fn missing_page(number: usize, why: &str) -> String {
    let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("[Page {number} is missing: {why}]{}", formats::PAGE_SPLIT)
}

fn all_of(
    folder: &Path,
    stem: &str,
    pages: &BTreeMap<usize, Option<String>>,
    skip_unfinished: bool,
) -> anyhow::Result<()> {
    let images = emptied(folder.join(IMAGES))?;
    let (mut text, mut written) = (String::new(), String::new());
    let stage = tempfile::Builder::new().prefix(".mlxport-").tempfile_in(folder)?;
    let mut layouts = Layouts::new(BufWriter::new(stage))?;
    let mut number = 0;
    for (at, missing) in pages {
        let page = folder.join(page_folder(*at));
        if let Some(why) = missing {
            written.push_str(&missing_page(*at, why));
            text.push_str(&missing_page(*at, why));
            continue;
        }
        let said = fs::read_to_string(page.join(WRITTEN))?;
        if skip_unfinished && !formats::ended(&said) {
            continue;
        }
        written.push_str(&formats::without_end(&said));
        written.push_str(formats::PAGE_SPLIT);
        text.push_str(&formats::of_document(&said, number));
        text.push_str(formats::PAGE_SPLIT);
        pictures(&page.join(IMAGES), &images, number)?;
        let [width, height] = json::size(&fs::read(page.join(RECORD))?)?;
        layouts.page(&fs::read(page.join(BOXES))?, width, height)?;
        number += 1;
    }
    let stage = layouts.finish()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    stage.persist(folder.join(format!("{stem}_layouts.pdf")))?;
    file(&folder.join(format!("{stem}_det.mmd")), &written)?;
    file(&folder.join(format!("{stem}.mmd")), &text)
}

/// A new folder; an older one goes.
fn emptied(folder: PathBuf) -> anyhow::Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir(&folder)?;
    Ok(folder)
}

/// Whether the document's Markdown is there.
pub(crate) fn is_joined(out: &Path, name: &str) -> bool {
    out.join(name).join(format!("{}.mmd", stem(name))).exists()
}

/// The pages that are there.
fn pages(folder: &Path) -> anyhow::Result<BTreeSet<usize>> {
    let mut numbers = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let number = name.strip_prefix("page-").and_then(|number| number.parse::<usize>().ok());
        numbers.extend(number.filter(|&number| page_folder(number) == name));
    }
    Ok(numbers)
}

/// A page's pictures under their names in the document; they are one file with two names where the disk can do that.
fn pictures(from: &Path, to: &Path, page: usize) -> anyhow::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(format!("{page}_{}", entry.file_name().to_string_lossy()));
        if fs::hard_link(entry.path(), &target).is_err() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
