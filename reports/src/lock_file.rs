//! The tolerance lockfile on disk: read, judged by, updated by rename.

use std::path::{Path, PathBuf};

use anyhow::Context;
use mlxport_convert::files::read_bounded;
use mlxport_fixtures::sha256_hex;
use mlxport_reports::write_text;
use mlxport_verdict::{
    Lock, Run, Violation,
    lock::{Changes, MAX_LOCK_BYTE_LEN},
};

/// Flags of `mlxport parity` that are about the lockfile.
#[derive(Debug, clap::Args)]
pub struct LockArgs {
    /// Judge by the tolerances locked in this file
    #[arg(long, value_name = "FILE", conflicts_with = "mutate")]
    tolerances: Option<PathBuf>,
    /// Lock what this run was allowed and measured, if it passes
    #[arg(long, requires = "tolerances", requires = "reason", conflicts_with = "shard")]
    update: bool,
    /// Why, for those who review the lockfile
    #[arg(long, value_name = "TEXT", requires = "update", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: Option<String>,
    /// The merge base's lockfile: in CI (the variable CI is set) nothing is loosened beyond it
    #[arg(long, value_name = "FILE", requires = "update")]
    base: Option<PathBuf>,
}

impl LockArgs {
    /// Judges `run` by the lockfile, or brings the lockfile up to date with it; without either, returns it as it is.
    ///
    /// # Errors
    /// A lockfile that cannot be read, lacks a tap, or may not be loosened.
    pub fn apply(&self, run: Run) -> anyhow::Result<Run> {
        let Some(path) = &self.tolerances else { return Ok(run) };
        if !self.update {
            return judged_by(path, run);
        }
        let mut lock = if path.exists() { read(path)?.0 } else { Lock::default() };
        let base = match &self.base {
            Some(base) => Some(read(base)?.0),
            None => std::env::var_os("CI").is_some().then(|| lock.clone()),
        };
        let reason = self.reason.as_deref().unwrap_or_default();
        let changes =
            lock.update(&run, reason, base.as_ref()).map_err(|found| listed(path, "was not updated", &found))?;
        write_text(path, &lock.to_text()).with_context(|| format!("writing {}", path.display()))?;
        let Changes { added, tightened, loosened, removed } = changes;
        eprintln!("{}: {added} added, {tightened} tightened, {loosened} loosened, {removed} removed", path.display());
        Ok(run)
    }
}

/// `run` judged by the tolerances in the lockfile at `path`.
///
/// # Errors
/// The lockfile cannot be read, or does not hold for this run.
pub fn judged_by(path: &Path, run: Run) -> anyhow::Result<Run> {
    let (lock, sha256) = read(path)?;
    lock.judge(run, &sha256).map_err(|found| listed(path, "does not hold for this run", &found))
}

fn listed(path: &Path, what: &str, found: &[Violation]) -> anyhow::Error {
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("{} {what}:\n  {}", path.display(), lines.join("\n  "))
}

/// The lockfile and its SHA-256.
fn read(path: &Path) -> anyhow::Result<(Lock, String)> {
    let bytes = read_bounded(path, MAX_LOCK_BYTE_LEN).with_context(|| path.display().to_string())?;
    let sha256 = sha256_hex(&bytes);
    let text = String::from_utf8(bytes).with_context(|| path.display().to_string())?;
    let lock = Lock::parse(&text).map_err(|found| listed(path, "is not a sound lockfile", &found))?;
    Ok((lock, sha256))
}
