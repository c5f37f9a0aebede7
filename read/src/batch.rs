//! Pages being read, several at a time over one cache: a page that is ready joins, one that has ended leaves.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use mlxport_model::{Image, Model, Prompt, TileGrid, decoding::Engine};
use mlxport_ocr::Inputs;

use super::{args::Args, pages::Ready};

/// Pages being read.
pub struct Batch<'a> {
    args: &'a Args,
    model: &'a dyn Model,
    engine: Engine<'a>,
    reading: BTreeMap<usize, Reading>,
    /// Pages that were being read when a step failed; each is read again alone, so that only the one it failed for fails.
    again: VecDeque<(usize, Box<Ready>)>,
}

/// A page being read.
#[derive(Debug)]
pub struct Reading {
    /// The page.
    pub ready: Box<Ready>,
    /// Its tokens so far.
    pub tokens: Vec<i32>,
    begun: Instant,
}

/// A page that is no longer read.
#[derive(Debug)]
pub struct Ended {
    /// Its place in the order of pages.
    pub turn: usize,
    /// The page, and what was read of it.
    pub reading: Reading,
    /// What went wrong.
    pub outcome: anyhow::Result<()>,
}

impl Reading {
    fn new(ready: Box<Ready>) -> Self {
        Self { ready, tokens: Vec::new(), begun: Instant::now() }
    }

    /// Since it joined.
    pub fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }
}

impl<'a> Batch<'a> {
    /// No page yet.
    pub fn new(args: &'a Args, model: &'a dyn Model) -> Self {
        Self { args, model, engine: Engine::new(model), reading: BTreeMap::new(), again: VecDeque::new() }
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
        self.again.is_empty() && self.reading.len() < self.args.batch()
    }

    /// A page joins.
    ///
    /// # Errors
    /// [`Ended`], when page and model do not fit; the others are read on.
    pub fn join(&mut self, turn: usize, ready: Box<Ready>) -> Result<(), Box<Ended>> {
        let options = self.args.options(ready.kind);
        let reading = Reading::new(ready);
        let joined = given(&reading.ready.inputs)
            .and_then(|(prompt, more)| Ok(self.engine.join_with(turn, &prompt, &more, options)?));
        match joined {
            Ok(()) => {
                self.reading.insert(turn, reading);
                Ok(())
            }
            Err(error) => Err(Box::new(Ended { turn, reading, outcome: Err(error) })),
        }
    }

    /// Makes a token of every page; those that have ended come out.
    pub fn step(&mut self) -> Vec<Ended> {
        if self.reading.is_empty()
            && let Some((turn, ready)) = self.again.pop_front()
            && let Err(ended) = self.join(turn, ready)
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
                ended.extend(reading.map(|reading| Ended { turn: token.id, reading, outcome: Ok(()) }));
            }
        }
        ended
    }

    /// One page's step fails for that page; several pages' for one of them, nobody knows which.
    fn failed(&mut self, error: anyhow::Error) -> Vec<Ended> {
        self.engine = Engine::new(self.model);
        let mut reading = std::mem::take(&mut self.reading);
        if reading.len() > 1 {
            self.again.extend(reading.into_iter().map(|(turn, reading)| (turn, reading.ready)));
            return Vec::new();
        }
        let alone = reading.pop_first();
        alone.map(|(turn, reading)| Ended { turn, reading, outcome: Err(error) }).into_iter().collect()
    }
}

/// What the model is given: a prompt with its first picture, and the pictures that follow.
pub fn given(inputs: &Inputs) -> anyhow::Result<(Prompt, Vec<Image>)> {
    let (view, tile) = (3 * inputs.side * inputs.side, 3 * inputs.tile * inputs.tile);
    let mut tiles = if inputs.tile_count == 0 { &[][..] } else { &inputs.images_crop };
    let mut images = Vec::new();
    // The release takes views whose values sum to 0 for none at all.
    let there = inputs.images_ori.iter().sum::<f32>() != 0.0;
    for (grid, whole) in inputs.images_spatial_crop.iter().zip(inputs.images_ori.chunks_exact(view)).filter(|_| there) {
        let count = if *grid == [1, 1] { 0 } else { usize::try_from(grid[0] * grid[1])? };
        let (own, others) = tiles.split_at_checked(count * tile).unwrap_or((tiles, &[]));
        tiles = others;
        let grid = TileGrid { across: i32::try_from(grid[0])?, down: i32::try_from(grid[1])? };
        images.push(Image::from_nchw(whole, inputs.side, own, inputs.tile, grid)?);
    }
    let mut images = images.into_iter();
    let input_ids = inputs.input_ids.iter().map(|&id| i32::try_from(id)).collect::<Result<_, _>>()?;
    let prompt = Prompt { input_ids, images_seq_mask: inputs.images_seq_mask.clone(), image: images.next() };
    Ok((prompt, images.collect()))
}
