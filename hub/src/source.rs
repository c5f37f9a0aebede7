//! What a person wrote as SRC: a path of this machine or a hub id.

use std::path::{Path, PathBuf};

use crate::HubError;

/// The longest owner, name or revision that is taken for one, in bytes.
const MAX_PART_BYTE_LEN: usize = 96;

/// Where a release comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file or directory of this machine (or a path that was meant as one; reading it says what is wrong).
    Local(PathBuf),
    /// A repository on a hub.
    Hub(HubId),
}

/// A model repository at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubId {
    /// `owner/name`.
    pub repo: String,
    /// Branch, tag or commit; `main` where none was given.
    pub revision: String,
}

impl Source {
    /// Reads SRC. What exists here always wins; absolute paths and those that begin with `.` or `~` are never hub ids.
    ///
    /// # Errors
    /// [`HubError::NoSuchSource`] when it is neither.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let path = Path::new(text);
        if path.exists() || path.is_absolute() || text.starts_with(['.', '~']) {
            return Ok(Self::Local(path.to_owned()));
        }
        let (repo, revision) = text.split_once('@').unwrap_or((text, "main"));
        let is_id = repo.split_once('/').is_some_and(|(owner, name)| is_part(owner) && is_part(name));
        if !is_id || !is_revision(revision) {
            return Err(HubError::NoSuchSource(text.to_owned()));
        }
        Ok(Self::Hub(HubId { repo: repo.to_owned(), revision: revision.to_owned() }))
    }
}

/// The hub's rule for owners and names: letters, digits, `-`, `_`, `.`; no `-` or `.` at either end, no `--` and no `..`.
fn is_part(part: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=MAX_PART_BYTE_LEN).contains(&part.len())
        && part.chars().all(allowed)
        && !part.starts_with(['-', '.'])
        && !part.ends_with(['-', '.'])
        && !part.contains("--")
        && !part.contains("..")
}

/// Branches may have slashes (`refs/pr/1`); nothing in one may leave the cache's `refs/` or need escaping in an address.
fn is_revision(revision: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    revision.len() <= MAX_PART_BYTE_LEN
        && revision.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && part.chars().all(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_revisions() {
        for (text, repo, revision) in [
            ("deepseek-ai/DeepSeek-OCR", "deepseek-ai/DeepSeek-OCR", "main"),
            ("a/b.c_d@v1.0", "a/b.c_d", "v1.0"),
            ("a/b@refs/pr/1", "a/b", "refs/pr/1"),
        ] {
            let id = HubId { repo: repo.into(), revision: revision.into() };
            assert_eq!(Source::parse(text).expect("an id"), Source::Hub(id));
        }
    }

    #[test]
    fn paths_win_and_the_rest_is_nothing() {
        for text in ["./a/b", "../a/b", "/no/such", "src/lib.rs", "~/x"] {
            assert_eq!(Source::parse(text).expect("a path"), Source::Local(text.into()), "{text}");
        }
        for text in ["", "a", "a/b/c", "a/", "/", "a/..", "a/b@", "a/b@../x", "a/b@x//y", "a/b?c", "a--b/c", "a/b@x@y"]
        {
            let local = matches!(Source::parse(text), Ok(Source::Local(_)));
            assert!(local == (text == "/") && !matches!(Source::parse(text), Ok(Source::Hub(_))), "{text}");
        }
    }
}
