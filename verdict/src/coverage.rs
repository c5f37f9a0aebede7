//! Coverage: how many of the reference's leaf modules' outputs a verdict rests on.
//!
//! A leaf's output is covered when it was compared itself, or when the port has no such boundary and the next point that both have
//! was compared. Less than all of them, or no logits, is no pass: what was not looked at may be wrong.

use serde::{Deserialize, Serialize};

/// What a verdict rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Outputs of leaf modules that the reference recorded.
    pub recorded: usize,
    /// Those that are covered.
    pub compared: usize,
    /// Those of the covered ones that were judged at the next point that both sides have.
    pub judged_at_next: usize,
    /// Whether logits were compared.
    pub logits: bool,
    /// The others, each with its reason.
    pub missing: Vec<Uncovered>,
}

/// An output that is not covered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uncovered {
    /// The PyTorch module's path.
    pub point: String,
    /// The how-manieth call, from 0.
    pub call: u32,
    /// Why it was not compared.
    pub reason: String,
    /// The reason that the user gave for doing without it, if any.
    #[serde(default)]
    pub allowed: Option<String>,
}

impl Coverage {
    /// Whether everything is covered or allowed by name, and logits were compared.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.logits && self.missing.iter().all(|missing| missing.allowed.is_some())
    }

    /// `31 of 34 leaf outputs compared (3 at the next point that both have)`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let mut text = format!("{} of {} leaf outputs compared", self.compared, self.recorded);
        let allowed = self.missing.iter().filter(|missing| missing.allowed.is_some()).count();
        let mut notes = Vec::new();
        if self.judged_at_next > 0 {
            notes.push(format!("{} of them at the next point that both have", self.judged_at_next));
        }
        if allowed > 0 {
            notes.push(format!("{allowed} left out by --allow-unmapped"));
        }
        if !self.logits {
            notes.push("no logits".to_owned());
        }
        if !notes.is_empty() {
            text.push_str(&format!(" ({})", notes.join(", ")));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(allowed: Option<&str>) -> Coverage {
        let missing = Uncovered {
            point: "a".to_owned(),
            call: 0,
            reason: "dropped".to_owned(),
            allowed: allowed.map(str::to_owned),
        };
        Coverage { recorded: 3, compared: 2, judged_at_next: 1, logits: true, missing: vec![missing] }
    }

    #[test]
    fn what_is_missing_is_incomplete_unless_it_is_allowed_by_name() {
        assert!(!missing(None).is_complete());
        assert!(missing(Some("vision only")).is_complete());
        assert!(!Coverage { logits: false, ..missing(Some("x")) }.is_complete());
        assert!(!Coverage::default().is_complete(), "nothing is not everything");
    }

    #[test]
    fn words_tell_what_was_left_out() {
        let text = Coverage { logits: false, ..missing(Some("x")) }.in_words();
        for part in ["2 of 3 leaf outputs", "1 of them at the next point", "1 left out", "no logits"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
