//! Why a release could not be had, told so that a person knows what to do next.

use std::io;
use std::path::{Path, PathBuf};

/// Why a download ended without its files. Input or environment (exit code 2), except where the disk is full ([`HubError::Io`]).
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The text is neither something on this machine nor a hub id.
    #[error("source {0}: not a file or directory, and not a hub id (owner/name or owner/name@revision)")]
    NoSuchSource(String),
    /// A variable holds something unusable.
    #[error("{variable}: expected {expected}, found {found:?}")]
    Setting {
        /// The variable.
        variable: &'static str,
        /// What it should hold.
        expected: &'static str,
        /// What it holds.
        found: String,
    },
    /// 401 or 403.
    #[error(
        "{url}: refused with status {status}: the repository is private or gated, or does not exist; put a token that may read it into HF_TOKEN ({sent})"
    )]
    Denied {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
        /// Whether a token was sent.
        sent: &'static str,
    },
    /// 404.
    #[error("{0}: not found (status 404): no such repository, revision or file at this endpoint")]
    NotFound(String),
    /// 429, still after the last try.
    #[error("{0}: too many requests (status 429); try again later, or with a token in HF_TOKEN")]
    TooMany(String),
    /// Any other status.
    #[error("{url}: unexpected status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
    },
    /// No answer, or it broke off, after the last try.
    #[error("{url}: {reason} (endpoint from HF_ENDPOINT; HF_HUB_OFFLINE=1 uses only what is in the cache)")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The server's answer breaks the protocol, or does not fit its own claims.
    #[error("{place}: expected {expected}, found {found}")]
    Answer {
        /// The address or file.
        place: String,
        /// What should have come.
        expected: String,
        /// What came.
        found: String,
    },
    /// The repository or the cache lacks what a conversion needs.
    #[error("{place}: missing {}", names.join(", "))]
    Missing {
        /// The repository, or the snapshot in the cache.
        place: String,
        /// All names that are missing.
        names: Vec<String>,
    },
    /// Another process is downloading the same file.
    #[error("{}: locked: another process is downloading this file", .0.display())]
    Locked(PathBuf),
    /// The release's index is wrong.
    #[error("{0}")]
    Index(#[source] mlxport_convert::ConvertError),
    /// The system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl HubError {
    /// Wraps a system error with what was being done to which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// An answer that is not what it should be.
    pub(crate) fn answer(place: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Answer { place: place.into(), expected: expected.into(), found: found.into() }
    }

    /// Whether another try may go better.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TooMany(_) => true,
            Self::Status { status, .. } => *status >= 500 || *status == 408,
            _ => false,
        }
    }
}
