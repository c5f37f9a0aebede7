//! Pages being read, several at a time over one cache: a page that is ready joins, one that has ended leaves.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use mlxport_model::{Model, decoding::Engine};

use crate::{model_inputs::model_inputs, prepare::PreparedPage, settings::Settings};

/// Pages being read.
pub(crate) struct Batch<'a> {
    settings: &'a Settings,
    model: &'a dyn Model,
    engine: Engine<'a>,
    reading: BTreeMap<usize, PageInProgress>,
    /// Pages that were being read when a step failed; each is read again alone, so that only the one it failed for fails.
    again: VecDeque<(usize, Box<PreparedPage>)>,
}

/// A page being read.
#[derive(Debug)]
pub(crate) struct PageInProgress {
    /// The page.
    pub page: Box<PreparedPage>,
    /// Its tokens so far.
    pub tokens: Vec<i32>,
    begun: Instant,
}

/// A page that is no longer read.
#[derive(Debug)]
pub(crate) struct EndedPage {
    /// Its place in the order of pages.
    pub turn: usize,
    /// The page, and what was read of it.
    pub reading: PageInProgress,
    /// What went wrong.
    pub outcome: anyhow::Result<()>,
}

impl PageInProgress {
    fn new(page: Box<PreparedPage>) -> Self {
        Self { page, tokens: Vec::new(), begun: Instant::now() }
    }

    /// Since it joined.
    pub fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }
}

impl<'a> Batch<'a> {
    /// No page yet.
    pub fn new(settings: &'a Settings, model: &'a dyn Model) -> Self {
        Self { settings, model, engine: Engine::new(model), reading: BTreeMap::new(), again: VecDeque::new() }
    }

    /// Pages being read.
    pub fn len(&self) -> usize {
        self.reading.len()
    }

    /// Nothing is being read, or to be read again.
    pub fn is_empty(&self) -> bool {
        self.reading.is_empty() && self.again.is_empty()
    }

    /// Whether another page may join.
    pub fn has_room(&self) -> bool {
        self.again.is_empty() && self.reading.len() < self.settings.batch()
    }

    /// A page joins.
    ///
    /// # Errors
    /// [`EndedPage`], when page and model do not fit; the others are read on.
    pub fn join(&mut self, turn: usize, page: Box<PreparedPage>) -> Result<(), Box<EndedPage>> {
        let options = self.settings.options(page.kind);
        let reading = PageInProgress::new(page);
        let joined = model_inputs(&reading.page.inputs)
            .and_then(|(prompt, more)| Ok(self.engine.join_with(turn, &prompt, &more, options)?));
        match joined {
            Ok(()) => {
                self.reading.insert(turn, reading);
                Ok(())
            }
            Err(error) => Err(Box::new(EndedPage { turn, reading, outcome: Err(error) })),
        }
    }

    /// Makes a token of every page; those that have ended come out.
    pub fn step(&mut self) -> Vec<EndedPage> {
        if self.reading.is_empty()
            && let Some((turn, page)) = self.again.pop_front()
            && let Err(ended) = self.join(turn, page)
        {
            return vec![*ended];
        }
        let made = match self.engine.step() {
            Ok(made) => made,
            Err(error) => return self.failed(error.into()),
        };
        let mut ended = Vec::new();
        for token in made {
            if let Some(reading) = self.reading.get_mut(&token.id) {
                reading.tokens.push(token.token);
            }
            if token.is_last {
                let reading = self.reading.remove(&token.id);
                ended.extend(reading.map(|reading| EndedPage { turn: token.id, reading, outcome: Ok(()) }));
            }
        }
        ended
    }

    /// One page's step fails for that page; several pages' for one of them, nobody knows which.
    fn failed(&mut self, error: anyhow::Error) -> Vec<EndedPage> {
        self.engine = Engine::new(self.model);
        let mut reading = std::mem::take(&mut self.reading);
        if reading.len() > 1 {
            self.again.extend(reading.into_iter().map(|(turn, reading)| (turn, reading.page)));
            return Vec::new();
        }
        let alone = reading.pop_first();
        alone.map(|(turn, reading)| EndedPage { turn, reading, outcome: Err(error) }).into_iter().collect()
    }
}
