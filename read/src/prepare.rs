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

use super::{
    args::Args,
    drawing::Drawing,
    record::{self, Run},
    sources::{Kind, Source, is_pdf},
    write::{Before, Place},
};

/// Pages that are ready at most while the device is busy; one takes up to 60 MB, and what its image holds.
const AHEAD: usize = 2;

/// What the thread has to say, in the order of the pages.
#[derive(Debug)]
pub enum News {
    /// So many more pages are to be read.
    More(usize),
    /// A page is ready.
    Ready(Box<Ready>),
    /// A page's results are there.
    DoneBefore(Box<DoneBefore>),
    /// A page's results are there, of something else: it is read again. What differs, by name.
    Again(String, Vec<String>),
    /// A page, or a whole document, cannot be read.
    Failed(Place, anyhow::Error),
    /// All pages of a document have been told.
    EndOfDocument(Told),
    /// All has been told.
    End,
}

/// A document of which all pages have been told.
#[derive(Debug)]
pub struct Told {
    /// Its name.
    pub name: String,
    /// How many pages it has, whether they are asked for or not.
    pub count: usize,
    /// What each of its pages is made of, but for its number.
    pub made_of: Value,
}

/// A page that was read before.
#[derive(Debug)]
pub struct DoneBefore {
    /// Where its results are.
    pub place: Place,
    /// What is otherwise than now is asked, by name; kept because of `--keep`.
    pub differs: Vec<String>,
    /// Whether the model came to an end by itself; `None` where that is not said.
    pub ended: Option<bool>,
    /// What it lost on its way to the model.
    pub degraded: Vec<String>,
}

/// A page for the model.
#[derive(Debug)]
pub struct Ready {
    /// Where its results go.
    pub place: Place,
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

/// Begins to make pages ready. They are no longer made once the receiver is gone.
pub fn begin(args: Arc<Args>, prompter: Arc<Prompter>, run: Run, sources: Vec<Source>) -> Receiver<News> {
    let (to, from) = sync_channel(AHEAD);
    std::thread::spawn(move || {
        let maker = Maker { args: &args, prompter: &prompter, run: &run, to };
        // An error means that nobody listens any more.
        let told = if args.together { maker.together(&sources) } else { maker.each(&sources) };
        let _ = told.and_then(|()| maker.say(News::End));
    });
    from
}

/// Nobody listens any more.
struct Gone;

struct Maker<'a> {
    args: &'a Args,
    prompter: &'a Prompter,
    run: &'a Run,
    to: SyncSender<News>,
}

/// A page that may be made ready.
struct Wanted<'a> {
    place: Place,
    kind: Kind,
    /// Hashes of its files.
    hashes: &'a [String],
    /// How many make its prompt.
    images: usize,
}

