//! The process that draws a document's pages for [`crate::read_pages`]. A hostile page may make a renderer run on, take all memory or
//! overflow its stack; in a process of its own that ends the process, and one page is lost.
//!
//! ```text
//! stdin:  the password, a line; then a page's number, counted from 0, a line each
//! stdout: N pages (u32) · per page any number of L length (u32) text, what it loses, then P width (u32) height (u32) bytes,
//!         or E length (u32) text                                                                (little-endian)
//! ```

use std::{
    io::{BufRead, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use mlxport_ocr::{OcrError, Page, pdf::Document};

/// The exit code that says a page took too long.
pub const TOO_LONG: u8 = 124;
/// The most memory the process may take, in GiB, where the system keeps it to that (Linux): a page of the largest size, its layers, and the document.
pub(crate) const MEMORY_GIB: u64 = 4;

/// Tag of the number of pages.
pub(crate) const COUNT: u8 = b'N';
/// Tag of a page.
pub(crate) const PAGE: u8 = b'P';
/// Tag of something that a page loses.
pub(crate) const LOSS: u8 = b'L';
/// Tag of an error.
pub(crate) const ERROR: u8 = b'E';

/// The most losses of a page that are sent one by one.
pub(crate) const MOST_NOTES: usize = 64;
/// The longest text, in bytes: a longer one is cut.
pub(crate) const LONGEST_TEXT: usize = 64 << 10;

/// Seconds that the present page has taken, counted up by a thread of its own; [`IDLE`] while none is asked for.
static SECONDS: AtomicU64 = AtomicU64::new(0);
const IDLE: u64 = u64::MAX;

/// Draws the pages of `path` that `requests` asks for, until it ends, and writes them to `answers`. False: the document cannot be opened,
/// and `answers` says why.
///
/// # Errors
/// When `requests` cannot be read, or `answers` not be written.
pub fn draw(
    path: &Path,
    dpi: u16,
    fonts: &[PathBuf],
    requests: impl BufRead,
    mut answers: impl Write,
) -> anyhow::Result<bool> {
    let mut lines = requests.lines();
    let password = lines.next().transpose()?.unwrap_or_default();
    let document = match Document::open(path, &password) {
        Ok(document) => document,
        Err(error) => return send_error(&mut answers, &error).map(|()| false),
    };
    answers.write_all(&[COUNT])?;
    answers.write_all(&u32::try_from(document.page_count())?.to_le_bytes())?;
    answers.flush()?;
    let mut drawer = document.drawer_with(fonts.to_vec());
    loop {
        SECONDS.store(IDLE, Ordering::Relaxed);
        let Some(line) = lines.next() else { return Ok(true) };
        let index: usize = line?.parse()?;
        SECONDS.store(0, Ordering::Relaxed);
        match drawer.draw(index, dpi) {
            Ok(drawn) => {
                for note in limited(drawn.notes) {
                    send_text(&mut answers, LOSS, &note)?;
                }
                send_page(&mut answers, &drawn.page)?;
            }
            Err(error) => send_error(&mut answers, &error)?,
        }
    }
}

/// At most [`MOST_NOTES`] texts; the last one says how many more there are.
fn limited(mut notes: Vec<String>) -> Vec<String> {
    let more = notes.len().saturating_sub(MOST_NOTES);
    if more > 0 {
        notes.truncate(MOST_NOTES - 1);
        notes.push(format!("{} more losses, which are not named", more + 1));
    }
    notes
}

fn send_page(to: &mut impl Write, page: &Page) -> anyhow::Result<()> {
    to.write_all(&[PAGE])?;
    for side in [page.width(), page.height()] {
        to.write_all(&u32::try_from(side)?.to_le_bytes())?;
    }
    to.write_all(page.rgb())?;
    Ok(to.flush()?)
}

fn send_error(to: &mut impl Write, error: &OcrError) -> anyhow::Result<()> {
    send_text(to, ERROR, &error.to_string())?;
    Ok(to.flush()?)
}

fn send_text(to: &mut impl Write, tag: u8, text: &str) -> anyhow::Result<()> {
    let text = &text[..text.floor_char_boundary(LONGEST_TEXT)];
    to.write_all(&[tag])?;
    to.write_all(&u32::try_from(text.len())?.to_le_bytes())?;
    Ok(to.write_all(text.as_bytes())?)
}

/// Calls `end`, which is to end the process, when the document takes longer to open, or a page to draw, than `page_seconds`.
pub fn watch(page_seconds: u64, end: impl Fn() + Send + 'static) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let more = |seconds| (seconds != IDLE).then(|| seconds + 1);
            let before = SECONDS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
            if before.is_ok_and(|seconds| seconds + 1 > page_seconds) {
                end();
            }
        }
    });
}

/// Keeps this process to the memory that a document may take.
#[cfg(unix)]
pub fn limit_memory() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // Where the system refuses, the page's own limits still hold.
    let most = Some(MEMORY_GIB << 30);
    let _ = setrlimit(Resource::Data, Rlimit { current: most, maximum: most });
}

/// Does nothing: this system has no such limit.
#[cfg(not(unix))]
pub fn limit_memory() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_losses_and_long_texts_are_cut_and_counted() {
        let notes = |count: usize| limited((0..count).map(|at| at.to_string()).collect());
        assert_eq!(notes(MOST_NOTES).len(), MOST_NOTES);
        let many = notes(100);
        assert_eq!((many.len(), many[63].as_str()), (MOST_NOTES, "37 more losses, which are not named"));
        let mut to = Vec::new();
        send_text(&mut to, LOSS, &"ä".repeat(LONGEST_TEXT)).expect("written");
        assert_eq!(to.len(), 5 + LONGEST_TEXT);
        assert!(std::str::from_utf8(&to[5..]).is_ok(), "no character is cut in two");
    }
}
