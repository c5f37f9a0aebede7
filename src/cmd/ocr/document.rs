//! A document's Markdown out of its pages, as `run_dpsk_ocr_pdf.py` writes it: `NAME.mmd`, `NAME_det.mmd` (as the model wrote
//! it), the pictures as `images/PAGE_N.jpg`, and `NAME_layouts.pdf`, the pages with their boxes drawn.

use std::{
    fs,
    io::BufWriter,
    path::{Path, PathBuf},
};

use anyhow::Context;
use mlxport_ocr::{formats, layouts::Layouts};

use super::{
    json,
    sources::stem,
    write::{BOXES, IMAGES, RECORD, WRITTEN, file, page_folder},
};

/// Puts together what pages of the document `name` are there, in order.
///
/// # Errors
/// When a page's results cannot be read, or the document not be written.
pub fn join(out: &Path, name: &str, skip_unfinished: bool) -> anyhow::Result<()> {
    let folder = out.join(name);
    let joined = all_of(&folder, stem(name), skip_unfinished);
    joined.with_context(|| format!("putting the pages of {} together", folder.display()))
}

fn all_of(folder: &Path, stem: &str, skip_unfinished: bool) -> anyhow::Result<()> {
    let images = folder.join(IMAGES);
    if images.exists() {
        fs::remove_dir_all(&images)?;
    }
    fs::create_dir(&images)?;
    let (mut text, mut written) = (String::new(), String::new());
    let stage = tempfile::Builder::new().prefix(".mlxport-").tempfile_in(folder)?;
    let mut layouts = Layouts::new(BufWriter::new(stage))?;
    let mut number = 0;
    for page in pages(folder)? {
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

/// The folders of the pages that are there, in order.
fn pages(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let number = name.strip_prefix("page-").and_then(|number| number.parse::<usize>().ok());
        numbers.extend(number.filter(|&number| page_folder(number) == name));
    }
    numbers.sort_unstable();
    Ok(numbers.into_iter().map(|number| folder.join(page_folder(number))).collect())
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
