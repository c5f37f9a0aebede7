//! How a text is made: what a request may wish.

/// How a text is made.
#[derive(Debug, Clone, PartialEq)]
pub struct TextOptions {
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
