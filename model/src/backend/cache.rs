//! Keys and values of the tokens seen so far, one pair per decoder layer, for one sequence or several side by side.
//!
//! Each layer's arrays have room to spare and new tokens are written in their place: a step costs what its own tokens cost. Sequences of
//! different lengths end at the same slot and begin at different ones (`pads`), so that one write serves all of them.
//!
//! With a window (Unlimited-OCR) a cache keeps the whole prompt and a ring behind it: each step writes its token over the one that is a window
//! older, for all sequences in the same slot, while positions keep counting. Memory then does not grow.

use mlx_rs::{
    Array, Dtype, ops,
    ops::indexing::{TryIndexMutOp, TryIndexOp},
};

use crate::error::{Error, Result};

/// Room grows by this many tokens,
const ROOM_TOKENS: i32 = 256;
/// and is this many longer: where a cache's length is a multiple of 256, MLX's CUDA backend gives a step's attention to cuDNN, whose graph costs
/// the host more than the kernel saves (a step of 8 texts: 6.5 ms, without it 4.5).
const ODD_TOKENS: i32 = 64;

/// The decoder's memory of one or more sequences.
#[derive(Debug, Clone, Default)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    /// For each sequence, the slots before its first token.
    pads: Vec<i32>,
    /// For each sequence, the number of the step that made its first token; counted with a window only.
    born: Vec<i32>,
}

impl KvCache {
    /// An empty cache of one sequence for `layers` decoder layers.
    pub fn new(layers: usize) -> Self {
        Self { layers: (0..layers).map(|_| LayerCache::default()).collect(), pads: vec![0], born: vec![0] }
    }

    /// The same, but of the tokens that follow the prompt only the last `window` are kept.
    pub fn with_window(layers: usize, window: i32) -> Self {
        let layer = || LayerCache { window: Some(window.max(1)), ..LayerCache::default() };
        Self { layers: (0..layers).map(|_| layer()).collect(), pads: vec![0], born: vec![0] }
    }

    /// Says that what follows is generated. Without a window nothing changes.
    pub fn prompt_ends(&mut self) {
        self.layers.iter_mut().for_each(LayerCache::prompt_ends);
    }

    /// Places held: the tokens of the longest sequence.
    pub fn tokens(&self) -> i32 {
        self.layers.first().map_or(0, LayerCache::tokens)
    }

    /// Sequences held.
    pub fn sequences(&self) -> usize {
        self.pads.len()
    }

    /// The memory of layer `index`.
    pub fn layer(&mut self, index: usize) -> Option<&mut LayerCache> {
        self.layers.get_mut(index)
    }

