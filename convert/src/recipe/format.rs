//! From a recipe file's text to its raw tables: TOML or JSON, one schema, and a syntax error's line and column.

use std::path::Path;

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
