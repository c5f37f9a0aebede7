//! How to decode.

use super::{NoRepeatNgram, Sampling};

/// How to decode.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The most tokens to make.
    pub max_tokens: usize,
    /// Tokens that end the text; the one met is the last of the output.
    pub stop: Vec<i32>,
    /// What may not be said twice.
    pub no_repeat: Option<NoRepeatNgram>,
    /// How a token is drawn.
    pub sampling: Sampling,
    /// Prompt tokens per prefill step; all at once where there is none.
    pub chunk: Option<i32>,
    /// Computes every step from the whole text instead of keeping keys and values: slow, to check the cache against.
    pub without_cache: bool,
}
