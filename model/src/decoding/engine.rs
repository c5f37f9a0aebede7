//! Several texts decoded together: every step makes one token of each, whenever each began (continuous batching over one cache).
//!
//! ```text
//! join: prompt ─ prefill, whole or piece by piece between steps ─ its keys and values behind the others', its logits row behind theirs
//! step: logits [B, vocab] ─ forbidden ones out ─ best ─ ids [B] ─ model ─ next logits      (begun before the ids are read)
//! ```
//!
//! The device is given the next step before the host has seen the last one's tokens, so neither waits for the other; only a token that a
//! rule forbids or a seed draws must be known first, and it is, one step later.

use std::collections::VecDeque;

use mlx_rs::{Array, Dtype, ops, ops::indexing::TryIndexOp};

use super::{Options, Sampler, Sampling, in_flight::InFlight, joining::Joining};
use crate::{
    backend::KvCache,
    contract::{Image, Model, Pass, Prompt, Steps},
    error::{Error, Result},
    steps::Tuned,
};

/// Texts being made.
pub struct Engine<'a> {
    model: &'a dyn Model,
    steps: &'a dyn Steps,
    texts: Vec<Text>,
    /// Prompts being read, in the order of their beginning.
    joining: VecDeque<Joining>,
    cache: KvCache,
    /// What every text's next token is chosen by, \[B, vocab\] float32.
    logits: Option<Array>,
    /// The step that runs ahead.
    ahead: InFlight,
}

/// One text.
struct Text {
    id: usize,
    /// Prompt and tokens made so far.
    tokens: Vec<i32>,
    start: usize,
    options: Options,
    sampler: Sampler,
}

/// A token that a step made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// The text, as [`Engine::join`] called it.
    pub id: usize,
    /// Its token.
    pub token: i32,
    /// It was the last: a stop token, or as many as were asked for.
    pub is_last: bool,
}

impl<'a> Engine<'a> {
    /// Nothing to make yet; texts are made as users run the model.
    pub fn new(model: &'a dyn Model) -> Self {
        Self::with(model, &Tuned)
    }

    /// The same, computed by `steps`.
    pub fn with(model: &'a dyn Model, steps: &'a dyn Steps) -> Self {
        let (texts, joining, ahead) = (Vec::new(), VecDeque::new(), InFlight::default());
        Self { model, steps, texts, joining, cache: model.new_cache(), logits: None, ahead }
    }

    /// Texts being made; prompts being read are none yet.
    pub fn texts(&self) -> usize {
        self.texts.len()
    }

    /// Reads a prompt; its text takes part in every step from now on. `options.without_cache` is not heeded. No text is made where no
    /// token is asked for.
    ///
    /// # Errors
    /// When prompt and model do not fit; the other texts are unharmed.
    pub fn join(&mut self, id: usize, prompt: &Prompt, options: Options) -> Result<()> {
        self.join_with(id, prompt, &[], options)
    }

    /// As [`Engine::join`], where more pictures follow `prompt.image`.
    ///
    /// # Errors
    /// When prompt, pictures and model do not fit; the other texts are unharmed.
    pub fn join_with(&mut self, id: usize, prompt: &Prompt, more: &[Image], options: Options) -> Result<()> {
        if options.max_tokens == 0 {
            return Ok(());
        }
        let mut joining = Joining::new(self.model, id, prompt.clone(), more.to_vec(), options);
        loop {
            if let Some(logits) = joining.advance(self.model, &Pass::by(self.steps))? {
                return self.take_in(joining, &logits);
            }
        }
    }

    /// As [`Engine::join_with`], but reads nothing yet: [`Engine::advance`] does, piece by piece.
    pub fn begin(&mut self, id: usize, prompt: Prompt, more: Vec<Image>, options: Options) {
        if options.max_tokens > 0 {
            self.joining.push_back(Joining::new(self.model, id, prompt, more, options));
        }
    }

    /// Reads the next piece of the prompt that was begun first: one of its pictures, or `options.chunk` tokens. Returns its id once all of it is
    /// read: its text then takes part in every step. What the piece computes is there when this returns.
    ///
    /// # Errors
    /// When prompt, pictures and model do not fit: the prompt is dropped, and the other texts are unharmed.
    pub fn advance(&mut self) -> Result<Option<usize>> {
        let Some(mut joining) = self.joining.pop_front() else { return Ok(None) };
        match joining.advance(self.model, &Pass::by(self.steps))? {
            Some(logits) => {
                let id = joining.id;
                self.take_in(joining, &logits)?;
                Ok(Some(id))
            }
            None => {
                self.joining.push_front(joining);
                Ok(None)
            }
        }
    }

    /// A prompt that was read becomes a text; `logits` are its last token's.
    fn take_in(&mut self, joining: Joining, logits: &Array) -> Result<()> {
        let Joining { id, options, prompt, cache, .. } = joining;
        let logits = rows(logits)?;
        match &self.logits {
            Some(others) => {
                self.logits = Some(ops::concatenate(&[others, &logits], 0)?);
                self.cache.join(cache)?;
            }
            None => (self.logits, self.cache) = (Some(logits), cache),
        }
        let (sampler, tokens) = (Sampler::new(options.sampling.clone()), prompt.input_ids);
        self.texts.push(Text { id, start: tokens.len(), tokens, options, sampler });
        Ok(())
    }