    /// All that is held, to be evaluated.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.layers.iter().filter_map(|layer| layer.held.as_ref()).flat_map(|(keys, values)| [keys, values])
    }

    /// Positions of the next `tokens` tokens, sequence after sequence.
    pub fn next_positions(&self, tokens: i32) -> Vec<i32> {
        if let Some(Ring { prompt, steps, .. }) = self.ring() {
            let next = self.pads.iter().zip(&self.born).map(|(pad, born)| prompt - pad + steps - born);
            return next.flat_map(|next| next..next + tokens).collect();
        }
        let held = self.tokens();
        self.pads.iter().flat_map(|pad| held - pad..held - pad + tokens).collect()
    }

    /// What one more token of every sequence sees of the slots then held: true or false, \[sequences, 1, 1, slots\]. None: all.
    pub fn mask(&self) -> Option<Array> {
        if let Some(ring) = self.ring() {
            return self.mask_of(ring);
        }
        if self.pads.iter().all(|&pad| pad == 0) {
            return None;
        }
        let slots = self.tokens() + 1;
        let seen: Vec<bool> = self.pads.iter().flat_map(|&pad| (0..slots).map(move |slot| slot >= pad)).collect();
        Some(Array::from_slice(&seen, &[self.pads.len() as i32, 1, 1, slots]))
    }

    /// The ring, once the prompt has ended; all layers have the same.
    fn ring(&self) -> Option<Ring> {
        self.layers.first().and_then(LayerCache::ring)
    }

    fn mask_of(&self, Ring { prompt, window, steps }: Ring) -> Option<Array> {
        let filled = (steps + 1).min(window);
        let oldest = (steps + 1 - window).max(0);
        if self.pads.iter().all(|&pad| pad == 0) && self.born.iter().all(|&born| born <= oldest) {
            return None;
        }
        // The last step that wrote each slot of the ring, the one to come included.
        let written = |slot: i32| steps - (steps - slot).rem_euclid(window);
        let sees = |pad: i32, born: i32| {
            let ring = (0..filled).map(move |slot| written(slot) >= born);
            (0..prompt).map(move |slot| slot >= pad).chain(ring)
        };
        let seen: Vec<bool> = self.pads.iter().zip(&self.born).flat_map(|(&pad, &born)| sees(pad, born)).collect();
        Some(Array::from_slice(&seen, &[self.pads.len() as i32, 1, 1, prompt + filled]))
    }

    /// Puts the sequences of `other` behind those held; with a window both prompts have ended.
    ///
    /// # Errors
    /// When the two belong to different models.
    pub fn join(&mut self, mut other: Self) -> Result<()> {
        if let (Some(own), Some(others)) = (self.ring(), other.ring()) {
            let steps = own.steps.max(others.steps);
            for (cache, ring) in [(&mut *self, own), (&mut other, others)] {
                cache.born.iter_mut().for_each(|born| *born += steps - ring.steps);
                cache.layers.iter_mut().try_for_each(|layer| layer.turn(steps))?;
            }
            let prompt = own.prompt.max(others.prompt);
            self.pads.iter_mut().for_each(|pad| *pad += prompt - own.prompt);
            self.pads.extend(other.pads.iter().map(|pad| pad + prompt - others.prompt));
            self.born.append(&mut other.born);
            let mut layers = self.layers.iter_mut().zip(&other.layers);
            return layers.try_for_each(|(mine, theirs)| mine.join_rings(theirs, prompt));
        }
        self.born.append(&mut other.born);
        let slots = self.tokens().max(other.tokens());
        let (own, others) = (slots - self.tokens(), slots - other.tokens());
        for (mine, theirs) in self.layers.iter_mut().zip(&other.layers) {
            mine.join(theirs, slots)?;
        }
        self.pads.iter_mut().for_each(|pad| *pad += own);
        self.pads.extend(other.pads.iter().map(|pad| pad + others));
        Ok(())
    }

    /// Keeps these sequences, in this order, and forgets the others.
    ///
    /// # Errors
    /// MLX's.
    pub fn keep(&mut self, sequences: &[usize]) -> Result<()> {
        self.pads = sequences.iter().filter_map(|&at| self.pads.get(at).copied()).collect();
        self.born = sequences.iter().filter_map(|&at| self.born.get(at).copied()).collect();
        let free = self.pads.iter().copied().min().unwrap_or(0);
        self.pads.iter_mut().for_each(|pad| *pad -= free);
        let numbers: Vec<i32> = sequences.iter().map(|&at| at as i32).collect();
        let numbers = Array::from_slice(&numbers, &[numbers.len() as i32]);
        self.layers.iter_mut().try_for_each(|layer| layer.keep(&numbers, free))
    }
}

/// One layer's keys and values, \[sequences, kv_heads, tokens, head_dim\], keys rotated.
#[derive(Debug, Clone, Default)]
pub struct LayerCache {
    /// Longer than `tokens`: the rest is room.
    held: Option<(Array, Array)>,
    tokens: i32,
    /// How many generated tokens are kept; none: all.
    window: Option<i32>,
    /// With a window, the prompt's slots and the steps made since, once it has ended.
    after: Option<(i32, i32)>,
}

