//! Pages made ready for the model, on a thread of their own, a few ahead of the device: read or drawn, cut, scaled, and put into
//! the prompt.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use anyhow::{anyhow, bail};
use mlxport_ocr::{Decoded, ImageFile, Inputs, Page, Prompter, page::MAX_PIXELS, prepare};
use serde_json::Value;

use crate::{
    drawing::DrawnDocument,
    fingerprint::{ModelFingerprint, hash_of_file},
    page_id::PageId,
    settings::Settings,
    sources::{Kind, Source, is_pdf},
    write::{Existing, existing},
};

/// Pages that are ready at most while the device is busy; one takes up to 60 MB, and what its image holds.
const AHEAD: usize = 2;

/// What the thread reports, in the order of the pages.
#[derive(Debug)]
pub(crate) enum PageEvent {
    /// So many more pages are to be read.
    More(usize),
    /// A page is ready.
    Ready(Box<PreparedPage>),
    /// A page's results are there.
    DoneBefore(Box<DonePage>),
    /// A page's results are there, of something else: it is read again. What differs, by name.
    Again(PageId, Vec<String>),
    /// A page, or a whole document, cannot be read.
    Failed(PageId, anyhow::Error),
    /// All pages of a document have been reported.
    EndOfDocument(DocumentEnd),
    /// All has been reported.
    End,
}

/// A document of which all pages have been reported.
#[derive(Debug)]
pub(crate) struct DocumentEnd {
    /// Its name.
    pub name: String,
    /// How many pages it has, whether they are asked for or not.
    pub count: usize,
    /// What each of its pages is made of, but for its number.
    pub made_of: Value,
}

/// A page that was read before.
#[derive(Debug)]
pub(crate) struct DonePage {
    /// The page.
    pub id: PageId,
    /// What is otherwise than now is asked, by name; kept because of `--keep`.
    pub differs: Vec<String>,
    /// Whether the model came to an end by itself; `None` where that is not said.
    pub ended: Option<bool>,
    /// What it lost on its way to the model.
    pub degraded: Vec<String>,
}

/// A page for the model.
#[derive(Debug)]
pub(crate) struct PreparedPage {
    /// The page.
    pub id: PageId,
    /// What it was made of.
    pub kind: Kind,
    /// What its boxes are drawn on: the first one, where several images make one prompt.
    pub page: Page,
    /// What is asked of it.
    pub prompt: String,
    /// What the model is given.
    pub inputs: Inputs,
    /// What it lost on its way to the model, a sentence each.
    pub degraded: Vec<String>,
    /// What it is made of.
    pub made_of: Value,
}

/// Begins to make pages ready. They are no longer made once the receiver is dropped.
pub(crate) fn begin(
    settings: Arc<Settings>,
    prompter: Arc<Prompter>,
    model: ModelFingerprint,
    sources: Vec<Source>,
) -> Receiver<PageEvent> {
    let (events, receiver) = sync_channel(AHEAD);
    std::thread::spawn(move || {
        let preparer = Preparer { settings: &settings, prompter: &prompter, model: &model, events };
        // An error means that nobody listens any more.
        let outcome = if settings.together { preparer.together(&sources) } else { preparer.each(&sources) };
        let _ = outcome.and_then(|()| preparer.send(PageEvent::End));
    });
    receiver
}

/// The receiver of events was dropped.
struct ReceiverDropped;

type Sent = Result<(), ReceiverDropped>;

struct Preparer<'a> {
    settings: &'a Settings,
    prompter: &'a Prompter,
    model: &'a ModelFingerprint,
    events: SyncSender<PageEvent>,
}

/// A page that may be made ready.
struct Candidate<'a> {
    id: PageId,
    kind: Kind,
    /// Hashes of its files.
    hashes: &'a [String],
    /// How many make its prompt.
    images: usize,
}

