//! What becomes of pages that were read: written, handed on in the order of the pages, counted, and put together into documents.

use std::collections::BTreeMap;

use mlxport_ocr::{Page, Prompter, formats, page::JPEG_SIDE};

use crate::{
    batch::EndedPage,
    document::{self, JoinRules},
    error_text::error_text,
    outcome::Outcome,
    page_id::PageId,
    prepare::{DocumentEnd, DonePage, PreparedPage},
    read_page::ReadPage,
    settings::{Format, Settings},
    watcher::Watcher,
    write::{BOXES, write},
};

/// Results so far.
pub(crate) struct Results<'a> {
    settings: &'a Settings,
    prompter: &'a Prompter,
    /// What the run comes to.
    pub outcome: Outcome,
    /// Who watches.
    pub watcher: &'a mut dyn Watcher,
    /// Texts that wait for one before them; `None` for a page that has none.
    waiting: BTreeMap<usize, Option<String>>,
    next_text: usize,
    documents: BTreeMap<String, OpenDocument>,
}

/// A document whose pages are being read.
#[derive(Debug, Default)]
struct OpenDocument {
    pages: usize,
    /// Once all its pages have been reported.
    end: Option<DocumentEnd>,
    is_new: bool,
    /// Pages that could not be read, with why.
    missing: BTreeMap<usize, String>,
}

impl<'a> Results<'a> {
    /// None yet.
    pub fn new(settings: &'a Settings, prompter: &'a Prompter, watcher: &'a mut dyn Watcher) -> Self {
        Self {
            settings,
            prompter,
            outcome: Outcome::default(),
            watcher,
            waiting: BTreeMap::new(),
            next_text: 0,
            documents: BTreeMap::new(),
        }
    }

    /// A page is about to be read.
    pub fn begun(&mut self, id: &PageId) {
        if id.number.is_some() {
            self.documents.entry(id.file.clone()).or_default().pages += 1;
        }
    }

    /// A page's results were there.
    ///
    /// # Errors
    /// When the watcher cannot take a text.
    pub fn done_before(&mut self, turn: usize, before: DonePage) -> anyhow::Result<()> {
        let DonePage { id, differs, ended, degraded } = before;
        let mut note = format!("{}: done before", id.name());
        if !differs.is_empty() {
            note.push_str(&format!(", and kept: another {}", differs.join(", another ")));
        }
        if ended == Some(false) {
            note.push_str("; it came to no end: a larger --max-tokens may help");
            self.outcome.cut_off.push(id.name());
        }
        self.watcher.note(&note);
        self.degraded(&id, degraded);
        self.watcher.page_done(false);
        self.outcome.done_before.push(id.name());
        self.hand_on(turn, None)
    }

    /// A page's results were there, but of something else.
    pub fn again(&mut self, id: &PageId, differs: &[String]) {
        let name = id.name();
        self.watcher.note(&format!("{name}: read again: another {} than before", differs.join(", another ")));
    }

    /// A page lost something on its way to the model.
    fn degraded(&mut self, id: &PageId, reasons: Vec<String>) {
        for reason in &reasons {
            self.watcher.note(&format!("{}: degraded: {reason}", id.name()));
        }
        if !reasons.is_empty() {
            self.outcome.degraded.push((id.name(), reasons));
        }
    }

    /// A page, or a document, could not be read.
    ///
    /// # Errors
    /// When the watcher cannot take a text.
    pub fn failed(&mut self, turn: usize, id: &PageId, error: anyhow::Error) -> anyhow::Result<()> {
        let why = error_text(&error);
        self.watcher.note(&format!("error: {}: {why}", id.name()));
        self.watcher.page_done(false);
        self.outcome.failed.push((id.name(), error));
        let Some(number) = id.number else { return self.hand_on(turn, None) };
        let is_handed_on =
            self.settings.out.is_none() && !self.settings.collect_pages && self.settings.format == Format::Markdown;
        let text = is_handed_on.then(|| document::missing_page(number, &why));
        let document = self.documents.entry(id.file.clone()).or_default();
        document.missing.insert(number, why);
        self.hand_on(turn, text)
    }

