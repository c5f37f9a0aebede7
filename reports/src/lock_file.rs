//! The tolerance lockfile on disk: read, judged by, updated by rename.

use std::path::Path;

use mlxport_fixtures::sha256_hex;
use mlxport_verdict::{
    Lock, Run, Violation,
    lock::{Changes, MAX_LOCK_BYTE_LEN},
};

use crate::{Result, error::ReportError, read::text, write::write_text};

/// `run` judged by the tolerances in the lockfile at `path`.
///
/// # Errors
/// The lockfile cannot be read, or does not hold for this run.
pub fn judged_by_lock(path: &Path, run: Run) -> Result<Run> {
    let (lock, sha256) = read(path)?;
    lock.judge(run, &sha256).map_err(|found| listed(path, "does not hold for this run", &found))
}

/// Locks in the file at `path`, which is made if it is not there, what `run` was allowed and measured. Nothing is loosened beyond `base`; where
/// there is none and `keeps_tolerances`, beyond what is locked already.
///
/// # Errors
/// A lockfile cannot be read, or may not be loosened so.
pub fn update_lock(
    path: &Path,
    run: &Run,
    reason: &str,
    base: Option<&Path>,
    keeps_tolerances: bool,
) -> Result<Changes> {
    let mut lock = if path.exists() { read(path)?.0 } else { Lock::default() };
    let base = match base {
        Some(base) => Some(read(base)?.0),
        None => keeps_tolerances.then(|| lock.clone()),
    };
    let changes = lock.update(run, reason, base.as_ref()).map_err(|found| listed(path, "was not updated", &found))?;
    write_text(path, &lock.to_text())?;
    Ok(changes)
}

fn listed(path: &Path, what: &'static str, found: &[Violation]) -> ReportError {
    let violations = found.iter().map(ToString::to_string).collect();
    ReportError::Lock { path: path.to_owned(), what, violations }
}

/// The lockfile and its SHA-256.
fn read(path: &Path) -> Result<(Lock, String)> {
    let text = text(path, MAX_LOCK_BYTE_LEN)?;
    let lock = Lock::parse(&text).map_err(|found| listed(path, "is not a sound lockfile", &found))?;
    Ok((lock, sha256_hex(text.as_bytes())))
}
