//! From a recipe file's text to its raw tables: TOML or JSON, one schema, and a syntax error's line and column.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::error::{Violation, ViolationKind};

use super::table::RawRecipe;

/// How a recipe file is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Toml,
    Json,
}

/// By the extension of the file's name; by content where it has neither `.toml` nor `.json` (no TOML begins with a brace).
fn format_of(text: &str, origin: &str) -> Format {
    match Path::new(origin).extension().and_then(|extension| extension.to_str()) {
        Some(extension) if extension.eq_ignore_ascii_case("json") => Format::Json,
        Some(extension) if extension.eq_ignore_ascii_case("toml") => Format::Toml,
        _ if text.trim_start_matches('\u{feff}').trim_start().starts_with('{') => Format::Json,
        _ => Format::Toml,
    }
}

/// The raw recipe, or where and why the text is none.
pub(super) fn read(text: &str, origin: &str) -> Result<RawRecipe, Violation> {
    let format = format_of(text, origin);
    let (line, column, problem) = match format {
        Format::Toml => match toml::from_str(text) {
            Ok(raw) => return Ok(raw),
            Err(error) => {
                let (line, column) = error.span().map_or((1, 1), |span| place_of(text, span.start));
                (line, column, error.message().to_owned())
            }
        },
        Format::Json => match serde_json::from_str(text) {
            Ok(raw) => return Ok(raw),
            Err(error) => {
                let message = error.to_string();
                // serde_json repeats the place at the end of its message.
                let suffix = format!(" at line {} column {}", error.line(), error.column());
                let problem = message.strip_suffix(&suffix).unwrap_or(&message).to_owned();
                (error.line(), error.column(), problem)
            }
        },
    };
    let expected = match format {
        Format::Toml => "a recipe in TOML",
        Format::Json => "a recipe in JSON",
    };
    let place = format!("{origin}: line {line}, column {column}");
    Err(Violation::new(ViolationKind::Recipe, place, expected, problem.replace('\n', ", ")))
}

/// Line and column (in characters), both from 1, of a byte.
fn place_of(text: &str, at: usize) -> (usize, usize) {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The text of an expression; an integer may stand for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExprText(String);

impl Deref for ExprText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for ExprText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = ExprText;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an integer, or an expression as a string")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ExprText, E> {
                Ok(ExprText(text.to_owned()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<ExprText, E> {
                Ok(ExprText(number.to_string()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<ExprText, E> {
                Ok(ExprText(number.to_string()))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

/// A table of named things. JSON allows a name twice and would keep the last; here that is an error, as it is in TOML.
pub(super) fn distinct<'de, D, V>(deserializer: D) -> Result<BTreeMap<String, V>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    struct Names<V>(PhantomData<V>);
    impl<'de, V: Deserialize<'de>> Visitor<'de> for Names<V> {
        type Value = BTreeMap<String, V>;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("a table of named things")
        }

        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let mut all = BTreeMap::new();
            while let Some((name, value)) = map.next_entry::<String, V>()? {
                if all.contains_key(&name) {
                    return Err(M::Error::custom(format!("{name} is there twice")));
                }
                all.insert(name, value);
            }
            Ok(all)
        }
    }
    deserializer.deserialize_map(Names(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides_and_where_it_does_not_the_content() {
        for (text, origin, format) in [
            ("{}", "a.toml", Format::Toml),
            ("schema = 1", "a.json", Format::Json),
            ("schema = 1", "a.JSON", Format::Json),
            (" \n{}", "recipe", Format::Json),
            ("schema = 1", "recipe.txt", Format::Toml),
            ("", "recipe", Format::Toml),
        ] {
            assert_eq!(format_of(text, origin), format, "{origin}");
        }
    }

    #[test]
    fn places_are_counted_in_characters_from_one() {
        assert_eq!(place_of("ab\ncé!", 0), (1, 1));
        assert_eq!(place_of("ab\ncé!", 6), (2, 3));
        assert_eq!(place_of("ab", 99), (1, 3));
        assert_eq!(place_of("é", 1), (1, 1));
    }
}
