//! The flags of `mlxport parity` and `mlxport check` that are about the tolerance lockfile.

use std::path::PathBuf;

use mlxport_reports::{judged_by_lock, update_lock};
use mlxport_verdict::{Run, lock::Changes};

/// Flags that are about the lockfile.
#[derive(Debug, clap::Args)]
pub struct LockArgs {
    /// Judge by the tolerances locked in this file
    #[arg(long, value_name = "FILE")]
    tolerances: Option<PathBuf>,
    /// Lock what this run was allowed and measured, if it passes
    #[arg(long, requires = "tolerances", requires = "reason")]
    update: bool,
    /// Why, for those who review the lockfile
    #[arg(long, value_name = "TEXT", requires = "update", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: Option<String>,
    /// The merge base's lockfile: in CI (the variable CI is set) nothing is loosened beyond it
    #[arg(long, value_name = "FILE", requires = "update")]
    base: Option<PathBuf>,
}

impl LockArgs {
    /// Whether a lockfile is named.
    pub fn is_given(&self) -> bool {
        self.tolerances.is_some()
    }

    /// Judges `run` by the lockfile, or brings the lockfile up to date with it; without either, returns it as it is.
    ///
    /// # Errors
    /// A lockfile that cannot be read, lacks a tap, or may not be loosened.
    pub fn apply(&self, run: Run) -> anyhow::Result<Run> {
        let Some(path) = &self.tolerances else { return Ok(run) };
        if !self.update {
            return Ok(judged_by_lock(path, run)?);
        }
        let reason = self.reason.as_deref().unwrap_or_default();
        let is_in_ci = std::env::var_os("CI").is_some();
        let Changes { added, tightened, loosened, removed } =
            update_lock(path, &run, reason, self.base.as_deref(), is_in_ci)?;
        eprintln!("{}: {added} added, {tightened} tightened, {loosened} loosened, {removed} removed", path.display());
        Ok(run)
    }
}