impl Preparer<'_> {
    fn send(&self, event: PageEvent) -> Sent {
        self.events.send(event).map_err(|_| ReceiverDropped)
    }

    fn each(&self, sources: &[Source]) -> Sent {
        let images = sources.iter().filter(|source| source.kind == Kind::Image).count();
        self.send(PageEvent::More(images))?;
        for source in sources {
            match source.kind {
                Kind::Image => self.image(source)?,
                Kind::Document if is_pdf(&source.path) => self.pdf(source)?,
                Kind::Document => self.tiff(source)?,
            }
        }
        Ok(())
    }

    fn image(&self, source: &Source) -> Sent {
        let id = PageId::of_image(&source.name);
        let hash = match hash_of_file(&source.path) {
            Ok(hash) => [hash],
            Err(error) => return self.send(PageEvent::Failed(id, error)),
        };
        self.page(Candidate { id, kind: Kind::Image, hashes: &hash, images: 1 }, || {
            let mut file = ImageFile::open(&source.path)?;
            Ok(vec![file.page(0, self.settings.decoding, MAX_PIXELS)?])
        })
    }

    /// All images in one prompt.
    fn together(&self, sources: &[Source]) -> Sent {
        self.send(PageEvent::More(1))?;
        let id = PageId::of_image("together");
        let hashes: anyhow::Result<Vec<String>> = sources.iter().map(|source| hash_of_file(&source.path)).collect();
        let hashes = match hashes {
            Ok(hashes) => hashes,
            Err(error) => return self.send(PageEvent::Failed(id, error)),
        };
        let paths: Vec<PathBuf> = sources.iter().map(|source| source.path.clone()).collect();
        let open = |path: &PathBuf| Ok(ImageFile::open(path)?.page(0, self.settings.decoding, MAX_PIXELS)?);
        self.page(Candidate { id, kind: Kind::Image, hashes: &hashes, images: paths.len() }, || {
            paths.iter().map(open).collect()
        })
    }

    /// A TIFF file of several pages.
    fn tiff(&self, source: &Source) -> Sent {
        let open = || Ok(ImageFile::open(&source.path)?);
        self.document(source, open, ImageFile::page_count, |file, index| {
            Ok(file.page(index, self.settings.decoding, MAX_PIXELS)?)
        })
    }

    fn pdf(&self, source: &Source) -> Sent {
        let open = || DrawnDocument::open(&source.path, &self.settings.drawing);
        self.document(source, open, |document| document.page_count, |document, index| document.draw(index))
    }

    /// The pages of a document that are asked for.
    fn document<D>(
        &self,
        source: &Source,
        open: impl FnOnce() -> anyhow::Result<D>,
        count: impl FnOnce(&D) -> usize,
        mut draw: impl FnMut(&mut D, usize) -> anyhow::Result<Decoded>,
    ) -> Sent {
        let opened = open().and_then(|document| {
            let count = count(&document);
            let pages =
                self.settings.pages.as_ref().map_or_else(|| Ok((1..=count).collect()), |pages| pages.of(count))?;
            Ok((document, count, pages, [hash_of_file(&source.path)?]))
        });
        let (mut document, count, pages, hash) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.send(PageEvent::Failed(PageId::of_image(&source.name), error)),
        };
        self.send(PageEvent::More(pages.len()))?;
        for number in pages {
            let id = PageId::of_document(&source.name, number);
            let candidate = Candidate { id, kind: Kind::Document, hashes: &hash, images: 1 };
            self.page(candidate, || Ok(vec![draw(&mut document, number - 1)?]))?;
        }
        let prompt = self.settings.prompt(1).unwrap_or_default();
        let made_of = self.model.made_of(self.settings, Kind::Document, &hash, Some(1), &prompt);
        self.send(PageEvent::EndOfDocument(DocumentEnd { name: source.name.clone(), count, made_of }))
    }

    /// Makes a page ready, unless it was read before.
    fn page(&self, candidate: Candidate<'_>, read: impl FnOnce() -> anyhow::Result<Vec<Decoded>>) -> Sent {
        let Candidate { id, kind, hashes, images } = candidate;
        let prompt = match self.settings.prompt(images) {
            Ok(prompt) => prompt,
            Err(error) => return self.send(PageEvent::Failed(id, error.into())),
        };
        let made_of = self.model.made_of(self.settings, kind, hashes, id.number, &prompt);
        let Some(id) = self.unless_done(id, &made_of)? else { return Ok(()) };
        // A decoder that panics loses its page, not the run.
        let made = catch_unwind(AssertUnwindSafe(|| self.inputs(&prompt, read)));
        match made.unwrap_or_else(|_| Err(anyhow!("its decoder panicked"))) {
            Ok((page, inputs, degraded)) => {
                let page = PreparedPage { id, kind, page, prompt, inputs, degraded, made_of };
                self.send(PageEvent::Ready(Box::new(page)))
            }
            Err(error) => self.send(PageEvent::Failed(id, error)),
        }
    }

    /// The page again, where it is to be read; else what is already there is reported.
    fn unless_done(&self, id: PageId, made_of: &Value) -> Result<Option<PageId>, ReceiverDropped> {
        let Settings { out, format, keep, strict, .. } = self.settings;
        let there = out.as_ref().map_or(Existing::Nothing, |out| existing(&id, out, *format, made_of));
        let (differs, ended, degraded) = match there {
            Existing::Nothing => return Ok(Some(id)),
            Existing::Foreign(what) => return self.send(PageEvent::Failed(id, anyhow!(what))).map(|()| None),
            Existing::Ours { differs, ended, degraded } => (differs, ended, degraded),
        };
        if !differs.is_empty() && !keep {
            self.send(PageEvent::Again(id.clone(), differs))?;
            return Ok(Some(id));
        }
        let event = if *strict && !degraded.is_empty() {
            let lost = degraded.join("; ");
            PageEvent::Failed(id, anyhow!("--strict: read before, and it lost something: {lost}"))
        } else {
            PageEvent::DoneBefore(Box::new(DonePage { id, differs, ended, degraded }))
        };
        self.send(event).map(|()| None)
    }

    /// The first of the pages that `read` gives, what the model is given of all, and what they lost.
    fn inputs(
        &self,
        prompt: &str,
        read: impl FnOnce() -> anyhow::Result<Vec<Decoded>>,
    ) -> anyhow::Result<(Page, Inputs, Vec<String>)> {
        let (pages, notes): (Vec<Page>, Vec<Vec<String>>) =
            read()?.into_iter().map(|Decoded { page, notes }| (page, notes)).unzip();
        let degraded = notes.concat();
        if self.settings.strict && !degraded.is_empty() {
            bail!("--strict: {}", degraded.join("; "));
        }
        let inputs = prepare(self.prompter, prompt, &pages, self.settings.mode())?;
        let page = pages.into_iter().next().ok_or_else(|| anyhow!("expected a page, found none"))?;
        Ok((page, inputs, degraded))
    }
}