impl Maker<'_> {
    fn say(&self, news: News) -> Result<(), Gone> {
        self.to.send(news).map_err(|_| Gone)
    }

    fn each(&self, sources: &[Source]) -> Result<(), Gone> {
        let images = sources.iter().filter(|source| source.kind == Kind::Image).count();
        self.say(News::More(images))?;
        for source in sources {
            match source.kind {
                Kind::Image => self.image(source)?,
                Kind::Document if is_pdf(&source.path) => self.document(source)?,
                Kind::Document => self.tiff(source)?,
            }
        }
        Ok(())
    }

    fn image(&self, source: &Source) -> Result<(), Gone> {
        let place = Place::of_image(&source.name);
        let hash = match record::of_file(&source.path) {
            Ok(hash) => [hash],
            Err(error) => return self.say(News::Failed(place, error)),
        };
        self.page(Wanted { place, kind: Kind::Image, hashes: &hash, images: 1 }, || {
            let mut file = ImageFile::open(&source.path)?;
            Ok(vec![file.page(0, self.args.decoding(), MAX_PIXELS)?])
        })
    }

    /// All images in one prompt.
    fn together(&self, sources: &[Source]) -> Result<(), Gone> {
        self.say(News::More(1))?;
        let place = Place::of_image("together");
        let hashes: anyhow::Result<Vec<String>> = sources.iter().map(|source| record::of_file(&source.path)).collect();
        let hashes = match hashes {
            Ok(hashes) => hashes,
            Err(error) => return self.say(News::Failed(place, error)),
        };
        let paths: Vec<PathBuf> = sources.iter().map(|source| source.path.clone()).collect();
        let open = |path: &PathBuf| Ok(ImageFile::open(path)?.page(0, self.args.decoding(), MAX_PIXELS)?);
        self.page(Wanted { place, kind: Kind::Image, hashes: &hashes, images: paths.len() }, || {
            paths.iter().map(open).collect()
        })
    }

    /// A TIFF file of several pages.
    fn tiff(&self, source: &Source) -> Result<(), Gone> {
        let open = || Ok(ImageFile::open(&source.path)?);
        self.each_page(source, open, ImageFile::page_count, |file, index| {
            Ok(file.page(index, self.args.decoding(), MAX_PIXELS)?)
        })
    }

    fn document(&self, source: &Source) -> Result<(), Gone> {
        let open = || Drawing::open(&source.path, self.args);
        self.each_page(source, open, |drawing| drawing.count, |drawing, index| drawing.draw(index))
    }

    /// The pages of a document that are asked for.
    fn each_page<D>(
        &self,
        source: &Source,
        open: impl FnOnce() -> anyhow::Result<D>,
        count: impl FnOnce(&D) -> usize,
        mut draw: impl FnMut(&mut D, usize) -> anyhow::Result<Decoded>,
    ) -> Result<(), Gone> {
        let opened = open().and_then(|document| {
            let count = count(&document);
            let pages = self.args.pages.as_ref().map_or_else(|| Ok((1..=count).collect()), |pages| pages.of(count))?;
            Ok((document, count, pages, [record::of_file(&source.path)?]))
        });
        let (mut document, count, pages, hash) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.say(News::Failed(Place::of_image(&source.name), error)),
        };
        self.say(News::More(pages.len()))?;
        for number in pages {
            let place = Place::of_document(&source.name, number);
            let wanted = Wanted { place, kind: Kind::Document, hashes: &hash, images: 1 };
            self.page(wanted, || Ok(vec![draw(&mut document, number - 1)?]))?;
        }
        let prompt = self.args.prompt(1).unwrap_or_default();
        let made_of = self.run.of_page(self.args, Kind::Document, &hash, Some(1), &prompt);
        self.say(News::EndOfDocument(Told { name: source.name.clone(), count, made_of }))
    }

    /// Makes a page ready, unless it was read before.
    fn page(&self, wanted: Wanted<'_>, read: impl FnOnce() -> anyhow::Result<Vec<Decoded>>) -> Result<(), Gone> {
        let Wanted { place, kind, hashes, images } = wanted;
        let args = self.args;
        let prompt = match args.prompt(images) {
            Ok(prompt) => prompt,
            Err(error) => return self.say(News::Failed(place, error)),
        };
        let made_of = self.run.of_page(args, kind, hashes, place.number, &prompt);
        match args.out.as_ref().map_or(Before::Nothing, |out| place.before(out, args.format, &made_of)) {
            Before::Nothing => {}
            Before::Foreign(what) => return self.say(News::Failed(place, anyhow!(what))),
            Before::Ours { differs, degraded, .. }
                if args.strict && !degraded.is_empty() && (differs.is_empty() || args.keep) =>
            {
                let lost = degraded.join("; ");
                return self.say(News::Failed(place, anyhow!("--strict: read before, and it lost something: {lost}")));
            }
            Before::Ours { differs, ended, degraded } if differs.is_empty() || args.keep => {
                return self.say(News::DoneBefore(Box::new(DoneBefore { place, differs, ended, degraded })));
            }
            Before::Ours { differs, .. } => self.say(News::Again(place.name(), differs))?,
        }
        let make = || {
            let mut degraded = Vec::new();
            let mut pages: Vec<Page> = Vec::new();
            for Decoded { page, notes } in read()? {
                pages.push(page);
                degraded.extend(notes);
            }
            if args.strict && !degraded.is_empty() {
                bail!("--strict: {}", degraded.join("; "));
            }
            let inputs = prepare(self.prompter, &prompt, &pages, args.mode())?;
            Ok((pages.into_iter().next(), inputs, degraded))
        };
        // A decoder that panics loses its page, not the run.
        let made = catch_unwind(AssertUnwindSafe(make)).unwrap_or_else(|_| Err(anyhow!("its decoder broke down")));
        match made {
            Ok((Some(page), inputs, degraded)) => {
                self.say(News::Ready(Box::new(Ready { place, kind, page, prompt, inputs, degraded, made_of })))
            }
            Ok((None, ..)) => Ok(()),
            Err(error) => self.say(News::Failed(place, error)),
        }
    }
}
