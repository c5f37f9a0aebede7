//! JSON as Python writes and reads it: behind a byte order mark, with `Infinity`, `-Infinity` and `NaN` among the numbers.
//!
//! serde's values have no such numbers, so each stands in them as a text that no config has of itself ([`MARK`] before its name), and
//! [`to_text`] writes it as Python does. A text that begins with the mark in the source is refused.

use serde_json::Value;

/// What stands before the name of a number that JSON does not have.
pub const MARK: &str = "\u{1}mlxport number: ";
/// Their names.
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
    // The mark begins with a control character, which JSON escapes.
    if text.contains("\\u0001mlxport number") {
        return Err("a text that mlxport marks numbers with".to_owned());
    }
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        // Only what is no JSON is looked at again.
        Err(error) => {
            let marked = marked(text).ok_or_else(|| error.to_string())?;
            serde_json::from_str(&marked).map_err(|_| error.to_string())
        }
    }
}

/// The text with every such number as a marked text; `None` where there is none.
fn marked(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut is_changed) = (text, false);
    while let Some(first) = rest.chars().next() {
        let name = NAMES.into_iter().find(|name| rest.starts_with(name));
        let byte_len = match (first, name) {
            ('"', _) => string_byte_len(rest),
            (_, Some(name)) => {
                out.push_str(&Value::from(format!("{MARK}{name}")).to_string());
                is_changed = true;
                rest = &rest[name.len()..];
                continue;
            }
            _ => first.len_utf8(),
        };
        out.push_str(&rest[..byte_len]);
        rest = &rest[byte_len..];
    }
    is_changed.then_some(out)
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

/// The value as indented text, with such numbers as Python writes them.
pub fn to_text(value: &Value) -> String {
    let mut text = format!("{value:#}");
    for name in NAMES {
        text = text.replace(&Value::from(format!("{MARK}{name}")).to_string(), name);
    }
    text
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
    fn what_is_no_json_stays_so() {
        for text in ["{", "{\"a\": Inf}", "[NaN NaN]", "{\"a\": \"\\u0001mlxport number: NaN\", \"b\": NaN}", "nan", ""]
        {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
