//! Why a record could not be read or a report not be written.

use std::path::PathBuf;

/// Why a record could not be read or a report not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The text is no record.
    #[error("line {line}, column {column}: {message}")]
    Parse {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What was expected and found.
        message: String,
    },
    /// The record has a version that this program does not read.
    #[error("the record has schema {found}, expected {expected}")]
    Schema {
        /// What the record says.
        found: String,
        /// What this program reads.
        expected: u32,
    },
    /// The record contradicts itself.
    #[error("the record contradicts itself:{}", listed(violations))]
    Contradiction {
        /// Every contradiction: where, what was expected and found.
        violations: Vec<String>,
    },
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said, or where the text is not UTF-8.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {source}", path.display())]
    In {
        /// The file.
        path: PathBuf,
        /// What is wrong with its text.
        source: Box<ReportError>,
    },
    /// Of several records, some cannot be read.
    #[error("{} of {count} records cannot be read:\n  {}", violations.len(), violations.join("\n  "))]
    Records {
        /// How many there are.
        count: usize,
        /// Why each of them cannot be read.
        violations: Vec<String>,
    },
    /// A lockfile is not sound, or does not hold.
    #[error("{} {what}:\n  {}", path.display(), violations.join("\n  "))]
    Lock {
        /// The lockfile.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
        /// Every tap that is wrong, and how.
        violations: Vec<String>,
    },
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// How many contradictions a message spells out.
const SPELLED_OUT: usize = 20;

fn listed(violations: &[String]) -> String {
    let mut text: String = violations.iter().take(SPELLED_OUT).map(|violation| format!("\n  - {violation}")).collect();
    if violations.len() > SPELLED_OUT {
        text.push_str(&format!("\n  … and {} more", violations.len() - SPELLED_OUT));
    }
    text
}
