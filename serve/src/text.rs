//! From tokens to text that may be shown: no half characters, and nothing that may turn out to begin a stop string.

use mlxport_ocr::{OcrError, Prompter, Streamed};

/// A text as it is made.
pub(crate) struct Text<'a> {
    streamed: Streamed<'a>,
    stops: Stops,
    /// A stop string was met: nothing behind it is shown.
    is_over: bool,
}

impl<'a> Text<'a> {
    pub fn new(prompter: &'a Prompter, stops: Vec<String>) -> Self {
        Self { streamed: prompter.stream(), stops: Stops { stops, held: String::new() }, is_over: false }
    }

    /// Takes a token; returns what is now certain, perhaps nothing, and whether a stop string was met.
    ///
    /// # Errors
    /// When the tokenizer cannot decode.
    pub fn push(&mut self, token: i32) -> Result<(String, bool), OcrError> {
        let text = match u32::try_from(token) {
            Ok(id) => self.streamed.push(id)?,
            Err(_) => String::new(),
        };
        let (text, met) = self.stops.push(&text);
        self.is_over |= met;
        Ok((text, met))
    }

    /// What was held back.
    ///
    /// # Errors
    /// When the tokenizer cannot decode.
    pub fn finish(mut self) -> Result<(String, bool), OcrError> {
        if self.is_over {
            return Ok((String::new(), true));
        }
        let (mut text, met) = self.stops.push(&self.streamed.finish()?);
        if !met {
            text.push_str(&self.stops.held);
        }
        Ok((text, met))
    }
}

/// Strings that end a text; neither they nor anything behind them is shown.
#[derive(Debug, Default)]
struct Stops {
    stops: Vec<String>,
    /// What may turn out to begin one.
    held: String,
}

impl Stops {
    fn push(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop)).min() {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let certain = self.held.len() - self.begun();
        let rest = self.held.split_off(certain);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// The most bytes at the end of what is held that begin a stop string.
    fn begun(&self) -> usize {
        let begins = |stop: &String| {
            let most = self.held.len().min(stop.len().saturating_sub(1));
            (1..=most).rev().find(|&len| stop.is_char_boundary(len) && self.held.ends_with(&stop[..len])).unwrap_or(0)
        };
        self.stops.iter().map(begins).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let mut stops = Stops { stops: stops.iter().map(ToString::to_string).collect(), held: String::new() };
        let mut all = Vec::new();
        for piece in pieces {
            let (text, met) = stops.push(piece);
            all.push(text);
            if met {
                return (all, true);
            }
        }
        all.push(stops.held);
        (all, false)
    }

    #[test]
    fn what_may_begin_a_stop_string_waits() {
        assert_eq!(shown(&["END"], &["aE", "N", "X"]), (vec!["a".into(), "".into(), "ENX".into(), "".into()], false));
        assert_eq!(shown(&["END"], &["aE", "N", "Db"]), (vec!["a".into(), "".into(), "".into()], true));
        assert_eq!(shown(&["END"], &["aEN"]), (vec!["a".into(), "EN".into()], false));
        assert_eq!(shown(&["bc", "abcd"], &["xa", "b", "c"]), (vec!["x".into(), "".into(), "a".into()], true));
        assert_eq!(shown(&["é!"], &["é", "é", "!"]), (vec!["".into(), "é".into(), "".into()], true));
        assert_eq!(shown(&[], &["a"]), (vec!["a".into(), "".into()], false));
    }

    #[test]
    fn nothing_behind_a_stop_string_is_shown_not_even_what_was_no_character_yet() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../ocr/testdata/tokenizer.json");
        let prompter = Prompter::open(&path).expect("a tokenizer");
        let half = prompter.encode("🦀", &[]).expect("ids").0[1] as i32;
        let mut text = Text::new(&prompter, vec!["\u{FFFD}\u{FFFD}".into()]);
        let mut shown = String::new();
        for _ in 0..3 {
            let (more, met) = text.push(half).expect("a piece");
            shown.push_str(&more);
            if met {
                break;
            }
        }
        let (rest, met) = text.finish().expect("the rest");
        assert_eq!((shown + &rest, met), (String::new(), true));
    }

    #[test]
    fn half_a_character_waits_behind_tokens_that_have_no_text() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../ocr/testdata/tokenizer.json");
        let prompter = Prompter::open(&path).expect("a tokenizer");
        let ids = prompter.encode("🦀", &[]).expect("ids").0;
        let (crab, special) = (&ids[1..], ids[0]);
        let mut text = Text::new(&prompter, Vec::new());
        let tokens = [&crab[..1], &[special; 9], &crab[1..], &[special; 9]].concat();
        let mut shown = String::new();
        for token in &tokens {
            shown.push_str(&text.push(*token as i32).expect("a piece").0);
        }
        shown.push_str(&text.finish().expect("the rest").0);
        let all: Vec<u32> = tokens.iter().map(|id| *id as u32).collect();
        assert_eq!(shown, prompter.decode(&all).expect("a text"));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(pieces in prop::collection::vec("[abé]{0,4}", 0..12), stops in prop::collection::vec("[abé]{1,4}", 0..4)) {
            let whole = pieces.concat();
            let first = stops.iter().filter_map(|stop| whole.find(stop.as_str())).min();
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let (found, met) = shown(&stops, &pieces.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(met, first.is_some());
            // What comes first in the text wins, unless another one was complete in an earlier piece.
            let found = found.concat();
            prop_assert!(whole.starts_with(&found));
            prop_assert!(stops.iter().all(|stop| !found.contains(stop)));
            if !met {
                prop_assert_eq!(found, whole);
            }
        }
    }
}
