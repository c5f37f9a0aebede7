//! What becomes of pages that were read: written, printed in the order of the pages, counted, and put together into documents.

use std::collections::BTreeMap;

use mlxport_ocr::{Prompter, formats};

use super::{
    Outcome,
    args::{Args, Format},
    bar::Progress,
    batch::Ended,
    document,
    read::Read,
    write::{Place, write},
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
    all_told: bool,
    is_new: bool,
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
    pub fn done_before(&mut self, turn: usize, place: &Place, same: bool) -> anyhow::Result<()> {
        let otherwise = if same { "" } else { ", with another prompt or mode" };
        self.progress.note(&format!("{}: done before{otherwise}", place.name()));
        self.progress.page(false);
        self.outcome.done_before.push(place.name());
        self.print(turn, None)
    }

    /// A page, or a document, could not be read.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn failed(&mut self, turn: usize, name: String, error: anyhow::Error) -> anyhow::Result<()> {
        self.progress.note(&format!("error: {name}: {}", told(&error)));
        self.progress.page(false);
        self.outcome.failed.push((name, error));
        self.print(turn, None)
    }

    /// A page is no longer read.
    ///
    /// # Errors
    /// When its results cannot be written.
    pub fn ended(&mut self, ended: Ended) -> anyhow::Result<()> {
        let Ended { turn, reading, outcome } = ended;
        let (seconds, ready) = (reading.seconds(), reading.ready);
        let read =
            outcome.and_then(|()| Read::new(self.prompter, ready.place.clone(), &ready.page, reading.tokens, seconds));
        let is_new = read.is_ok();
        match read {
            Ok(read) => {
                if let Some(out) = &self.args.out {
                    write(out, self.args, &read, &ready)?;
                    let note = read.note_of_figure().filter(|_| self.args.format == Format::Markdown);
                    note.into_iter().for_each(|note| self.progress.note(&note));
                }
                self.read(turn, read)?;
            }
            Err(error) => self.failed(turn, ready.place.name(), error)?,
        }
        if ready.place.number.is_some() {
            let pending = self.documents.entry(ready.place.file.clone()).or_default();
            pending.pages = pending.pages.saturating_sub(1);
            pending.is_new |= is_new;
            self.join(&ready.place.file)?;
        }
        Ok(())
    }

    fn read(&mut self, turn: usize, read: Read) -> anyhow::Result<()> {
        let (count, speed) = (read.tokens.len(), read.tokens.len() as f64 / read.seconds.max(1e-9));
        let end = if read.ended { "" } else { ", came to no end" };
        let name = read.place.name();
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
    ///
    /// # Errors
    /// When its Markdown cannot be written.
    pub fn end_of_document(&mut self, name: &str) -> anyhow::Result<()> {
        self.documents.entry(name.to_owned()).or_default().all_told = true;
        self.join(name)
    }

    /// Puts a document together once its last page is there; one without a new page is left as it is.
    fn join(&mut self, name: &str) -> anyhow::Result<()> {
        let complete = self.documents.get(name).is_some_and(|pending| pending.all_told && pending.pages == 0);
        let Some(pending) = complete.then(|| self.documents.remove(name)).flatten() else { return Ok(()) };
        let Some(out) = self.args.out.as_ref().filter(|_| self.args.format == Format::Markdown) else { return Ok(()) };
        if out.join(name).is_dir() && (pending.is_new || !document::is_joined(out, name)) {
            document::join(out, name, self.args.skip_unfinished)?;
        }
        Ok(())
    }
}
