//! What makes texts, as the server sees it: several side by side, a token of each at every step.

use mlxport_ocr::Inputs;

use crate::text_options::TextOptions;

/// Makes texts, several side by side (continuous batching). It need not be `Send`: all calls come from the thread that called
/// [`crate::Server::run`].
pub trait Generator {
    /// Begins to read a prompt, one at a time. `inputs` may have no image, and then empty `images_ori`.
    ///
    /// # Errors
    /// When the prompt cannot be used; the other texts are unharmed.
    fn begin(&mut self, id: usize, inputs: &Inputs, options: &TextOptions) -> Result<(), GeneratorError>;

    /// Reads the next piece of the prompt that was begun. True: it was the last one, and its text takes part in every step from now on.
    ///
    /// # Errors
    /// As [`Generator::begin`]; the prompt is then dropped.
    fn advance(&mut self) -> Result<bool, GeneratorError>;

    /// Ends a text before its time, or drops its prompt, if it is there.
    ///
    /// # Errors
    /// When that breaks the others.
    fn leave(&mut self, id: usize) -> Result<(), GeneratorError>;

    /// Makes one token of every text.
    ///
    /// # Errors
    /// When no text can go on.
    fn step(&mut self) -> Result<Vec<Made>, GeneratorError>;

    /// Forgets all texts and the prompt being read, after an error.
    fn reset(&mut self);
}

/// A token that a step made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// The text, as [`Generator::begin`] was told.
    pub id: usize,
    /// Its token.
    pub token: i32,
    /// It was the last: one that ends texts, or as many as were asked for.
    pub is_last: bool,
}

/// Why a text was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GeneratorError {
    /// This prompt cannot be used.
    #[error("{0}")]
    Refused(String),
    /// The generator failed, and with it all texts.
    #[error("{0}")]
    Failed(String),
}