    /// A page is no longer read.
    ///
    /// # Errors
    /// When the watcher cannot take a text.
    pub fn ended(&mut self, ended: EndedPage) -> anyhow::Result<()> {
        let EndedPage { turn, reading, outcome } = ended;
        let (seconds, prepared) = (reading.seconds(), reading.page);
        let (id, degraded) = (&prepared.id, prepared.degraded.clone());
        let read = outcome
            .and_then(|()| ReadPage::new(self.prompter, id.clone(), &prepared.page, reading.tokens, degraded, seconds))
            .and_then(|read| self.written(read, &prepared));
        let is_new = read.is_ok();
        match read {
            Ok(read) => self.read(turn, read)?,
            Err(error) => self.failed(turn, id, error)?,
        }
        if id.number.is_some() {
            let document = self.documents.entry(id.file.clone()).or_default();
            document.pages = document.pages.saturating_sub(1);
            document.is_new |= is_new;
            self.join(&id.file);
        }
        Ok(())
    }

    /// Writes a page. What cannot be written is that page's failure, and no other's.
    fn written(&mut self, read: ReadPage, prepared: &PreparedPage) -> anyhow::Result<ReadPage> {
        if let Some(out) = &self.settings.out {
            write(out, self.settings, &read, prepared)?;
            let is_markdown = self.settings.format == Format::Markdown;
            let notes = read.note_of_figure().into_iter().chain(note_of_size(&prepared.id, &prepared.page));
            notes.filter(|_| is_markdown).for_each(|note| self.watcher.note(&note));
        }
        Ok(read)
    }

    fn read(&mut self, turn: usize, read: ReadPage) -> anyhow::Result<()> {
        let (count, speed) = (read.tokens.len(), read.tokens.len() as f64 / read.seconds.max(1e-9));
        let end = if read.ended { "" } else { ", came to no end" };
        let name = read.id.name();
        if !read.ended {
            self.outcome.cut_off.push(name.clone());
        }
        self.degraded(&read.id, read.degraded.clone());
        self.watcher.note(&format!("{name}: {count} tokens, {:.1} s, {speed:.1} tokens/s{end}", read.seconds));
        self.watcher.page_done(true);
        let text = (self.settings.out.is_none() && !self.settings.collect_pages).then(|| self.text(&read));
        self.hand_on(turn, text)?;
        if self.settings.collect_pages {
            self.outcome.pages.insert(turn, read);
        }
        Ok(())
    }

    /// A page as it is printed where nothing is written.
    fn text(&self, read: &ReadPage) -> String {
        match (self.settings.format, read.id.number) {
            (Format::Eval, _) => format!("{}\n", formats::evaluation(&read.written)),
            (Format::Markdown, None) => format!("{}\n", read.found.text),
            (Format::Markdown, Some(number)) => {
                format!("{}{}", formats::of_document(&read.written, number - 1), formats::PAGE_SPLIT)
            }
        }
    }

    /// Gives texts to the watcher in the order of their pages.
    fn hand_on(&mut self, turn: usize, text: Option<String>) -> anyhow::Result<()> {
        self.waiting.insert(turn, text);
        while let Some(text) = self.waiting.remove(&self.next_text) {
            self.next_text += 1;
            if let Some(text) = text {
                self.watcher.text(&text)?;
            }
        }
        Ok(())
    }

    /// All pages of a document have been reported.
    pub fn end_of_document(&mut self, end: DocumentEnd) {
        let name = end.name.clone();
        self.documents.entry(name.clone()).or_default().end = Some(end);
        self.join(&name);
    }

    /// Puts a document together once its last page is there; one without a new page is left as it is.
    fn join(&mut self, name: &str) {
        let complete = self.documents.get(name).is_some_and(|open| open.end.is_some() && open.pages == 0);
        let Some(open) = complete.then(|| self.documents.remove(name)).flatten() else { return };
        let Some(end) = &open.end else { return };
        let Some(out) = self.settings.out.as_ref().filter(|_| self.settings.format == Format::Markdown) else { return };
        let is_changed = open.is_new || !open.missing.is_empty() || !document::is_joined(out, name);
        if !(out.join(name).is_dir() && is_changed) {
            return;
        }
        let rules = JoinRules { skip_unfinished: self.settings.skip_unfinished, keep: self.settings.keep };
        match document::join(out, end, &open.missing, rules) {
            Ok(notes) => notes.iter().for_each(|note| self.watcher.note(&format!("{name}: {note}"))),
            Err(error) => {
                self.watcher.note(&format!("error: {name}: {}", error_text(&error)));
                self.outcome.failed.push((name.to_owned(), error));
            }
        }
    }
}

/// What is to be said of a page too long for JPEG.
fn note_of_size(id: &PageId, page: &Page) -> Option<String> {
    let (width, height) = (page.width(), page.height());
    let is_long = width.max(height) > JPEG_SIDE;
    is_long.then(|| {
        format!("{}: {width}×{height} pixels are too many for a JPEG: {BOXES} is smaller than the page", id.name())
    })
}
