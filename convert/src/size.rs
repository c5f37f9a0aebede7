//! Sizes as people write and read them: `5GB`, `512MiB`, `1000000`.

use bytesize::ByteSize;

/// Bytes of a size: a positive number with a unit (KB, MiB, …) or none.
///
/// # Errors
/// What was expected, for anything else.
pub fn parse_byte_len(text: &str) -> Result<u64, String> {
    let bad = || format!("{text}: not a size; write a number of bytes, or one with KB, MB, GB, KiB, MiB or GiB");
    let size: ByteSize = text.trim().parse().map_err(|_| bad())?;
    // A size that does not fit is read as the largest one.
    if matches!(size.as_u64(), 0 | u64::MAX) { Err(bad()) } else { Ok(size.as_u64()) }
}

/// A number of bytes for people: two decimals and a decimal unit.
pub fn show_byte_len(byte_len: u64) -> String {
    format!("{:.2}", ByteSize(byte_len).display().si())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_write_them() {
        for (text, expected) in [
            ("5GB", 5_000_000_000),
            ("512 MiB", 512 << 20),
            ("1kb", 1000),
            ("7B", 7),
            ("123", 123),
            ("1.5GB", 1_500_000_000),
        ] {
            assert_eq!(parse_byte_len(text).expect(text), expected);
        }
        for text in ["", "GB", "0", "-1GB", "1TBx", "99999999999999999999", "99999999999GB", "nan", "1e999"] {
            assert!(parse_byte_len(text).is_err(), "{text}");
        }
        assert_eq!(show_byte_len(6_672_547_120), "6.67 GB");
        assert_eq!(show_byte_len(12), "12 B");
    }
}