    /// Ends a text before its time, or drops its prompt; false where it is not there.
    ///
    /// # Errors
    /// MLX's.
    pub fn leave(&mut self, id: usize) -> Result<bool> {
        let prompts = self.joining.len();
        self.joining.retain(|joining| joining.id != id);
        let kept: Vec<usize> = (0..self.texts.len()).filter(|&at| self.texts[at].id != id).collect();
        let was_there = kept.len() < self.texts.len();
        if was_there {
            self.keep(&kept)?;
        }
        Ok(was_there || self.joining.len() < prompts)
    }

    /// Makes one token of every text.
    ///
    /// # Errors
    /// When logits are NaN.
    pub fn step(&mut self) -> Result<Vec<Made>> {
        let Some(logits) = self.logits.take() else { return Ok(Vec::new()) };
        let (ids, best) = self.choose(&logits)?;
        let goes_on = self.texts.iter().any(|text| text.tokens.len() - text.start + 1 < text.options.max_tokens);
        if goes_on {
            // On their own, to be read while the next step runs: what is begun together is waited for together.
            self.ahead.begin([&ids, &best])?;
            let next = rows(&self.model.decode_each(&ids, &mut self.cache, &Pass::by(self.steps))?)?;
            self.ahead.begin([&next])?;
            self.logits = Some(next);
        }
        let made = self.take(&ids, &best)?;
        let kept: Vec<usize> = (0..made.len()).filter(|&at| !made[at].is_last).collect();
        if kept.len() < made.len() {
            self.keep(&kept)?;
        }
        Ok(made)
    }

    /// The next tokens \[B\] int32, and the score of each.
    fn choose(&mut self, logits: &Array) -> Result<(Array, Array)> {
        let allowed = self.allowed(logits)?;
        if self.texts.iter().all(|text| text.options.sampling == Sampling::default()) {
            return Ok((
                ops::indexing::argmax_axis(&allowed, -1, false)?.as_dtype(Dtype::Int32)?,
                allowed.max_axis(-1, false)?,
            ));
        }
        let allowed = allowed.contiguous()?;
        let vocabulary = allowed.dim(1) as usize;
        let rows = allowed.try_as_slice::<f32>()?.chunks(vocabulary);
        let drawn = self.texts.iter_mut().zip(rows).map(|(text, row)| {
            let token = text.sampler.choose(row).ok_or_else(no_numbers)?;
            Ok((token, row[token as usize]))
        });
        let (ids, best): (Vec<i32>, Vec<f32>) = drawn.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let count = [ids.len() as i32];
        Ok((Array::from_slice(&ids, &count), Array::from_slice(&best, &count)))
    }

    /// `logits` with −∞ for what a text's rule forbids.
    fn allowed(&self, logits: &Array) -> Result<Array> {
        let vocabulary = logits.dim(1);
        let forbidden = self.texts.iter().enumerate().flat_map(|(row, text)| {
            let tokens = text.options.no_repeat.as_ref().map(|rule| rule.forbidden(&text.tokens, text.start));
            let inside = tokens.unwrap_or_default().into_iter().filter(move |token| (0..vocabulary).contains(token));
            inside.map(move |token| row as i32 * vocabulary + token)
        });
        let indices: Vec<i32> = forbidden.collect();
        if indices.is_empty() {
            return Ok(logits.clone());
        }
        let count = [indices.len() as i32];
        let never = Array::from_slice(&vec![f32::NEG_INFINITY; indices.len()], &count);
        let flat = logits.reshape(&[-1])?.put_along_axis(Array::from_slice(&indices, &count), never, 0)?;
        Ok(flat.reshape(logits.shape())?)
    }

    /// Reads the tokens of a step.
    fn take(&mut self, ids: &Array, best: &Array) -> Result<Vec<Made>> {
        // As they are: another operation on them would run after the step that has been begun.
        let (ids, best) = (ids.try_as_slice::<i32>()?, best.try_as_slice::<f32>()?);
        let made = self.texts.iter_mut().zip(ids.iter().zip(best)).map(|(text, (&token, &best))| {
            if !best.is_finite() {
                return Err(no_numbers());
            }
            text.tokens.push(token);
            let is_last =
                text.options.stop.contains(&token) || text.tokens.len() - text.start >= text.options.max_tokens;
            Ok(Made { id: text.id, token, is_last })
        });
        made.collect()
    }

    fn keep(&mut self, kept: &[usize]) -> Result<()> {
        let mut at = 0;
        self.texts.retain(|_| {
            at += 1;
            kept.contains(&(at - 1))
        });
        if kept.is_empty() {
            (self.logits, self.cache) = (None, self.model.new_cache());
            return Ok(());
        }
        let numbers: Vec<i32> = kept.iter().map(|&at| at as i32).collect();
        if let Some(logits) = &self.logits {
            self.logits = Some(logits.take_axis(Array::from_slice(&numbers, &[numbers.len() as i32]), 0)?);
        }
        self.cache.keep(kept)
    }
}

fn no_numbers() -> Error {
    Error::input("logits", "numbers", "NaN, or nothing allowed")
}

/// Logits \[B, 1, vocab\] → \[B, vocab\].
fn rows(logits: &Array) -> Result<Array> {
    Ok(logits.try_index((.., -1, ..))?)
}
