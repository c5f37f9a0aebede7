//! JSON as Python writes and reads it: behind a byte order mark, with `Infinity`, `-Infinity` and `NaN` among the numbers, and with every
//! digit of its whole numbers.
//!
//! serde's values have no such numbers. Their whole numbers have 64 bits, so that a larger one (`1000000000000000019884624838656`, what
//! Python makes of `int(1e30)`) would become the nearest float. Each such number stands in a value as a text that no config has of itself
//! ([`MARK`] before the number), and [`to_text`] writes it as Python does. A text that holds the mark in the source is refused.

use std::borrow::Cow;

use serde_json::Value;

/// What stands before a number that serde's values do not have.
pub const MARK: &str = "\u{1}mlxport number: ";
/// The mark as JSON writes it: its first character is a control character.
const ESCAPED_MARK: &str = "\\u0001mlxport number: ";
/// The numbers that JSON does not have.
const NAMES: [&str; 3] = ["Infinity", "-Infinity", "NaN"];
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Without the byte order mark that some editors put first.
pub fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BOM).unwrap_or(bytes)
}

/// Reads JSON as Python's `json.load` does.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(without_bom(bytes)).map_err(|error| error.to_string())?;
    if text.contains(ESCAPED_MARK.trim_end()) {
        return Err("a text that mlxport marks numbers with".to_owned());
    }
    serde_json::from_str(&marked(text)).or_else(|_| serde_json::from_str(text)).map_err(|error| error.to_string())
}

/// The same text as serde reads it: without a byte order mark, and with every number that serde's values do not have as a marked text.
/// Lines stay what they are, so that an error has its line.
pub fn to_strict(text: &str) -> Cow<'_, str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let strict = marked(text);
    if strict == text { Cow::Borrowed(text) } else { Cow::Owned(strict) }
}

/// The value as indented text, with such numbers as Python writes them.
pub fn to_text(value: &Value) -> String {
    unmarked(&format!("{value:#}"))
}

/// The value in one line, alike.
pub fn to_line(value: &Value) -> String {
    unmarked(&value.to_string())
}

/// The text with every marked text as the number it stands for.
fn unmarked(text: &str) -> String {
    let mark = format!("\"{ESCAPED_MARK}");
    let mut parts = text.split(&*mark);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (number, rest) = part.split_once('"').unwrap_or((part, ""));
        out.push_str(number);
        out.push_str(rest);
    }
    out
}

/// The text with every such number as a marked text.
fn marked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let byte_len = match first {
            '"' => string_byte_len(rest),
            '-' | '0'..='9' | 'A'..='Z' | 'a'..='z' => word_byte_len(rest),
            other => other.len_utf8(),
        };
        let (token, after) = rest.split_at(byte_len);
        if NAMES.contains(&token) || is_too_long(token) {
            out.extend(["\"", ESCAPED_MARK, token, "\""]);
        } else {
            out.push_str(token);
        }
        rest = after;
    }
    out
}

/// How long the string literal at the beginning of the text is.
fn string_byte_len(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// How long the number or name at the beginning of the text is.
fn word_byte_len(text: &str) -> usize {
    let is_inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    text.find(|c| !is_inside(c)).unwrap_or(text.len())
}

/// Whether it is a whole number that 64 bits cannot hold.
fn is_too_long(token: &str) -> bool {
    let digits = token.strip_prefix('-').unwrap_or(token);
    let is_whole = !digits.is_empty() && !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_whole && token.parse::<i64>().is_err() && token.parse::<u64>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_json_does_not_have_go_through_as_they_are() {
        let source = "\u{feff}{\"a\": [0.0, Infinity], \"b\": -Infinity, \"c\": NaN, \"NaN \\\" Infinity\": \"NaN\"}";
        let value = parse(source.as_bytes()).expect("Python reads it");
        let text = to_text(&value);
        assert!(
            text.contains("Infinity\n") && text.contains("\"b\": -Infinity") && text.contains("\"c\": NaN"),
            "{text}"
        );
        assert!(text.contains("\"NaN \\\" Infinity\": \"NaN\""), "{text}");
        assert_eq!(parse(text.as_bytes()), Ok(value));
    }

    #[test]
    fn whole_numbers_keep_their_digits() {
        let text = r#"{"a": 1000000000000000019884624838656, "b": [-123456789012345678901234, 18446744073709551615],
            "c": "12345678901234567890123 \" 99999999999999999999999", "d": 1e30, "e": 0.1, "é": 7}"#;
        let printed = to_text(&parse(text.as_bytes()).expect("JSON"));
        for kept in [
            "\"a\": 1000000000000000019884624838656,",
            "-123456789012345678901234,",
            "18446744073709551615\n",
            r#""12345678901234567890123 \" 99999999999999999999999""#,
            "\"e\": 0.1",
            "\"é\": 7",
        ] {
            assert!(printed.contains(kept), "{kept} in {printed}");
        }
        assert_eq!(to_text(&parse(printed.as_bytes()).expect("JSON")), printed);
    }

    #[test]
    fn what_is_no_json_stays_so() {
        for text in [
            "{",
            "{\"a\": Inf}",
            "[NaN NaN]",
            "{\"a\": \"\\u0001mlxport number: NaN\", \"b\": NaN}",
            "nan",
            "",
            "01234567890123456789012",
            "1234567890123456789012x",
            "\"\\",
            "{\"a\": --99999999999999999999999}",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn lines_stay_what_they_are() {
        let text = "\u{feff}{\n\"a\": NaN,\n\"b\": x\n}";
        let error = serde_json::from_str::<Value>(&to_strict(text)).expect_err("x is no JSON");
        assert_eq!(error.line(), 3);
        assert_eq!(to_strict("[1]"), "[1]");
    }
}
