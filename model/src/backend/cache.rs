//! Keys and values of the tokens seen so far, one pair per decoder layer, for one sequence or several side by side.
//!
//! Each layer's arrays have room to spare and new tokens are written in their place: a step costs what its own tokens cost. Sequences of
//! different lengths end at the same place and begin at different ones (`pads`), so that one write serves all of them.

use mlx_rs::{
    Array, Dtype, ops,
    ops::indexing::{TryIndexMutOp, TryIndexOp},
};

use crate::error::Result;

/// Room grows by this many tokens,
const ROOM_TOKENS: i32 = 256;
/// and is this many longer: where a cache's length is a multiple of 256, MLX's CUDA backend gives a step's attention to cuDNN, whose graph costs
/// the host more than the kernel saves (a step of 8 texts: 6.5 ms, without it 4.5).
const ODD_TOKENS: i32 = 64;

/// The decoder's memory of one or more sequences.
#[derive(Debug, Clone, Default)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    /// For each sequence, the places before its first token.
    pads: Vec<i32>,
}

impl KvCache {
    /// An empty cache of one sequence for `layers` decoder layers.
    pub fn new(layers: usize) -> Self {
        Self { layers: (0..layers).map(|_| LayerCache::default()).collect(), pads: vec![0] }
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
        let held = self.tokens();
        self.pads.iter().flat_map(|pad| held - pad..held - pad + tokens).collect()
    }

    /// What one more token of every sequence sees of the places then held: true or false, \[sequences, 1, 1, places\]. None: all.
    pub fn mask(&self) -> Option<Array> {
        if self.pads.iter().all(|&pad| pad == 0) {
            return None;
        }
        let places = self.tokens() + 1;
        let seen: Vec<bool> = self.pads.iter().flat_map(|&pad| (0..places).map(move |place| place >= pad)).collect();
        Some(Array::from_slice(&seen, &[self.pads.len() as i32, 1, 1, places]))
    }

    /// Puts the sequences of `other` behind those held.
    ///
    /// # Errors
    /// When the two belong to different models.
    pub fn join(&mut self, other: Self) -> Result<()> {
        let places = self.tokens().max(other.tokens());
        let (own, others) = (places - self.tokens(), places - other.tokens());
        for (mine, theirs) in self.layers.iter_mut().zip(&other.layers) {
            mine.join(theirs, places)?;
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
}

impl LayerCache {
    /// Tokens held.
    pub fn tokens(&self) -> i32 {
        self.tokens
    }

    /// Adds new tokens at the end and returns everything held.
    ///
    /// # Errors
    /// When heads or widths differ from what is held.
    pub fn append(&mut self, keys: &Array, values: &Array) -> Result<(Array, Array)> {
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

    fn join(&mut self, other: &Self, places: i32) -> Result<()> {
        let (Some((k, v)), Some((more_k, more_v))) = (&self.held, &other.held) else {
            if self.held.is_none() {
                *self = other.clone();
            }
            return Ok(());
        };
        let both = |a: &Array, b: &Array| -> Result<Array> {
            let (a, b) = (ending_at(a, self.tokens, places)?, ending_at(b, other.tokens, places)?);
            Ok(ops::concatenate(&[a, b], 0)?)
        };
        (self.held, self.tokens) = (Some((both(k, more_k)?, both(v, more_v)?)), places);
        Ok(())
    }

    fn keep(&mut self, sequences: &Array, free: i32) -> Result<()> {
        let Some((k, v)) = &self.held else { return Ok(()) };
        let kept = |x: &Array| x.try_index((.., .., free..self.tokens, ..))?.take_axis(sequences, 0);
        (self.held, self.tokens) = (Some((kept(k)?, kept(v)?)), self.tokens - free);
        Ok(())
    }
}

/// The first `tokens` places of `held` followed by room for `end` and more, of the kind of `new`.
fn with_room(held: Option<&Array>, new: &Array, tokens: i32, end: i32) -> Result<Array> {
    let room = (end + ROOM_TOKENS - 1) / ROOM_TOKENS * ROOM_TOKENS + ODD_TOKENS;
    let zeros = |places: i32| zeros(&[new.dim(0), new.dim(1), places, new.dim(3)], new.dtype());
    match held {
        Some(held) if tokens > 0 => {
            Ok(ops::concatenate(&[held.try_index((.., .., ..tokens, ..))?, zeros(room - tokens)?], 2)?)
        }
        _ => zeros(room),
    }
}

/// The `tokens` places of `held` behind as many zeros as make it `places`.
fn ending_at(held: &Array, tokens: i32, places: i32) -> Result<Array> {
    let held = held.try_index((.., .., ..tokens, ..))?;
    if tokens == places {
        return Ok(held);
    }
    let front = zeros(&[held.dim(0), held.dim(1), places - tokens, held.dim(3)], held.dtype())?;
    Ok(ops::concatenate(&[front, held], 2)?)
}

fn zeros(shape: &[i32], dtype: Dtype) -> Result<Array> {
    Ok(ops::zeros_dtype(shape, dtype)?)
}
