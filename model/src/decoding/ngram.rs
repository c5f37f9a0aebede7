//! The rule that ends loops: no n-gram twice (`NoRepeatNGramLogitsProcessor` of transformers; the release's serving script has a windowed one).

use std::collections::HashSet;

/// No token that would complete an n-gram which the text already holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoRepeatNgram {
    /// n; 1 forbids every token already said (where the release's windowed rule, whose prefix is then the whole text, forbids nothing).
    pub size: usize,
    /// How many of the last tokens are searched. None: all, the prompt included, as transformers does. Some: of those generated, as
    /// serving does.
    pub window: Option<usize>,
    /// Whether a window reaches back into the prompt, as that of transformers' Unlimited-OCR does.
    pub counts_prompt: bool,
    /// Tokens that are never forbidden, `<td>` and `</td>` say.
    pub exempt: HashSet<i32>,
}

impl NoRepeatNgram {
    /// The rule on all of the text.
    #[must_use]
    pub fn plain(size: usize) -> Self {
        Self { size, window: None, counts_prompt: false, exempt: HashSet::new() }
    }

    /// Sets the scores \[vocab\] of forbidden tokens to −∞. `text` holds prompt and generated tokens, the latter from `start`.
    pub fn apply(&self, text: &[i32], start: usize, scores: &mut [f32]) {
        for token in self.forbidden(text, start) {
            if let Some(score) = usize::try_from(token).ok().and_then(|at| scores.get_mut(at)) {
                *score = f32::NEG_INFINITY;
            }
        }
    }

    /// The tokens that may not come next.
    #[must_use]
    pub fn forbidden(&self, text: &[i32], start: usize) -> HashSet<i32> {
        let seen = match self.window {
            None => text,
            Some(window) if self.counts_prompt => &text[text.len().saturating_sub(window)..],
            Some(_) => &text[start.min(text.len())..],
        };
        if self.size == 0 || seen.len() < self.size {
            return HashSet::new();
        }
        let prefix = &seen[seen.len() + 1 - self.size..];
        let from = self.window.map_or(0, |window| seen.len().saturating_sub(window));
        let grams = seen[from..].windows(self.size).filter(|gram| gram[..self.size - 1] == *prefix);
        grams.map(|gram| gram[self.size - 1]).filter(|token| !self.exempt.contains(token)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forbidden(rule: &NoRepeatNgram, text: &[i32], start: usize) -> Vec<i32> {
        let mut all: Vec<i32> = rule.forbidden(text, start).into_iter().collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn what_completed_the_same_beginning_before_is_forbidden() {
        let rule = NoRepeatNgram::plain(3);
        assert_eq!(forbidden(&rule, &[1, 2, 3, 1, 2, 4, 1, 2], 0), [3, 4]);
        assert_eq!(forbidden(&rule, &[1, 2], 0), [0; 0], "too short to hold one");
        assert_eq!(forbidden(&rule, &[1, 2, 3, 1, 2], 4), [3], "the prompt counts");
        assert_eq!(forbidden(&NoRepeatNgram::plain(1), &[5, 6, 5], 0), [5, 6]);
        assert_eq!(forbidden(&NoRepeatNgram::plain(0), &[5, 6, 5], 0), [0; 0]);
        // An n-gram may overlap the place where the next one begins.
        assert_eq!(forbidden(&rule, &[7, 7, 7], 0), [7]);
    }

    #[test]
    fn a_window_forgets_what_lies_before_it_and_exempt_tokens_are_free() {
        let text = [1, 2, 3, 9, 9, 1, 2, 4, 1, 2];
        let rule = |window, exempt: &[i32]| NoRepeatNgram {
            size: 3,
            window: Some(window),
            counts_prompt: false,
            exempt: exempt.iter().copied().collect(),
        };
        assert_eq!(forbidden(&rule(10, &[]), &text, 0), [3, 4]);
        assert_eq!(forbidden(&rule(9, &[]), &text, 0), [4]);
        assert_eq!(forbidden(&rule(10, &[4]), &text, 0), [3]);
        assert_eq!(forbidden(&rule(10, &[]), &text, 5), [4], "the prompt does not count");
        let with_prompt = NoRepeatNgram { counts_prompt: true, ..rule(8, &[]) };
        assert_eq!(
            forbidden(&with_prompt, &[1, 2, 3, 9, 9, 1, 2, 4, 1, 2], 9),
            [4],
            "the window reaches into the prompt"
        );
        let mut scores = [0.0; 4];
        rule(10, &[]).apply(&text, 0, &mut scores);
        assert_eq!(scores, [0.0, 0.0, 0.0, f32::NEG_INFINITY], "4 is beyond the vocabulary");
    }
}
