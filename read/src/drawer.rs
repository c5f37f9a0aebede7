//! `mlxport draw-pdf`, which nobody types: the process that draws a document's pages for `mlxport ocr`. A hostile page may make a
//! renderer run on, take all memory or overflow its stack; here that ends this process, and one page is lost.
//!
//! ```text
//! stdin:  the password, a line; then a page's number, counted from 0, a line each
//! stdout: N pages (u32) · per page any number of L length (u32) text, what it loses, then P width (u32) height (u32) bytes,
//!         or E length (u32) text                                                                (little-endian)
//! ```

use std::{
    io::{BufRead as _, Write},
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use mlxport_ocr::{OcrError, Page, pdf::Document};

/// The exit code that says a page took too long.
pub const TOO_LONG: u8 = 124;
/// The most memory this process may take, in GiB, where the system keeps it to that (Linux): a page of the largest size, its layers, and the document.
pub const MEMORY_GIB: u64 = 4;

/// Tag of the number of pages.
pub const COUNT: u8 = b'N';
/// Tag of a page.
pub const PAGE: u8 = b'P';
/// Tag of something that a page loses.
pub const LOSS: u8 = b'L';
/// Tag of an error.
pub const ERROR: u8 = b'E';

/// The most losses of a page that are told one by one.
pub const MOST_NOTES: usize = 64;
/// The longest text, in bytes: a longer one is cut.
pub const LONGEST_TEXT: usize = 64 << 10;

/// Seconds that the present page has taken, counted up by a thread of its own; [`IDLE`] while none is asked for.
static SECONDS: AtomicU64 = AtomicU64::new(0);
const IDLE: u64 = u64::MAX;

/// What `mlxport ocr` passes on.
#[derive(Debug, clap::Args)]
pub struct Args {
    document: PathBuf,
    #[arg(long)]
    dpi: u16,
    #[arg(long)]
    page_seconds: u64,
    #[arg(long)]
    fonts: Vec<PathBuf>,
}

/// Draws what stdin asks for until it ends.
///
/// # Errors
/// When stdin or stdout are gone.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    limit_memory();
    watch(args.page_seconds);
    let mut lines = std::io::stdin().lock().lines();
    let mut to = std::io::stdout().lock();
    let password = lines.next().transpose()?.unwrap_or_default();
    let document = match Document::open(&args.document, &password) {
        Ok(document) => document,
        Err(error) => return say(&mut to, &error).map(|()| ExitCode::from(crate::exit::INPUT)),
    };
    to.write_all(&[COUNT])?;
    to.write_all(&u32::try_from(document.page_count())?.to_le_bytes())?;
    to.flush()?;
    let mut drawer = document.drawer_with(args.fonts.clone());
    loop {
        SECONDS.store(IDLE, Ordering::Relaxed);
        let Some(line) = lines.next() else { break };
        let index: usize = line?.parse()?;
        SECONDS.store(0, Ordering::Relaxed);
        match drawer.draw(index, args.dpi) {
            Ok(drawn) => {
                for note in told(drawn.notes) {
                    text(&mut to, LOSS, &note)?;
                }
                send(&mut to, &drawn.page)?;
            }
            Err(error) => say(&mut to, &error)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a page loses, at most [`MOST_NOTES`] texts; the last one says how many more there are.
fn told(mut notes: Vec<String>) -> Vec<String> {
    let more = notes.len().saturating_sub(MOST_NOTES);
    if more > 0 {
        notes.truncate(MOST_NOTES - 1);
        notes.push(format!("{} more losses, which are not named", more + 1));
    }
    notes
}

fn send(to: &mut impl Write, page: &Page) -> anyhow::Result<()> {
    to.write_all(&[PAGE])?;
    for side in [page.width(), page.height()] {
        to.write_all(&u32::try_from(side)?.to_le_bytes())?;
    }
    to.write_all(page.rgb())?;
    Ok(to.flush()?)
}

fn say(to: &mut impl Write, error: &OcrError) -> anyhow::Result<()> {
    text(to, ERROR, &error.to_string())?;
    Ok(to.flush()?)
}

fn text(to: &mut impl Write, tag: u8, text: &str) -> anyhow::Result<()> {
    let text = &text[..text.floor_char_boundary(LONGEST_TEXT)];
    to.write_all(&[tag])?;
    to.write_all(&u32::try_from(text.len())?.to_le_bytes())?;
    Ok(to.write_all(text.as_bytes())?)
}

/// Ends the process when the document takes longer to open, or a page to draw, than it may.
fn watch(page_seconds: u64) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let more = |seconds| (seconds != IDLE).then(|| seconds + 1);
            if SECONDS
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
                .is_ok_and(|past| past + 1 > page_seconds)
            {
                std::process::exit(i32::from(TOO_LONG));
            }
        }
    });
}

#[cfg(unix)]
fn limit_memory() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // Where the system refuses, the page's own limits still hold.
    let most = Some(MEMORY_GIB << 30);
    let _ = setrlimit(Resource::Data, Rlimit { current: most, maximum: most });
}

#[cfg(not(unix))]
fn limit_memory() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_losses_and_long_texts_are_cut_and_counted() {
        let notes = |count: usize| told((0..count).map(|at| at.to_string()).collect());
        assert_eq!(notes(MOST_NOTES).len(), MOST_NOTES);
        let many = notes(100);
        assert_eq!((many.len(), many[63].as_str()), (MOST_NOTES, "37 more losses, which are not named"));
        let mut to = Vec::new();
        text(&mut to, LOSS, &"ä".repeat(LONGEST_TEXT)).expect("written");
        assert_eq!(to.len(), 5 + LONGEST_TEXT);
        assert!(std::str::from_utf8(&to[5..]).is_ok(), "no character is cut in two");
    }
}
