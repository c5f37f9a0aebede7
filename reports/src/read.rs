//! Records and ledgers on disk, read back.

use std::{
    io::{Error as IoError, ErrorKind},
    path::{Path, PathBuf},
};

use mlxport_fixtures::read_limited;
use mlxport_verdict::Run;

use crate::{Result, error::ReportError, json::from_json};

/// A record is no longer than this; the largest so far, of 877 taps, has 1 MiB.
const MAX_RECORD_BYTE_LEN: u64 = 256 << 20;
/// A ledger is no longer than this: tens of thousands of runs.
const MAX_LEDGER_BYTE_LEN: u64 = 256 << 20;

/// The record of a report directory, or in a file of its own.
///
/// # Errors
/// It cannot be read, or is no sound record (with line and column).
pub fn read_record(at: &Path) -> Result<Run> {
    // What is not there is a directory, unless it is called like a record.
    let is_file = at.is_file() || (!at.exists() && at.extension().is_some_and(|ending| ending == "json"));
    let path = if is_file { at.to_owned() } else { at.join("record.json") };
    let text = text(&path, MAX_RECORD_BYTE_LEN)?;
    from_json(&text).map_err(|error| ReportError::In { path, source: Box::new(error) })
}

/// The records of several report directories, by the directories' names.
///
/// # Errors
/// Any of them cannot be read: all of those in one message.
pub fn read_records(all: &[PathBuf]) -> Result<Vec<(String, Run)>> {
    let (mut records, mut violations) = (Vec::new(), Vec::new());
    for dir in all {
        match read_record(dir) {
            Ok(run) => records.push((dir.display().to_string(), run)),
            Err(error) => violations.push(error.to_string()),
        }
    }
    if violations.is_empty() { Ok(records) } else { Err(ReportError::Records { count: all.len(), violations }) }
}

/// The text of a ledger.
///
/// # Errors
/// It cannot be read, or is not UTF-8 (by line).
pub fn read_ledger(path: &Path) -> Result<String> {
    text(path, MAX_LEDGER_BYTE_LEN)
}

/// A file's text.
pub(crate) fn text(path: &Path, most: u64) -> Result<String> {
    let failed = |source| ReportError::Read { path: path.to_owned(), source };
    let bytes = read_limited(path, most).map_err(failed)?;
    String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        failed(IoError::new(ErrorKind::InvalidData, format!("line {line}: expected UTF-8")))
    })
}
