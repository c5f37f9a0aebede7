//! Other names: how a candidate's points are called in the reference.
//!
//! ```toml
//! [[point]]
//! from = "language_model.model.*"    # `*` is any text, dots included
//! to = "model.*"                     # each `*` is what its counterpart was
//! ```
//!
//! The first rule that fits a whole name is taken; a name that no rule fits stays. A rule that fits no point at all is a mistake.

use std::path::{Path, PathBuf};

use regex::Regex;
use serde::Deserialize;

use crate::error::{Error, Result};

/// The largest file that is read.
const MAX_BYTES: u64 = 1 << 20;
/// Most rules in a file.
const MAX_RULES: usize = 1000;
/// The longest pattern.
const MAX_CHARS: usize = 1024;

/// The rules of one file; none by default.
#[derive(Debug, Default)]
pub struct Renames {
    path: PathBuf,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    from: String,
    pattern: Regex,
    /// The texts between the places to be filled: one more than there are places.
    to: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    point: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    from: String,
    to: String,
}

impl Renames {
    /// Reads a file of rules.
    ///
    /// # Errors
    /// The file cannot be read, is no TOML of this form, or a rule has other numbers of `*` on its two sides: all told at once.
    pub fn read(path: &Path) -> Result<Self> {
        let text = text(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let rules = Self::parse(&text).map_err(|violations| Error::Renames { path: path.to_owned(), violations })?;
        Ok(Self { path: path.to_owned(), ..rules })
    }

    /// The rules that a text holds.
    ///
    /// # Errors
    /// Everything wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let file: File = toml::from_str(text).map_err(|error| vec![harmless(error.to_string().trim_end())])?;
        if file.point.is_empty() || file.point.len() > MAX_RULES {
            return Err(vec![format!("expected 1 to {MAX_RULES} entries [[point]], found {}", file.point.len())]);
        }
        let (mut rules, mut violations) = (Vec::new(), Vec::new());
        for (index, entry) in file.point.iter().enumerate() {
            match rule(entry) {
                Ok(rule) => rules.push(rule),
                Err(why) => violations.push(format!("point[{index}]: {why}")),
            }
        }
        if violations.is_empty() { Ok(Self { rules, ..Self::default() }) } else { Err(violations) }
    }

    /// The names of `points` in the reference, one by one.
    ///
    /// # Errors
    /// A rule that fits no point.
    pub fn apply<'a>(&self, points: impl Iterator<Item = &'a str>) -> Result<Vec<String>> {
        let mut used = vec![false; self.rules.len()];
        let named = points.map(|point| self.name(point, &mut used)).collect();
        let idle = self.rules.iter().zip(&used).filter(|(_, used)| !**used);
        let violations: Vec<String> =
            idle.map(|(rule, _)| format!("from = {:?} fits no point of the candidate", rule.from)).collect();
        if violations.is_empty() { Ok(named) } else { Err(self.refused(violations)) }
    }

    /// The error that these rules, with this candidate, are.
    pub(crate) fn refused(&self, violations: Vec<String>) -> Error {
        Error::Renames { path: self.path.clone(), violations }
    }

    fn name(&self, point: &str, used: &mut [bool]) -> String {
        for (rule, used) in self.rules.iter().zip(used) {
            if let Some(parts) = rule.pattern.captures(point) {
                *used = true;
                let mut name = rule.to[0].clone();
                for (place, after) in rule.to[1..].iter().enumerate() {
                    name.push_str(&parts[place + 1]);
                    name.push_str(after);
                }
                return name;
            }
        }
        point.to_owned()
    }
}

/// TOML's messages quote the text; what a terminal would obey is taken out.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

fn rule(entry: &Entry) -> Result<Rule, String> {
    let (from, to) = (entry.from.split('*').collect::<Vec<_>>(), entry.to.split('*').collect::<Vec<_>>());
    let fits = |text: &str| (1..=MAX_CHARS).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if !fits(&entry.from) || !fits(&entry.to) {
        return Err(format!("expected 1 to {MAX_CHARS} printable characters in from and to"));
    }
    if to.len() > from.len() {
        return Err(format!(
            "to = {:?} has {} places, from = {:?} fills {}",
            entry.to,
            to.len() - 1,
            entry.from,
            from.len() - 1
        ));
    }
    let escaped: Vec<String> = from.iter().map(|text| regex::escape(text)).collect();
    // As little as fits for each place: `*.layers.*` is to split at the first `.layers.`.
    let pattern = Regex::new(&format!("^{}$", escaped.join("(.*?)"))).map_err(|error| error.to_string())?;
    Ok(Rule { from: entry.from.clone(), pattern, to: to.into_iter().map(str::to_owned).collect() })
}

fn text(path: &Path) -> std::io::Result<String> {
    use std::io::{Error, ErrorKind};
    let found = std::fs::metadata(path)?;
    if !found.is_file() || found.len() > MAX_BYTES {
        let why = format!("expected a regular file of at most {MAX_BYTES} bytes");
        return Err(Error::new(ErrorKind::InvalidInput, why));
    }
    std::fs::read_to_string(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_fits_a_whole_name_is_taken() {
        let rules = Renames::parse(
            r#"
            point = [{ from = "lm.lm_head", to = "lm_head" }, { from = "lm.*", to = "model.*" },
                     { from = "*.mlp.switch.*", to = "*.mlp.experts.*" }, { from = "drop.*.*", to = "kept.*" }]
            "#,
        )
        .expect("sound");
        let names = ["lm.lm_head", "lm.norm", "sam.norm", "a.mlp.switch.0.mlp.switch.1", "drop.x.y.z"];
        let named = rules.apply(names.into_iter()).expect("all fit");
        assert_eq!(named, ["lm_head", "model.norm", "sam.norm", "a.mlp.experts.0.mlp.switch.1", "kept.x"]);
    }

    #[test]
    fn rules_that_cannot_be_or_fit_nothing_are_told() {
        for (text, part) in [
            ("", "missing field `point`"),
            ("point = []", "1 to 1000 entries"),
            ("[[point]]\nfrom = \"a\"\nto = \"b.*\"", "point[0]: to = \"b.*\" has 1 places"),
            ("[[point]]\nfrom = \"\"\nto = \"b\"", "point[0]: expected 1 to"),
            ("[[point]]\nfrom = \"a\"\nto = \"b\"\nwhy = 1", "unknown field `why`"),
        ] {
            let found = Renames::parse(text).expect_err(text).join("\n");
            assert!(found.contains(part), "{part}: {found}");
        }
        let rules = Renames::parse("[[point]]\nfrom = \"a.*\"\nto = \"*\"").expect("sound");
        let error = rules.apply(["b"].into_iter()).expect_err("fits nothing").to_string();
        assert!(error.contains("\"a.*\" fits no point"), "{error}");
        assert_eq!(Renames::default().apply(["b"].into_iter()).expect("no rule"), ["b"]);
    }
}
