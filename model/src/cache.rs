//! Keys and values of the tokens seen so far, one pair per decoder layer.

use mlx_rs::{Array, ops};

use crate::{
    error::Result,
    fault::{GraphFault, Planted},
};

/// The decoder's memory of a sequence.
#[derive(Debug, Default)]
pub struct KvCache {
    layers: Vec<LayerCache>,
}

impl KvCache {
    /// An empty cache for `layers` decoder layers.
    pub fn new(layers: usize) -> Self {
        Self { layers: (0..layers).map(|_| LayerCache::default()).collect() }
    }

    /// Tokens held: the position of the next one.
    pub fn tokens(&self) -> i32 {
        self.layers.first().map_or(0, LayerCache::tokens)
    }

    /// The memory of layer `index`.
    pub fn layer(&mut self, index: usize) -> Option<&mut LayerCache> {
        self.layers.get_mut(index)
    }
}

/// One layer's keys and values, \[1, kv_heads, tokens, head_dim\], keys rotated.
#[derive(Debug, Default)]
pub struct LayerCache {
    held: Option<(Array, Array)>,
}

impl LayerCache {
    /// Tokens held.
    pub fn tokens(&self) -> i32 {
        self.held.as_ref().map_or(0, |(k, _)| k.dim(2))
    }

    /// Adds new tokens at the end and returns everything held.
    ///
    /// # Errors
    /// When heads or widths differ from what is held.
    pub fn append(&mut self, keys: &Array, values: &Array, planted: Planted) -> Result<(Array, Array)> {
        let all = match self.held.take() {
            Some((k, v)) if planted.has(GraphFault::StaleCache) => {
                // The last token held is overwritten by nothing: its place keeps the token before it.
                let stale = |x: &Array| {
                    let last = x.dim(2) - 1;
                    let places: Vec<i32> =
                        (0..=last).map(|at| if at == last { (last - 1).max(0) } else { at }).collect();
                    x.take_axis(Array::from_slice(&places, &[last + 1]), 2)
                };
                (ops::concatenate(&[&stale(&k)?, keys], 2)?, ops::concatenate(&[&stale(&v)?, values], 2)?)
            }
            Some((k, v)) => (ops::concatenate(&[&k, keys], 2)?, ops::concatenate(&[&v, values], 2)?),
            None => (keys.clone(), values.clone()),
        };
        self.held = Some(all.clone());
        Ok(all)
    }
}
