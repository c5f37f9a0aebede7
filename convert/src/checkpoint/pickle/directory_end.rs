//! The record at the end of a zip archive, checked before the `zip` crate allocates by what it claims.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::{Violation, ViolationKind};

/// The most entries an archive may have: two for each of 60,000 tensors.
pub const MAX_ENTRIES: u64 = 1 << 17;
/// The longest central directory, in bytes.
pub const MAX_DIRECTORY_BYTE_LEN: u64 = 16 << 20;

const END_BYTE_LEN: u64 = 22;
const LOCATOR_BYTE_LEN: u64 = 20;
const END64_BYTE_LEN: u64 = 56;

/// Where the central directory lies and what it holds.
#[derive(Debug, Clone, Copy)]
struct Claim {
    entries: u64,
    byte_len: u64,
    start: u64,
    /// Where the record itself begins.
    end: u64,
}

/// Checks that the archive ends as `torch.save` ends one (no comment, one directory right before the record), and that what the
/// record claims fits. Gives the directory's length in bytes.
///
/// # Errors
/// One violation.
pub fn check(file: &File, name: &str, file_byte_len: u64) -> Result<u64, Violation> {
    let bad = |kind, expected: &str, found: String| Violation::new(kind, name, expected, found);
    let tail_byte_len = file_byte_len.min(END_BYTE_LEN + LOCATOR_BYTE_LEN + END64_BYTE_LEN);
    let mut tail = vec![0; tail_byte_len as usize];
    let tail_start = file_byte_len - tail_byte_len;
    file.read_exact_at(&mut tail, tail_start)
        .map_err(|error| bad(ViolationKind::BadHeader, "a readable archive", error.to_string()))?;
    let end = tail.len().checked_sub(END_BYTE_LEN as usize).map(|at| &tail[at..]);
    let Some(end) = end.filter(|end| end.starts_with(b"PK\x05\x06") && number(end, 20, 2) == 0) else {
        let expected = "a zip archive's directory at the end of the file";
        return Err(bad(ViolationKind::TruncatedFile, expected, "none: the file is cut off or was appended to".into()));
    };
    let narrow = Claim {
        entries: number(end, 10, 2),
        byte_len: number(end, 12, 4),
        start: number(end, 16, 4),
        end: file_byte_len - END_BYTE_LEN,
    };
    let wide = wide(&tail, file_byte_len);
    let is_open = narrow.entries == 0xffff || narrow.byte_len == 0xffff_ffff || narrow.start == 0xffff_ffff;
    let claim = match (wide, is_open) {
        (Some(wide), _) => wide,
        (None, false) => narrow,
        (None, true) => return Err(bad(ViolationKind::BadHeader, "a zip64 record", "none".into())),
    };
    // The crate may use either record, so the narrow one must agree wherever it says something.
    let agrees = |narrow: u64, open: u64, value: u64| narrow == open || narrow == value;
    let fits = claim.entries <= MAX_ENTRIES
        && claim.byte_len <= MAX_DIRECTORY_BYTE_LEN
        && claim.start.checked_add(claim.byte_len) == Some(claim.end)
        && agrees(narrow.entries, 0xffff, claim.entries)
        && agrees(narrow.byte_len, 0xffff_ffff, claim.byte_len)
        && agrees(narrow.start, 0xffff_ffff, claim.start);
    if fits {
        return Ok(claim.byte_len);
    }
    let expected = format!(
        "a directory of at most {MAX_ENTRIES} entries and {MAX_DIRECTORY_BYTE_LEN} bytes that ends at byte {}",
        claim.end
    );
    let found = format!("{} entries, {} bytes from byte {}", claim.entries, claim.byte_len, claim.start);
    Err(bad(ViolationKind::BadHeader, &expected, found))
}

/// The zip64 record, where its locator stands before the end record and points right before itself.
fn wide(tail: &[u8], file_byte_len: u64) -> Option<Claim> {
    let record = tail.len().checked_sub((END_BYTE_LEN + LOCATOR_BYTE_LEN + END64_BYTE_LEN) as usize)?;
    let (record, locator) = (&tail[record..], &tail[record + END64_BYTE_LEN as usize..]);
    let end = file_byte_len - END_BYTE_LEN - LOCATOR_BYTE_LEN - END64_BYTE_LEN;
    let is_one =
        record.starts_with(b"PK\x06\x06") && locator.starts_with(b"PK\x06\x07") && number(locator, 8, 8) == end;
    is_one.then(|| Claim {
        entries: number(record, 32, 8),
        byte_len: number(record, 40, 8),
        start: number(record, 48, 8),
        end,
    })
}

/// `byte_len` little-endian bytes at `at`.
fn number(bytes: &[u8], at: usize, byte_len: usize) -> u64 {
    bytes[at..at + byte_len].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}
