//! The house rules, each one small function from a file to its violations.
//!
//! Forbidden words are written in two halves, so that this file does not break its own rules.

use super::{SourceFile, Violation};

/// A rule that looks at one file.
pub type Rule = fn(&SourceFile) -> Vec<Violation>;

/// All rules that look at one file.
pub const PER_FILE: [Rule; 9] =
    [opening, length, leftovers, machine_paths, hosts, whitespace, mlx_only_in_its_rooms, quiet_libraries, lints];

const MAX_LINES: usize = 400;
const MAX_TOTAL_BYTES: u64 = 32_000_000;

/// Every Rust file opens by saying what it is.
fn opening(file: &SourceFile) -> Vec<Violation> {
    match rust(file) {
        Some(text) if !text.starts_with("//!") => {
            vec![violation(file, 1, "opening", "must open with `//!` and what the file is")]
        }
        _ => Vec::new(),
    }
}

/// One file tells one story.
fn length(file: &SourceFile) -> Vec<Violation> {
    let is_code = ["rs", "py", "sh", "cpp", "hpp", "h"].contains(&extension(file));
    let count = file.text.as_deref().map_or(0, |text| text.lines().count());
    if is_code && count > MAX_LINES {
        return vec![violation(file, MAX_LINES + 1, "length", &format!("{count} lines; at most {MAX_LINES}"))];
    }
    Vec::new()
}

/// Nothing unfinished and no test switched off.
fn leftovers(file: &SourceFile) -> Vec<Violation> {
    let words = [concat!("to", "do!("), concat!("un", "implemented!("), concat!("#[ig", "nore"), concat!("db", "g!(")];
    match rust(file) {
        Some(text) => containing(file, text, "leftovers", &words),
        None => Vec::new(),
    }
}

