//! Key patterns: literal text with named numbers, `model.layers.{moe_layer}.mlp.experts.{expert}.up_proj.weight`.
//!
//! A pattern is the whole key. A capture stands for one number in its plain spelling (no sign, no leading zero). `*` at the end stands
//! for any rest of at least one character; only rows that leave keys out may use it.

use std::collections::BTreeMap;
use std::fmt;

/// A parsed pattern; prints as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Number(String),
    Rest,
}

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (body, open_ended) = text.strip_suffix('*').map_or((text, false), |body| (body, true));
        if body.contains('*') || open_ended && body.is_empty() {
            return Err(format!("{text:?}: '*' stands for the rest of a key, at its end"));
        }
        let (mut parts, mut rest) = (Vec::new(), body);
        while let Some(open) = rest.find('{') {
            let close = rest[open..].find('}').ok_or_else(|| format!("{text:?}: '{{' without '}}'"))?;
            let name = &rest[open + 1..open + close];
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(plain) {
                return Err(format!("{text:?}: {name:?} is not the name of an index"));
            }
            if matches!(parts.last(), Some(Part::Number(_))) && open == 0 {
                return Err(format!("{text:?}: two numbers with nothing between them"));
            }
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_owned()));
            }
            if parts.iter().any(|part| matches!(part, Part::Number(seen) if seen == name)) {
                return Err(format!("{text:?}: {{{name}}} twice"));
            }
            parts.push(Part::Number(name.to_owned()));
            rest = &rest[open + close + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        if open_ended {
            parts.push(Part::Rest);
        }
        if text.is_empty() || text.contains('}') && !text.contains('{') {
            return Err(format!("{text:?}: not a key"));
        }
        Ok(Self { parts })
    }

    /// The names of its numbers, in order.
    pub fn indices(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Number(name) => Some(name.as_str()),
            Part::Text(_) | Part::Rest => None,
        })
    }

    /// Whether it ends in `*`.
    pub fn is_open_ended(&self) -> bool {
        matches!(self.parts.last(), Some(Part::Rest))
    }

    /// The key for these numbers.
    ///
    /// # Panics
    /// Never for a checked recipe: every index of a pattern has a number there.
    pub fn key(&self, numbers: &BTreeMap<&str, u64>) -> String {
        let mut key = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => key.push_str(text),
                Part::Rest => key.push('*'),
                Part::Number(name) => {
                    key.push_str(&numbers.get(name.as_str()).map_or_else(|| format!("{{{name}}}"), u64::to_string))
                }
            }
        }
        key
    }

    /// The numbers in `key`, when it has this pattern's form.
    pub fn captures(&self, key: &str) -> Option<Vec<(&str, u64)>> {
        let (mut rest, mut numbers) = (key, Vec::new());
        for part in &self.parts {
            match part {
                Part::Text(text) => rest = rest.strip_prefix(text.as_str())?,
                Part::Rest if rest.is_empty() => return None,
                Part::Rest => rest = "",
                Part::Number(name) => {
                    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                    let digits = &rest[..end];
                    if digits.len() > 1 && digits.starts_with('0') {
                        return None;
                    }
                    numbers.push((name.as_str(), digits.parse().ok()?));
                    rest = &rest[end..];
                }
            }
        }
        rest.is_empty().then_some(numbers)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.key(&BTreeMap::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_captures_are_inverse() {
        let pattern = Pattern::parse("model.layers.{l}.experts.{e}.w").expect("parses");
        let numbers = BTreeMap::from([("l", 11), ("e", 0)]);
        let key = pattern.key(&numbers);
        assert_eq!(key, "model.layers.11.experts.0.w");
        assert_eq!(pattern.captures(&key), Some(vec![("l", 11), ("e", 0)]));
        assert_eq!(pattern.to_string(), "model.layers.{l}.experts.{e}.w");
        for other in [
            "model.layers.01.experts.0.w",
            "model.layers.x.experts.0.w",
            "model.layers.1.experts.0.w2",
            "model.layers.99999999999999999999.experts.0.w",
        ] {
            assert_eq!(pattern.captures(other), None, "{other}");
        }
    }

    #[test]
    fn an_open_end_takes_any_rest() {
        let pattern = Pattern::parse("visual.{b}.*").expect("parses");
        assert!(pattern.is_open_ended() && pattern.to_string() == "visual.{b}.*");
        assert_eq!(pattern.captures("visual.3.attn.qkv.weight"), Some(vec![("b", 3)]));
        for other in ["visual.3", "visual.3.", "visual.x.y", "audio.3.y"] {
            assert_eq!(pattern.captures(other), None, "{other}");
        }
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for text in ["", "a.{", "a.{}", "a.{x}{y}", "a.{x}.{x}", "a}", "{a b}", "*", "a.*.b", "a**"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }
}
