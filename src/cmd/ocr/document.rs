//! A document's Markdown out of its pages, as `run_dpsk_ocr_pdf.py` writes it: `NAME.mmd`, `NAME_det.mmd` (as the model wrote
//! it), the pictures as `images/PAGE_N.jpg`, and `NAME_layouts.pdf`, the pages with their boxes drawn.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::BufWriter,
    path::Path,
};

use anyhow::Context;
use mlxport_ocr::{formats, layouts::Layouts};

use super::{
    json,
    sources::stem,
    write::{BOXES, IMAGES, RECORD, WRITTEN, file, page_folder},
};

/// Puts together what pages of the document `name` are there, in order; those of `missing`, with why, are named in their place.
///
/// # Errors
/// When a page's results cannot be read, or the document not be written.
pub fn join(out: &Path, name: &str, missing: &BTreeMap<usize, String>, skip_unfinished: bool) -> anyhow::Result<()> {
    let folder = out.join(name);
    let joined = all_of(&folder, stem(name), missing, skip_unfinished);
    joined.with_context(|| format!("putting the pages of {} together", folder.display()))
}

/// What stands in a document's text for a page that could not be read.
pub fn missing_page(number: usize, why: &str) -> String {
    let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("[Page {number} is missing: {why}]{}", formats::PAGE_SPLIT)
}

fn all_of(folder: &Path, stem: &str, missing: &BTreeMap<usize, String>, skip_unfinished: bool) -> anyhow::Result<()> {
    let images = folder.join(IMAGES);
    if images.exists() {
        fs::remove_dir_all(&images)?;
    }
    fs::create_dir(&images)?;
    let (mut text, mut written) = (String::new(), String::new());
    let stage = tempfile::Builder::new().prefix(".mlxport-").tempfile_in(folder)?;
    let mut layouts = Layouts::new(BufWriter::new(stage))?;
    let mut number = 0;
    let there = pages(folder)?;
    let numbers: BTreeSet<usize> = there.iter().chain(missing.keys()).copied().collect();
    for at in numbers {
        let page = folder.join(page_folder(at));
        if let Some(why) = missing.get(&at).filter(|_| !there.contains(&at)) {
            written.push_str(&missing_page(at, why));
            text.push_str(&missing_page(at, why));
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

/// Whether the document's Markdown is there.
pub fn is_joined(out: &Path, name: &str) -> bool {
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
