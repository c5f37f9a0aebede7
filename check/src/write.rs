//! A check's report: for people at once, and as files.

use std::path::Path;

use anyhow::Context;
use mlxport_reports::{Style, terminal, write_report, write_text};

use crate::{judge::Judged, outcome::Outcome, page};

/// Writes each scenario's report into its folder, then the page that leads to them, then check.json.
///
/// # Errors
/// A directory or file cannot be written.
pub fn write(dir: &Path, outcome: &Outcome, judged: &[Judged]) -> anyhow::Result<()> {
    let all = || {
        std::fs::create_dir_all(dir)?;
        for one in judged {
            write_report(dir.join(&one.name), &one.run)?;
        }
        write_text(dir.join("index.html"), &page::html(outcome, judged))?;
        write_text(dir.join("check.json"), &outcome.json())?;
        anyhow::Ok(())
    };
    all().with_context(|| format!("writing the report to {}", dir.display()))
}

/// The verdict for people. The first scenario that fails is shown whole; the others' reports are files.
#[must_use]
pub fn text(outcome: &Outcome, judged: &[Judged], style: &Style) -> String {
    let mut text = outcome.text();
    if let Some(worst) = judged.iter().find(|one| one.failed()) {
        text.push_str(&format!("\n— {} —\n{}", worst.name, terminal(&worst.run, style)));
    }
    text
}
