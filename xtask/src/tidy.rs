//! `cargo xtask tidy`: the house rules that no compiler checks, over every file that git tracks or would track.
//!
//! All violations are reported together, as `path:line: rule: what`. The rules themselves are in [`rules`].

mod circles;
mod rules;

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::cargo;

/// One file of the repository.
pub struct SourceFile {
    /// Relative to the root, with `/`.
    pub path: String,
    /// Size on disk.
    pub byte_len: u64,
    /// Its content when it is UTF-8, else nothing.
    pub text: Option<String>,
}

/// One breach of one rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    pub path: String,
    /// Counted from 1; 0 when it is about the file as a whole.
    pub line: usize,
    pub rule: &'static str,
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}: {}", self.path, self.line, self.rule, self.message)
    }
}

/// Checks the repository and prints what is wrong.
///
/// # Errors
/// When anything is, or when git cannot list the files.
pub fn run() -> Result<ExitCode> {
    let files = files(&cargo::workspace_root())?;
    let mut violations = check(&files);
    violations.extend(ci(&cargo::workspace_root(), &files));
    for violation in &violations {
        println!("{violation}");
    }
    if !violations.is_empty() {
        bail!("{} violations of the house rules in {} files", violations.len(), files.len());
    }
    println!("tidy: {} files keep the house rules", files.len());
    Ok(ExitCode::SUCCESS)
}

/// What is wrong with the files that CI reads.
fn ci(root: &Path, files: &[SourceFile]) -> Vec<Violation> {
    let text = |file: &SourceFile| file.text.clone().unwrap_or_default();
    let found = files.iter().flat_map(|file| {
        let messages = crate::workflows::lint(root, &file.path, &text(file));
        messages.into_iter().map(|message| Violation { path: file.path.clone(), line: 0, rule: "ci", message })
    });
    found.collect()
}

/// Every violation, sorted.
fn check(files: &[SourceFile]) -> Vec<Violation> {
    let mut found: Vec<_> =
        files.iter().flat_map(|file| rules::PER_FILE.iter().flat_map(move |rule| rule(file))).collect();
    found.extend(rules::total_size(files));
    found.extend(circles::circles(files));
    found.extend(rules::tests_that_run(files));
    found.sort();
    found
}

/// Tracked files, and new ones that are not ignored.
fn files(root: &Path) -> Result<Vec<SourceFile>> {
    let output = Command::new("git")
        // The repository may belong to another user, as in a container; listing it is harmless.
        .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("could not run git ls-files")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    let listing = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let names = listing.split('\0').filter(|name| !name.is_empty());
    names.filter_map(|name| read(root, name).transpose()).collect()
}

/// Nothing for what is no plain file here: links, and files deleted but not yet in the index.
fn read(root: &Path, name: &str) -> Result<Option<SourceFile>> {
    let path = root.join(name);
    if !path.symlink_metadata().is_ok_and(|found| found.is_file()) {
        return Ok(None);
    }
    let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
    let byte_len = bytes.len() as u64;
    Ok(Some(SourceFile { path: name.to_owned(), byte_len, text: String::from_utf8(bytes).ok() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_is_tidy() {
        let files = files(&cargo::workspace_root()).expect("git lists the files");
        assert!(files.iter().any(|file| file.path == "xtask/src/tidy.rs"), "this very file is looked at");
        let violations: Vec<_> = check(&files).iter().map(ToString::to_string).collect();
        assert!(violations.is_empty(), "\n{}", violations.join("\n"));
    }

    #[test]
    fn a_violation_says_where_and_what() {
        let file = SourceFile { path: "convert/src/a.rs".into(), byte_len: 1, text: Some("fn a() {}\n".into()) };
        let violations = check(&[file]);
        assert_eq!(violations.len(), 1);
        assert!(violations[0].to_string().starts_with("convert/src/a.rs:1: opening: "));
    }
}
