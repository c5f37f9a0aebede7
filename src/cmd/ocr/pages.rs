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

use anyhow::anyhow;
use mlxport_ocr::{Inputs, Page, Prompter, open, prepare};

use super::{
    args::Args,
    drawing::Drawing,
    sources::{Kind, Source},
    write::Place,
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
    /// A page's results are there; whether they are of the same prompt and mode.
    DoneBefore(Place, bool),
    /// A page, or a whole document, cannot be read.
    Failed(String, anyhow::Error),
    /// All pages of a document have been told.
    EndOfDocument(String),
    /// All has been told.
    End,
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
}

/// Begins to make pages ready. They are no longer made once the receiver is gone.
pub fn begin(args: Arc<Args>, prompter: Arc<Prompter>, sources: Vec<Source>) -> Receiver<News> {
    let (to, from) = sync_channel(AHEAD);
    std::thread::spawn(move || {
        let maker = Maker { args: &args, prompter: &prompter, to };
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
    to: SyncSender<News>,
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
                Kind::Image => {
                    let place = Place::of_image(&source.name);
                    self.page(place, Kind::Image, 1, || Ok(vec![open(&source.path)?]))?;
                }
                Kind::Document => self.document(source)?,
            }
        }
        Ok(())
    }

    /// All images in one prompt.
    fn together(&self, sources: &[Source]) -> Result<(), Gone> {
        self.say(News::More(1))?;
        let paths: Vec<PathBuf> = sources.iter().map(|source| source.path.clone()).collect();
        let read = || paths.iter().map(|path| Ok(open(path)?)).collect();
        self.page(Place::of_image("together"), Kind::Image, paths.len(), read)
    }

    fn document(&self, source: &Source) -> Result<(), Gone> {
        let opened = Drawing::open(&source.path, self.args).and_then(|drawing| {
            let all = (1..=drawing.count).collect();
            let pages = self.args.pages.as_ref().map_or(Ok(all), |ranges| ranges.of(drawing.count))?;
            Ok((drawing, pages))
        });
        let (mut drawing, pages) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.say(News::Failed(source.name.clone(), error)),
        };
        self.say(News::More(pages.len()))?;
        for number in pages {
            let place = Place::of_document(&source.name, number);
            self.page(place, Kind::Document, 1, || Ok(vec![drawing.draw(number - 1)?]))?;
        }
        self.say(News::EndOfDocument(source.name.clone()))
    }

    /// Makes a page ready; `images` make one prompt.
    fn page(
        &self,
        place: Place,
        kind: Kind,
        images: usize,
        read: impl FnOnce() -> anyhow::Result<Vec<Page>>,
    ) -> Result<(), Gone> {
        let args = self.args;
        if let Some(out) = args.out.as_ref().filter(|out| place.is_done(out, args.format)) {
            let same = args.prompt(images).is_ok_and(|prompt| place.was_asked(out, args, &prompt));
            return self.say(News::DoneBefore(place, same));
        }
        let make = || {
            let (pages, prompt) = (read()?, args.prompt(images)?);
            let inputs = prepare(self.prompter, &prompt, &pages, args.mode())?;
            Ok((pages.into_iter().next(), prompt, inputs))
        };
        // A decoder that panics loses its page, not the run.
        let made = catch_unwind(AssertUnwindSafe(make)).unwrap_or_else(|_| Err(anyhow!("its decoder broke down")));
        match made {
            Ok((Some(page), prompt, inputs)) => {
                self.say(News::Ready(Box::new(Ready { place, kind, page, prompt, inputs })))
            }
            Ok((None, ..)) => Ok(()),
            Err(error) => self.say(News::Failed(place.name(), error)),
        }
    }
}