/// A ring behind a prompt of `prompt` slots, in which `steps` tokens have been written.
#[derive(Debug, Clone, Copy)]
struct Ring {
    prompt: i32,
    window: i32,
    steps: i32,
}

impl LayerCache {
    /// Tokens held.
    pub fn tokens(&self) -> i32 {
        self.tokens
    }

    fn ring(&self) -> Option<Ring> {
        let ((prompt, steps), window) = (self.after?, self.window?);
        Some(Ring { prompt, window, steps })
    }

    fn prompt_ends(&mut self) {
        if self.window.is_some() && self.after.is_none() {
            self.after = Some((self.tokens, 0));
        }
    }

    /// Writes one token of every sequence over the one that is a window older.
    fn append_to_ring(&mut self, ring: Ring, keys: &Array, values: &Array) -> Result<(Array, Array)> {
        let Ring { prompt, window, steps } = ring;
        if keys.dim(2) != 1 {
            return Err(Error::input("cache", "one token at a time after the prompt", keys.dim(2).to_string()));
        }
        let (mut k, mut v) = self.with_ring(ring, keys, values)?;
        let (place, filled) = (prompt + steps % window, prompt + (steps + 1).min(window));
        k.try_index_mut((.., .., place..place + 1, ..), keys)?;
        v.try_index_mut((.., .., place..place + 1, ..), values)?;
        let all = (k.try_index((.., .., ..filled, ..))?, v.try_index((.., .., ..filled, ..))?);
        (self.held, self.tokens, self.after) = (Some((k, v)), filled, Some((prompt, steps + 1)));
        Ok(all)
    }

    /// What is held, with room for the whole ring and no more.
    fn with_ring(&mut self, Ring { prompt, window, .. }: Ring, keys: &Array, values: &Array) -> Result<(Array, Array)> {
        let slots = prompt + window;
        let room = |held: Option<Array>, new: &Array| -> Result<Array> {
            let zeros = |slots: i32| zeros(&[new.dim(0), new.dim(1), slots, new.dim(3)], new.dtype());
            match held {
                Some(held) if held.dim(2) == slots => Ok(held),
                Some(held) => Ok(ops::concatenate(&[held.try_index((.., .., ..prompt, ..))?, zeros(window)?], 2)?),
                None => zeros(slots),
            }
        };
        let (k, v) = self.held.take().unzip();
        Ok((room(k, keys)?, room(v, values)?))
    }

    /// Moves the ring on, so that its next step is number `steps`.
    fn turn(&mut self, steps: i32) -> Result<()> {
        let Some(ring) = self.ring() else { return Ok(()) };
        let by = steps - ring.steps;
        self.after = Some((ring.prompt, steps));
        let Some((k, v)) = self.held.clone() else { return Ok(()) };
        let (k, v) = self.with_ring(ring, &k, &v)?;
        let from = (0..ring.window).map(|place| ring.prompt + (place - by).rem_euclid(ring.window));
        let order: Vec<i32> = (0..ring.prompt).chain(from).collect();
        let order = Array::from_slice(&order, &[order.len() as i32]);
        self.held = Some((k.take_axis(&order, 2)?, v.take_axis(&order, 2)?));
        self.tokens = ring.prompt + steps.min(ring.window);
        Ok(())
    }

    /// Rings that are at the same step, behind prompts made as long as `prompt`.
    fn join_rings(&mut self, other: &Self, prompt: i32) -> Result<()> {
        let (Some((k, v)), Some((more_k, more_v)), Some(own), Some(others)) =
            (&self.held, &other.held, self.ring(), other.ring())
        else {
            return Ok(());
        };
        let wide = |x: &Array, ring: Ring| ending_at(x, ring.prompt + ring.window, prompt + ring.window);
        let both =
            |a: &Array, b: &Array| -> Result<Array> { Ok(ops::concatenate(&[wide(a, own)?, wide(b, others)?], 0)?) };
        self.held = Some((both(k, more_k)?, both(v, more_v)?));
        self.after = Some((prompt, own.steps));
        self.tokens = prompt + own.steps.min(own.window);
        Ok(())
    }