/// Nothing that is true on one machine only.
fn machine_paths(file: &SourceFile) -> Vec<Violation> {
    let words = [
        concat!("/wo", "rk/"),
        concat!("/fa", "rm/"),
        concat!("/tm", "p/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
    ];
    let text = file.text.as_deref().unwrap_or_default();
    let mut found = Vec::new();
    for (line, content) in numbered(text) {
        for word in words {
            if starts_a_path(content, word) {
                found.push(violation(file, line, "machine-path", &format!("names `{word}`")));
            }
        }
    }
    found
}

/// Whether `word` begins an absolute path in `content`, and is no part of a longer one such as `a/b`.
fn starts_a_path(content: &str, word: &str) -> bool {
    content.match_indices(word).any(|(at, _)| {
        let before = content[..at].chars().next_back();
        !before.is_some_and(|last| last.is_alphanumeric() || "._-}~*>)".contains(last))
    })
}

/// Configs name packages, never the host they come from.
fn hosts(file: &SourceFile) -> Vec<Violation> {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    let is_config = ["toml", "lock", "yml", "yaml", "cfg", "ini", "conf"].contains(&extension(file))
        || (name.starts_with("requirements") && extension(file) == "txt");
    if !is_config {
        return Vec::new();
    }
    let text = file.text.as_deref().unwrap_or_default();
    let urls = [concat!("http", "://"), concat!("https", "://")];
    let mut found = Vec::new();
    for (line, content) in numbered(text) {
        if urls.iter().any(|url| content.contains(url)) && !is_usual_address(content) {
            found.push(violation(file, line, "host", "a config must not name a registry or any other host"));
        }
    }
    found
}

/// What cargo itself writes for crates.io, and a package's own page.
fn is_usual_address(line: &str) -> bool {
    let line = line.trim();
    line == concat!("source = \"registry+https", "://github.com/rust-lang/crates.io-index\"")
        || ["repository = ", "homepage = ", "documentation = "].iter().any(|key| line.starts_with(key))
}

/// Plain text is clean; recordings, snapshots, test data and fuzz inputs are kept as they were made.
fn whitespace(file: &SourceFile) -> Vec<Violation> {
    let Some(text) = &file.text else { return Vec::new() };
    let kept = ["fixtures/data/", "fuzz/seeds/", "fuzz/findings/"];
    let as_made = kept.iter().any(|folder| file.path.starts_with(folder)) || file.path.contains("/testdata/");
    if as_made || extension(file) == "snap" {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (line, content) in numbered(text) {
        if content.ends_with([' ', '\t', '\r']) {
            found.push(violation(file, line, "whitespace", "ends with blanks"));
        }
        if extension(file) == "rs" && content.contains('\t') {
            found.push(violation(file, line, "whitespace", "holds a tab"));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        found.push(violation(file, text.lines().count(), "whitespace", "the last line has no end"));
    }
    found
}

/// Only the model and the parity room see MLX, so that everything else builds anywhere.
fn mlx_only_in_its_rooms(file: &SourceFile) -> Vec<Violation> {
    const RULE: &str = "mlx-rooms";
    if file.path.starts_with("model/") || file.path.starts_with("parity/") {
        return Vec::new();
    }
    if let Some(text) = rust(file) {
        let uses =
            [concat!("mlx", "_rs::"), concat!("use mlx", "_rs"), concat!("mlx", "_sys::"), concat!("use mlx", "_sys")];
        let mut found = containing(file, text, RULE, &uses);
        // `use a::b` holds two of these words; one report a line is enough.
        found.dedup_by_key(|violation| violation.line);
        return found;
    }
    if !is_manifest(file) {
        return Vec::new();
    }
    let crates = [concat!("mlx", "-rs"), concat!("mlx", "-sys")];
    let text = file.text.as_deref().unwrap_or_default();
    let mut section = "";
    let mut found = Vec::new();
    for (line, content) in numbered(text) {
        let content = content.trim();
        if content.starts_with('[') {
            section = content;
        }
        let names_it = crates.iter().any(|name| content.starts_with(name) || content.ends_with(&format!(".{name}]")));
        // The workspace's table only fixes versions; it makes nobody depend on them.
        if names_it && section != "[workspace.dependencies]" {
            found.push(violation(file, line, RULE, "only model/ and parity/ may depend on MLX"));
        }
    }
    found
}

/// Libraries return values and errors; the binary and the chores talk and end processes.
fn quiet_libraries(file: &SourceFile) -> Vec<Violation> {
    // A build script talks to cargo on stdout.
    if file.path.starts_with("src/") || file.path.starts_with("xtask/") || file.path.ends_with("/build.rs") {
        return Vec::new();
    }
    let words = ["println!(", "eprintln!(", "print!(", "eprint!(", "process::exit("];
    let Some(text) = rust(file) else { return Vec::new() };
    let mut found = Vec::new();
    for (line, content) in numbered(text) {
        let is_comment = content.trim_start().starts_with("//");
        // Of `eprintln!(` and the `println!(` inside it, one report is enough.
        if let Some(word) = words.iter().find(|word| content.contains(*word)).filter(|_| !is_comment) {
            found.push(violation(file, line, "quiet", &format!("`{word}…)`: only src/ and xtask/ may")));
        }
    }
    found
}

/// Every package keeps the workspace's lints.
fn lints(file: &SourceFile) -> Vec<Violation> {
    let text = file.text.as_deref().unwrap_or_default();
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    if !is_manifest(file) || !lines.contains(&"[package]") {
        return Vec::new();
    }
    let takes_part = lines.windows(2).any(|pair| pair == ["[lints]", "workspace = true"]);
    if takes_part {
        return Vec::new();
    }
    vec![violation(file, lines.len(), "lints", "needs `[lints]` with `workspace = true`")]
}

/// The repository stays small enough to clone without thinking.
pub fn total_size(files: &[SourceFile]) -> Vec<Violation> {
    let total: u64 = files.iter().map(|file| file.byte_len).sum();
    if total <= MAX_TOTAL_BYTES {
        return Vec::new();
    }
    let Some(largest) = files.iter().max_by_key(|file| file.byte_len) else { return Vec::new() };
    let message = format!(
        "all files together have {total} bytes, at most {MAX_TOTAL_BYTES}; this is the largest ({})",
        largest.byte_len
    );
    vec![violation(largest, 0, "size", &message)]
}

/// Every file of a test program is one of its modules; one that `main.rs` does not name would never run.
pub fn tests_that_run(files: &[SourceFile]) -> Vec<Violation> {
    let mut found = Vec::new();
    for main in files.iter().filter(|file| file.path.ends_with("tests/it/main.rs")) {
        let folder = main.path.trim_end_matches("main.rs");
        let text = main.text.as_deref().unwrap_or_default();
        for file in files.iter().filter(|file| file.path != main.path) {
            let module = file.path.strip_prefix(folder).and_then(|name| name.strip_suffix(".rs"));
            let Some(module) = module.filter(|name| !name.contains('/')) else { continue };
            if !text.lines().any(|line| line == format!("mod {module};")) {
                found.push(violation(file, 0, "tests", &format!("never runs: {} has no `mod {module};`", main.path)));
            }
        }
    }
    found
}

fn violation(file: &SourceFile, line: usize, rule: &'static str, message: &str) -> Violation {
    Violation { path: file.path.clone(), line, rule, message: message.to_owned() }
}

fn containing(file: &SourceFile, text: &str, rule: &'static str, words: &[&str]) -> Vec<Violation> {
    let mut found = Vec::new();
    for (line, content) in numbered(text) {
        for word in words.iter().filter(|word| content.contains(**word)) {
            found.push(violation(file, line, rule, &format!("holds `{word}`")));
        }
    }
    found
}

/// Lines with their numbers from 1; unlike `lines`, a carriage return stays visible.
fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split('\n').enumerate().map(|(at, content)| (at + 1, content))
}

fn rust(file: &SourceFile) -> Option<&str> {
    file.text.as_deref().filter(|_| extension(file) == "rs")
}

fn extension(file: &SourceFile) -> &str {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    name.rsplit_once('.').map_or("", |(_, extension)| extension)
}

fn is_manifest(file: &SourceFile) -> bool {
    file.path == "Cargo.toml" || file.path.ends_with("/Cargo.toml")
}

#[cfg(test)]
mod tests;
