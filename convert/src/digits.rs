//! Configs read and written with every digit of their whole numbers.
//!
//! JSON's numbers have no bounds, `serde_json`'s whole numbers have 64 bits: a larger one would become the nearest float. Configs have
//! such numbers (`1000000000000000019884624838656`, what Python makes of `int(1e30)`), so they travel as text.

use serde_json::Value;

/// Begins a text that stands for a number. No key or value of a config begins so: it is a character for private use.
const MARK: char = '\u{f8f0}';

/// Reads JSON.
///
/// # Errors
/// What `serde_json` says.
pub fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::from_str(&marked(text)),
        Err(_) => serde_json::from_slice(bytes),
    }
}

/// Writes JSON, on lines of its own for each field.
pub fn print(value: &Value) -> String {
    let text = format!("{value:#}");
    let mark = format!("\"{MARK}");
    let mut parts = text.split(&*mark);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_once('"').unwrap_or((part, ""));
        out.push_str(digits);
        out.push_str(rest);
    }
    out
}

/// The text with every whole number that 64 bits cannot hold as a marked string.
fn marked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut in_string) = (text, false);
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '\\' if in_string => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            '"' => {
                in_string = !in_string;
                1
            }
            '-' | '0'..='9' if !in_string => {
                let number = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
                let len = rest.find(|c| !number(c)).unwrap_or(rest.len());
                let digits = &rest[..len];
                if is_too_long(digits) {
                    out.extend(['"', MARK]);
                    out.push_str(digits);
                    out.push('"');
                    rest = &rest[len..];
                    continue;
                }
                len
            }
            other => other.len_utf8(),
        };
        out.push_str(&rest[..len]);
        rest = &rest[len..];
    }
    out
}

fn is_too_long(digits: &str) -> bool {
    let unsigned = digits.strip_prefix('-').unwrap_or(digits);
    let whole = !unsigned.starts_with('0') && unsigned.bytes().all(|byte| byte.is_ascii_digit());
    whole && digits.parse::<i64>().is_err() && digits.parse::<u64>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_keep_their_digits() {
        let text = r#"{"a": 1000000000000000019884624838656, "b": [-123456789012345678901234, 18446744073709551615],
            "c": "12345678901234567890123 \" 99999999999999999999999", "d": 1e30, "e": 0.1, "é": 7}"#;
        let printed = print(&parse(text.as_bytes()).expect("JSON"));
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
        assert_eq!(print(&parse(printed.as_bytes()).expect("JSON")), printed);
    }

    #[test]
    fn what_is_no_json_stays_an_error() {
        for text in
            ["{", "01234567890123456789012", "1234567890123456789012x", "\"\\", "{\"a\": --99999999999999999999999}"]
        {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
