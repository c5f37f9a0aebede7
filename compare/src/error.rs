//! What keeps a comparison from a verdict: everything here is exit code 2, never a divergence.

use std::fmt::Write as _;
use std::path::PathBuf;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How many violations a message spells out.
const SPELLED_OUT: usize = 100;

/// What keeps a comparison from a verdict.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A recording is unusable.
    #[error(transparent)]
    Fixture(#[from] mlxport_fixtures::FixtureError),
    /// The two were not fed the same: whatever differs then says nothing.
    #[error("{candidate} was not fed what {reference} was:{}", listed(violations))]
    OtherInputs {
        /// The reference's name.
        reference: String,
        /// The candidate's.
        candidate: String,
        /// Every input that differs: what was expected and found.
        violations: Vec<String>,
    },
    /// The file with other names is unusable, by itself or for this candidate.
    #[error("{}:{}", path.display(), listed(violations))]
    Renames {
        /// The file.
        path: PathBuf,
        /// Everything wrong with it.
        violations: Vec<String>,
    },
    /// The file with the runtime's floors is unusable, or was measured on another recording.
    #[error("{}:{}", path.display(), listed(violations))]
    RuntimeFloors {
        /// The file.
        path: PathBuf,
        /// Everything wrong with it.
        violations: Vec<String>,
    },
    /// A file beside the recordings could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

fn listed(violations: &[String]) -> String {
    let mut text = String::new();
    for violation in violations.iter().take(SPELLED_OUT) {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  - {violation}");
    }
    if violations.len() > SPELLED_OUT {
        let _ = write!(text, "\n  … and {} more", violations.len() - SPELLED_OUT);
    }
    text
}
