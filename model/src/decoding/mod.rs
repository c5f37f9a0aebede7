//! Decoding: from a prompt to token ids (`generate` of transformers 4.46.3 as `infer` of `modeling_deepseekocr.py` calls it).
//!
//! ```text
//! prompt ─ prefill ─ logits [vocab] ─ no-repeat rule ─ greedy or sampled ─ token ─ decode with the cache ─ logits …
//! ```
//!
//! What is chosen from logits ([`NoRepeatNgram`], [`Sampler`]) is plain arithmetic on the host, in the order of transformers' processors.

mod engine;
mod in_flight;
mod joining;
mod ngram;
mod options;
mod sampling;

use mlx_rs::{Array, Dtype};

pub use engine::{Engine, Made};
pub use ngram::NoRepeatNgram;
pub use options::Options;
pub use sampling::{Sampler, Sampling};

use crate::{
    backend::KvCache,
    contract::{Model, Pass, Prompt, Steps},
    error::{Error, Result},
};

/// One step of decoding, as it happens.
#[derive(Debug)]
pub struct Step<'a> {
    /// The token chosen.
    pub token: i32,
    /// The model's own logits \[vocab\] it was chosen by, before any rule.
    pub logits: &'a [f32],
}

/// Decodes `prompt`, computed by `steps`, and returns the new tokens; `each` sees every step and ends the text by returning false.
///
/// # Errors
/// When prompt and model do not fit, or logits are NaN.
pub fn generate(
    model: &dyn Model,
    prompt: &Prompt,
    options: &Options,
    steps: &dyn Steps,
    mut each: impl FnMut(&Step) -> bool,
) -> Result<Vec<i32>> {
    let pass = Pass::by(steps);
    let mut source = Logits { model, prompt, options, pass: &pass, cache: model.new_cache() };
    let mut sampler = Sampler::new(options.sampling.clone());
    let mut text = prompt.input_ids.clone();
    let start = text.len();
    while text.len() - start < options.max_tokens {
        let logits = source.next(&text[start..])?;
        let mut scores = logits.clone();
        if let Some(rule) = &options.no_repeat {
            rule.apply(&text, start, &mut scores);
        }
        let token =
            sampler.choose(&scores).ok_or_else(|| Error::input("logits", "numbers", "NaN, or nothing allowed"))?;
        text.push(token);
        if !each(&Step { token, logits: &logits }) || options.stop.contains(&token) {
            break;
        }
    }
    Ok(text.split_off(start))
}

/// Where the next logits come from.
struct Logits<'a> {
    model: &'a dyn Model,
    prompt: &'a Prompt,
    options: &'a Options,
    pass: &'a Pass<'a>,
    cache: KvCache,
}

impl Logits<'_> {
    /// After the prompt and `made`.
    fn next(&mut self, made: &[i32]) -> Result<Vec<f32>> {
        let logits = match made.last() {
            _ if self.options.without_cache => self.afresh(made)?,
            None => self.model.prefill(self.prompt, &[], &mut self.cache, self.options.chunk, self.pass)?,
            Some(&last) => self.model.decode(&[last], &mut self.cache, self.pass)?,
        };
        last_row(&logits)
    }

    fn afresh(&self, made: &[i32]) -> Result<Array> {
        let mut prompt = self.prompt.clone();
        prompt.input_ids.extend(made);
        prompt.images_seq_mask.extend(made.iter().map(|_| false));
        self.model.forward(&prompt, None, self.pass)
    }
}

/// The last token's row of logits \[1, n, vocab\].
fn last_row(logits: &Array) -> Result<Vec<f32>> {
    let vocabulary = logits.dim(-1) as usize;
    let logits = logits.as_dtype(Dtype::Float32)?.contiguous()?;
    let all = logits.try_as_slice::<f32>().map_err(|e| Error::input("logits", "float32 values", e.to_string()))?;
    Ok(all[all.len() - vocabulary..].to_vec())
}
