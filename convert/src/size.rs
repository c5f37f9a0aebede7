//! Sizes as people write them: `5GB`, `512MiB`, `1000000`.

use crate::error::ConvertError;

/// Units, longer spellings before those they end in.
const UNITS: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

/// Bytes of a size: a positive integer with a unit or none.
///
/// # Errors
/// [`ConvertError::BadSize`] for anything else.
pub fn parse_byte_len(text: &str) -> Result<u64, ConvertError> {
    let bad = || ConvertError::BadSize(text.to_owned());
    let lower = text.trim().to_ascii_lowercase();
    let (digits, unit) = UNITS
        .iter()
        .find_map(|(name, unit)| Some((lower.strip_suffix(&name.to_ascii_lowercase())?, *unit)))
        .unwrap_or((lower.as_str(), 1));
    let digits = digits.trim_end();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let number: u64 = digits.parse().map_err(|_| bad())?;
    number.checked_mul(unit).filter(|&n| n > 0).ok_or_else(bad)
}

/// A number of bytes for people: three digits and a decimal unit.
pub fn show_byte_len(byte_len: u64) -> String {
    let (name, unit) = [("GB", 1_000_000_000_u64), ("MB", 1_000_000), ("KB", 1_000)]
        .into_iter()
        .find(|(_, unit)| byte_len >= *unit)
        .unwrap_or(("B", 1));
    if unit == 1 { format!("{byte_len} B") } else { format!("{:.2} {name}", byte_len as f64 / unit as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_write_them() {
        for (text, expected) in [("5GB", 5_000_000_000), ("512 MiB", 512 << 20), ("1kb", 1000), ("7B", 7), ("123", 123)]
        {
            assert_eq!(parse_byte_len(text).expect(text), expected);
        }
        for text in ["", "GB", "0", "-1GB", "1.5GB", "1TBx", "99999999999999999999", "99999999999GB"] {
            assert!(parse_byte_len(text).is_err(), "{text}");
        }
        assert_eq!(show_byte_len(6_672_547_120), "6.67 GB");
        assert_eq!(show_byte_len(12), "12 B");
    }
}
