//! A generator over any model that runs on MLX: the model's engine, which makes several texts side by side.

use mlxport_model::{
    Error, Model,
    contract::UsualRule,
    decoding::{Engine, NoRepeatNgram, Options, Sampling},
};
use mlxport_ocr::Inputs;
use mlxport_read::{END_OF_SENTENCE_ID, model_inputs};

use crate::{
    generator::{Generator, GeneratorError, Made},
    text_options::TextOptions,
};

/// Texts of a model, made side by side.
pub struct ModelGenerator<'a> {
    model: &'a dyn Model,
    engine: Engine<'a>,
    /// Tokens of a prompt that are read between two steps.
    chunk: Option<i32>,
}

impl<'a> ModelGenerator<'a> {
    /// No text yet. `chunk`: how many tokens of a prompt are read between two steps; none: all.
    #[must_use]
    pub fn new(model: &'a dyn Model, chunk: Option<i32>) -> Self {
        Self { engine: Engine::new(model), model, chunk }
    }
}

impl Generator for ModelGenerator<'_> {
    fn begin(&mut self, id: usize, inputs: &Inputs, options: &TextOptions) -> Result<(), GeneratorError> {
        let (prompt, more) = model_inputs(inputs).map_err(|error| GeneratorError::Refused(format!("{error:#}")))?;
        let usual = self.model.facts().reading.no_repeat;
        let options = Options { chunk: self.chunk, ..engine_options(options, usual, !more.is_empty()) };
        self.engine.begin(id, prompt, more, options);
        Ok(())
    }

    fn advance(&mut self) -> Result<bool, GeneratorError> {
        self.engine.advance().map(|read| read.is_some()).map_err(|error| match error {
            Error::Input { .. } => GeneratorError::Refused(error.to_string()),
            other => failed(other),
        })
    }

    fn leave(&mut self, id: usize) -> Result<(), GeneratorError> {
        self.engine.leave(id).map_err(failed).map(|_| ())
    }

    fn step(&mut self) -> Result<Vec<Made>, GeneratorError> {
        let made = self.engine.step().map_err(failed)?;
        Ok(made.into_iter().map(|made| Made { id: made.id, token: made.token, is_last: made.is_last }).collect())
    }

    fn reset(&mut self) {
        self.engine = Engine::new(self.model);
    }
}

fn failed(error: Error) -> GeneratorError {
    GeneratorError::Failed(error.to_string())
}

/// How a text is made. A rule without a window, of the size that the model's release reads by, has the release's window.
fn engine_options(text: &TextOptions, usual: Option<UsualRule>, has_several: bool) -> Options {
    let no_repeat = text.no_repeat.as_ref().map(|rule| {
        let usual = usual.filter(|usual| rule.window.is_none() && usual.size == rule.size);
        let window = usual.map(|usual| if has_several { usual.window_of_several } else { usual.window });
        NoRepeatNgram {
            size: rule.size,
            window: rule.window.or(window),
            counts_prompt: usual.is_some_and(|usual| usual.counts_prompt),
            exempt: rule.exempt.iter().copied().collect(),
        }
    });
    let sampling = Sampling { temperature: text.temperature, top_k: text.top_k, top_p: text.top_p, seed: text.seed };
    // A greedy text draws nothing: with the seed of all greedy texts it may be made on the device.
    let sampling = if sampling.temperature > 0.0 { sampling } else { Sampling::default() };
    Options { max_tokens: text.max_tokens, stop: vec![END_OF_SENTENCE_ID], no_repeat, sampling, ..Options::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greedy_text_is_the_engines_own_kind() {
        let text = TextOptions { max_tokens: 3, temperature: 0.0, top_k: 5, top_p: 0.5, seed: 7, no_repeat: None };
        assert_eq!(engine_options(&text, None, false).sampling, Sampling::default());
        assert_eq!(engine_options(&TextOptions { temperature: 1.0, ..text }, None, false).sampling.seed, 7);
    }
}
