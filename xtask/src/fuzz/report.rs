//! What a run of libFuzzer says, in one line, and what to do about a finding.

use std::path::{Path, PathBuf};

use anyhow::Result;

/// How one target's run ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Inputs tried.
    pub executions: u64,
    /// Edges reached.
    pub edges: u64,
    /// What went wrong, if anything.
    pub finding: Option<Finding>,
}

/// Something that must not happen, happened.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// The assertion or panic, as far as the log has it.
    pub what: String,
    /// The input, where libFuzzer kept it.
    pub input: Option<PathBuf>,
    /// The whole log.
    pub log: PathBuf,
}

/// Reads libFuzzer's log.
pub fn read(log: &str, success: bool, log_path: &Path) -> Outcome {
    let number = |line: &str, before: &str| {
        let (_, rest) = line.split_once(before)?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    let last = |before: &str| log.lines().rev().find_map(|line| number(line, before)).unwrap_or(0);
    let finding = (!success).then(|| {
        let input = log.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, path)| path.into());
        Finding { what: what(log), input, log: log_path.to_owned() }
    });
    Outcome { executions: last("stat::number_of_executed_units: "), edges: last(" cov: "), finding }
}

/// The panic's message, or libFuzzer's own word for it.
fn what(log: &str) -> String {
    let mut lines = log.lines();
    let panic = lines.by_ref().find(|line| line.contains("panicked at ")).map(str::trim);
    if let Some(place) = panic {
        return format!("{place} {}", lines.next().unwrap_or_default().trim());
    }
    let summary = log.lines().find(|line| line.contains("ERROR: libFuzzer") || line.starts_with("SUMMARY: "));
    summary.map_or_else(|| "it ended without success and without saying why".to_owned(), str::to_owned)
}

/// One target's line; a finding takes a few more.
pub fn line(target: &str, outcome: &Result<Outcome>) -> String {
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return format!("fuzz: {target}: could not be run: {error:#}"),
    };
    let Some(finding) = &outcome.finding else {
        return format!("fuzz: {target}: {} inputs, {} edges, nothing found", outcome.executions, outcome.edges);
    };
    let mut text = format!("fuzz: {target}: FOUND: {}\n  log: {}", finding.what, finding.log.display());
    if let Some(input) = &finding.input {
        let input = input.display();
        text.push_str(&format!("\n  input: {input}\n  again: cargo xtask fuzz {target} --input {input}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_run_is_counted() {
        let log = "#2\tINITED cov: 90 ft: 91 corp: 1/1b\n#9\tDONE   cov: 120 ft: 300 corp: 8/1Kb\nstat::number_of_executed_units: 4321\n";
        let outcome = read(log, true, Path::new("log"));
        assert_eq!(outcome, Outcome { executions: 4321, edges: 120, finding: None });
        assert_eq!(line("index", &Ok(outcome)), "fuzz: index: 4321 inputs, 120 edges, nothing found");
    }

    #[test]
    fn a_finding_says_how_to_see_it_again() {
        let log = "\nthread '<unnamed>' panicked at fuzz/src/targets/index.rs:9:5:\nb: \"..\"\n==1== ERROR: libFuzzer: deadly signal\nartifact_prefix='x/'; Test unit written to x/crash-1\n";
        let shown = line("index", &Ok(read(log, false, Path::new("log"))));
        assert!(
            shown.contains("FOUND: thread '<unnamed>' panicked at fuzz/src/targets/index.rs:9:5: b: \"..\""),
            "{shown}"
        );
        assert!(shown.ends_with("again: cargo xtask fuzz index --input x/crash-1"), "{shown}");
        let hang = read("==1== ERROR: libFuzzer: timeout after 5 seconds\n", false, Path::new("log"));
        assert!(line("plan", &Ok(hang)).contains("timeout after 5 seconds"));
        assert!(read("", false, Path::new("log")).finding.is_some(), "no success is a finding, whatever the log says");
    }
}
