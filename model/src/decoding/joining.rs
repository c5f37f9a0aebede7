//! A prompt on its way into the engine, read piece by piece: each of its pictures, then its tokens, some at a time. What one piece computes is
//! there before the next one begins, so that others can have the device in between.

use std::collections::VecDeque;

use mlx_rs::{Array, ops::indexing::TryIndexOp, transforms::eval};

use super::Options;
use crate::{
    backend::KvCache,
    contract::{Image, Model, Pass, Prompt},
    error::Result,
};

/// A prompt being read.
pub(super) struct Joining {
    pub id: usize,
    pub options: Options,
    pub prompt: Prompt,
    /// What was read.
    pub cache: KvCache,
    pictures: VecDeque<Image>,
    /// Pictures that were looked at, as rows of the decoder's input.
    rows: Vec<Array>,
    /// The decoder's input \[1, T, hidden\], once all pictures were looked at.
    embeddings: Option<Array>,
}

impl Joining {
    /// Nothing read yet. `more` pictures follow `prompt.image`.
    pub fn new(model: &dyn Model, id: usize, mut prompt: Prompt, more: Vec<Image>, options: Options) -> Self {
        let pictures = prompt.image.take().into_iter().chain(more).collect();
        let cache = model.new_cache();
        Self { id, options, prompt, cache, pictures, rows: Vec::new(), embeddings: None }
    }

    /// Reads the next piece: a picture, or `options.chunk` tokens (all, where nothing is said). After the last one come the logits \[1, 1, vocab\] of
    /// the prompt's last token.
    ///
    /// # Errors
    /// When prompt, pictures and model do not fit.
    pub fn advance(&mut self, model: &dyn Model, pass: &Pass) -> Result<Option<Array>> {
        if let Some(picture) = self.pictures.pop_front() {
            let rows = model.image_rows(&picture, pass)?;
            eval([&rows])?;
            self.rows.push(rows);
            return Ok(None);
        }
        let embeddings = match self.embeddings.take() {
            Some(embeddings) => embeddings,
            None => model.embeddings_with(&self.prompt, &std::mem::take(&mut self.rows), pass)?,
        };
        let (start, tokens) = (self.cache.tokens(), embeddings.dim(1));
        let end = self.options.chunk.map_or(tokens, |chunk| start.saturating_add(chunk.max(1)).min(tokens));
        let hidden = model.hidden(&embeddings.try_index((.., start..end))?, Some(&mut self.cache), pass)?;
        if end == tokens {
            self.cache.prompt_ends();
            let logits = model.last_logits(&hidden, pass)?;
            eval([&logits].into_iter().chain(self.cache.arrays()))?;
            return Ok(Some(logits));
        }
        eval(self.cache.arrays())?;
        self.embeddings = Some(embeddings);
        Ok(None)
    }
}
