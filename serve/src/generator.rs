//! What makes texts, as the server sees it: several side by side, a token of each at every step.

use mlxport_ocr::Inputs;

/// Makes texts, several side by side (continuous batching). It need not be `Send`: all calls come from the thread that called
/// [`crate::Server::run`].
pub trait Generator {
    /// Reads a prompt; its text takes part in every step from now on. `inputs` may have no image, and then empty `images_ori`.
    ///
    /// # Errors
    /// When the prompt cannot be used; the other texts are unharmed.
    fn join(&mut self, id: usize, inputs: &Inputs, making: &Making) -> Result<(), GeneratorError>;

    /// Ends a text before its time, if it is there.
    ///
    /// # Errors
    /// When that breaks the others.
    fn leave(&mut self, id: usize) -> Result<(), GeneratorError>;

    /// Makes one token of every text.
    ///
    /// # Errors
    /// When no text can go on.
    fn step(&mut self) -> Result<Vec<Made>, GeneratorError>;

    /// Forgets all texts, after an error.
    fn reset(&mut self);
}

/// A token that a step made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// The text, as [`Generator::join`] was told.
    pub id: usize,
    /// Its token.
    pub token: i32,
    /// It was the last: one that ends texts, or as many as were asked for.
    pub is_last: bool,
}

/// How a text is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Making {
    /// The most tokens, at least 1.
    pub max_tokens: usize,
    /// 0: always the likeliest token.
    pub temperature: f32,
    /// Only the k likeliest; 0: all.
    pub top_k: usize,
    /// Only the fewest likeliest whose probabilities sum to at least this; 1: all.
    pub top_p: f32,
    /// Where the random numbers begin.
    pub seed: u64,
    /// What may not be said twice.
    pub no_repeat: Option<NoRepeat>,
}

/// No sequence of `size` tokens twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoRepeat {
    /// n, at least 1.
    pub size: usize,
    /// How many of the last tokens made are searched. None: all, and the prompt.
    pub window: Option<usize>,
    /// Tokens that are never forbidden.
    pub exempt: Vec<i32>,
}

/// Why a text was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GeneratorError {
    /// This prompt cannot be used.
    #[error("{0}")]
    Refused(String),
    /// The generator broke.
    #[error("{0}")]
    Failed(String),
}