    /// Adds new tokens at the end and returns everything held: with a window, after the prompt, what is kept.
    ///
    /// # Errors
    /// When heads or widths differ from what is held, or several tokens at once follow a prompt with a window.
    pub fn append(&mut self, keys: &Array, values: &Array) -> Result<(Array, Array)> {
        if let Some(ring) = self.ring() {
            return self.append_to_ring(ring, keys, values);
        }
        let (start, end) = (self.tokens, self.tokens + keys.dim(2));
        let (mut k, mut v) = match self.held.take() {
            Some((k, v)) if k.dim(2) >= end => (k, v),
            held => (
                with_room(held.as_ref().map(|(k, _)| k), keys, start, end)?,
                with_room(held.as_ref().map(|(_, v)| v), values, start, end)?,
            ),
        };
        k.try_index_mut((.., .., start..end, ..), keys)?;
        v.try_index_mut((.., .., start..end, ..), values)?;
        let all = (k.try_index((.., .., ..end, ..))?, v.try_index((.., .., ..end, ..))?);
        (self.held, self.tokens) = (Some((k, v)), end);
        Ok(all)
    }

    fn join(&mut self, other: &Self, slots: i32) -> Result<()> {
        let (Some((k, v)), Some((more_k, more_v))) = (&self.held, &other.held) else {
            if self.held.is_none() {
                *self = other.clone();
            }
            return Ok(());
        };
        let both = |a: &Array, b: &Array| -> Result<Array> {
            let (a, b) = (ending_at(a, self.tokens, slots)?, ending_at(b, other.tokens, slots)?);
            Ok(ops::concatenate(&[a, b], 0)?)
        };
        (self.held, self.tokens) = (Some((both(k, more_k)?, both(v, more_v)?)), slots);
        Ok(())
    }

    fn keep(&mut self, sequences: &Array, free: i32) -> Result<()> {
        let Some((k, v)) = &self.held else { return Ok(()) };
        let end = self.ring().filter(|ring| ring.steps > 0).map_or(self.tokens, |ring| ring.prompt + ring.window);
        let kept = |x: &Array| x.try_index((.., .., free..end, ..))?.take_axis(sequences, 0);
        self.after = self.after.map(|(prompt, steps)| (prompt - free, steps));
        (self.held, self.tokens) = (Some((kept(k)?, kept(v)?)), self.tokens - free);
        Ok(())
    }
}

/// The first `tokens` slots of `held` followed by room for `end` and more, of the kind of `new`.
fn with_room(held: Option<&Array>, new: &Array, tokens: i32, end: i32) -> Result<Array> {
    let room = (end + ROOM_TOKENS - 1) / ROOM_TOKENS * ROOM_TOKENS + ODD_TOKENS;
    let zeros = |slots: i32| zeros(&[new.dim(0), new.dim(1), slots, new.dim(3)], new.dtype());
    match held {
        Some(held) if tokens > 0 => {
            Ok(ops::concatenate(&[held.try_index((.., .., ..tokens, ..))?, zeros(room - tokens)?], 2)?)
        }
        _ => zeros(room),
    }
}

/// The `tokens` slots of `held` behind as many zeros as make it `slots`.
fn ending_at(held: &Array, tokens: i32, slots: i32) -> Result<Array> {
    let held = held.try_index((.., .., ..tokens, ..))?;
    if tokens == slots {
        return Ok(held);
    }
    let front = zeros(&[held.dim(0), held.dim(1), slots - tokens, held.dim(3)], held.dtype())?;
    Ok(ops::concatenate(&[front, held], 2)?)
}

fn zeros(shape: &[i32], dtype: Dtype) -> Result<Array> {
    Ok(ops::zeros_dtype(shape, dtype)?)
}
