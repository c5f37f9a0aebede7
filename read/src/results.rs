//! What becomes of pages that were read: written, printed in the order of the pages, counted, and put together into documents.

use std::collections::BTreeMap;

use mlxport_ocr::{Page, Prompter, formats, page::JPEG_SIDE};

use super::{
    Outcome,
    args::{Args, Format},
    bar::Progress,
    batch::Ended,
    document,
    pages::{DoneBefore, Ready, Told},
    read::Read,
    write::{BOXES, Place, write},
};
use crate::output::{to_stdout, told};

/// Results so far.
pub struct Results<'a> {
    args: &'a Args,
    prompter: &'a Prompter,
    /// What is told at the end.
    pub outcome: Outcome,
    /// How far it is.
    pub progress: Progress,
    /// Texts that wait for one before them; `None` for a page that has none.
    unprinted: BTreeMap<usize, Option<String>>,
    next_printed: usize,
    documents: BTreeMap<String, Pending>,
}

/// A document whose pages are being read.
#[derive(Debug, Default)]
struct Pending {
    pages: usize,
    /// Once all its pages have been told.
    told: Option<Told>,
    is_new: bool,
    /// Pages that could not be read, with why.
    missing: BTreeMap<usize, String>,
}

impl<'a> Results<'a> {
    /// None yet.
    pub fn new(args: &'a Args, prompter: &'a Prompter) -> Self {
        Self {
            args,
            prompter,
            outcome: Outcome::default(),
            progress: Progress::new(),
            unprinted: BTreeMap::new(),
            next_printed: 0,
            documents: BTreeMap::new(),
        }
    }

    /// A page is about to be read.
    pub fn begun(&mut self, place: &Place) {
        if place.number.is_some() {
            self.documents.entry(place.file.clone()).or_default().pages += 1;
        }
    }

    /// A page's results were there.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn done_before(&mut self, turn: usize, before: DoneBefore) -> anyhow::Result<()> {
        let DoneBefore { place, differs, ended, degraded } = before;
        let mut told = format!("{}: done before", place.name());
        if !differs.is_empty() {
            told.push_str(&format!(", and kept: another {}", differs.join(", another ")));
        }
        if ended == Some(false) {
            told.push_str("; it came to no end: a larger --max-tokens may help");
            self.outcome.cut_off.push(place.name());
        }
        self.progress.note(&told);
        self.degraded(&place, degraded);
        self.progress.page(false);
        self.outcome.done_before.push(place.name());
        self.print(turn, None)
    }

    /// A page's results were there, but of something else.
    pub fn again(&self, name: &str, differs: &[String]) {
        self.progress.note(&format!("{name}: read again: another {} than before", differs.join(", another ")));
    }

    /// A page lost something on its way to the model.
    fn degraded(&mut self, place: &Place, reasons: Vec<String>) {
        for reason in &reasons {
            self.progress.note(&format!("{}: degraded: {reason}", place.name()));
        }
        if !reasons.is_empty() {
            self.outcome.degraded.push((place.name(), reasons));
        }
    }

    /// A page, or a document, could not be read.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn failed(&mut self, turn: usize, place: &Place, error: anyhow::Error) -> anyhow::Result<()> {
        let why = told(&error);
        self.progress.note(&format!("error: {}: {why}", place.name()));
        self.progress.page(false);
        self.outcome.failed.push((place.name(), error));
        let Some(number) = place.number else { return self.print(turn, None) };
        let is_printed = self.args.out.is_none() && !self.args.json && self.args.format == Format::Markdown;
        let text = is_printed.then(|| document::missing_page(number, &why));
        let pending = self.documents.entry(place.file.clone()).or_default();
        pending.missing.insert(number, why);
        self.print(turn, text)
    }

    /// A page is no longer read.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn ended(&mut self, ended: Ended) -> anyhow::Result<()> {
        let Ended { turn, reading, outcome } = ended;
        let (seconds, ready) = (reading.seconds(), reading.ready);
        let (place, degraded) = (&ready.place, ready.degraded.clone());
        let read = outcome
            .and_then(|()| Read::new(self.prompter, place.clone(), &ready.page, reading.tokens, degraded, seconds))
            .and_then(|read| self.written(read, &ready));
        let is_new = read.is_ok();
        match read {
            Ok(read) => self.read(turn, read)?,
            Err(error) => self.failed(turn, place, error)?,
        }
        if place.number.is_some() {
            let pending = self.documents.entry(place.file.clone()).or_default();
            pending.pages = pending.pages.saturating_sub(1);
            pending.is_new |= is_new;
            self.join(&place.file);
        }
        Ok(())
    }

    /// Writes a page. What cannot be written is that page's failure, and no other's.
    fn written(&self, read: Read, ready: &Ready) -> anyhow::Result<Read> {
        if let Some(out) = &self.args.out {
            write(out, self.args, &read, ready)?;
            let is_markdown = self.args.format == Format::Markdown;
            let notes = read.note_of_figure().into_iter().chain(note_of_size(&ready.place, &ready.page));
            notes.filter(|_| is_markdown).for_each(|note| self.progress.note(&note));
        }
        Ok(read)
    }

    fn read(&mut self, turn: usize, read: Read) -> anyhow::Result<()> {
        let (count, speed) = (read.tokens.len(), read.tokens.len() as f64 / read.seconds.max(1e-9));
        let end = if read.ended { "" } else { ", came to no end" };
        let name = read.place.name();
        if !read.ended {
            self.outcome.cut_off.push(name.clone());
        }
        self.degraded(&read.place, read.degraded.clone());
        self.progress.note(&format!("{name}: {count} tokens, {:.1} s, {speed:.1} tokens/s{end}", read.seconds));
        self.progress.page(true);
        let text = (self.args.out.is_none() && !self.args.json).then(|| self.text(&read));
        self.print(turn, text)?;
        if self.args.json {
            self.outcome.done.insert(turn, read);
        }
        Ok(())
    }

    /// A page as it is printed where nothing is written.
    fn text(&self, read: &Read) -> String {
        match (self.args.format, read.place.number) {
            (Format::Eval, _) => format!("{}\n", formats::evaluation(&read.written)),
            (Format::Markdown, None) => format!("{}\n", read.found.text),
            (Format::Markdown, Some(number)) => {
                format!("{}{}", formats::of_document(&read.written, number - 1), formats::PAGE_SPLIT)
            }
        }
    }

    /// Prints texts in the order of their pages.
    fn print(&mut self, turn: usize, text: Option<String>) -> anyhow::Result<()> {
        self.unprinted.insert(turn, text);
        while let Some(text) = self.unprinted.remove(&self.next_printed) {
            self.next_printed += 1;
            if let Some(text) = text {
                to_stdout(&text)?;
            }
        }
        Ok(())
    }

    /// All pages of a document have been told.
    pub fn end_of_document(&mut self, told: Told) {
        let name = told.name.clone();
        self.documents.entry(name.clone()).or_default().told = Some(told);
        self.join(&name);
    }

    /// Puts a document together once its last page is there; one without a new page is left as it is.
    fn join(&mut self, name: &str) {
        let complete = self.documents.get(name).is_some_and(|pending| pending.told.is_some() && pending.pages == 0);
        let Some(pending) = complete.then(|| self.documents.remove(name)).flatten() else { return };
        let Some(asked) = &pending.told else { return };
        let Some(out) = self.args.out.as_ref().filter(|_| self.args.format == Format::Markdown) else { return };
        let is_changed = pending.is_new || !pending.missing.is_empty() || !document::is_joined(out, name);
        if !(out.join(name).is_dir() && is_changed) {
            return;
        }
        let how = document::How { skip_unfinished: self.args.skip_unfinished, keep: self.args.keep };
        match document::join(out, asked, &pending.missing, how) {
            Ok(notes) => notes.iter().for_each(|note| self.progress.note(&format!("{name}: {note}"))),
            Err(error) => {
                self.progress.note(&format!("error: {name}: {}", told(&error)));
                self.outcome.failed.push((name.to_owned(), error));
            }
        }
    }
}

/// What is to be said of a page too long for JPEG.
fn note_of_size(place: &Place, page: &Page) -> Option<String> {
    let (width, height) = (page.width(), page.height());
    let is_long = width.max(height) > JPEG_SIDE;
    is_long.then(|| {
        format!("{}: {width}×{height} pixels are too many for a JPEG: {BOXES} is smaller than the page", place.name())
    })
}
