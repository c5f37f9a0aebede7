//! Chores that are a row of commands: each is timed, the first that fails is named, a summary ends the row.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A row of stages under way.
pub struct Stages {
    chore: &'static str,
    done: Vec<(&'static str, Duration)>,
    not_run: Vec<(&'static str, String)>,
    begun: Instant,
}

impl Stages {
    /// Begins a row; `chore` names it in the summary.
    pub fn begin(chore: &'static str) -> Self {
        Self { chore, done: Vec::new(), not_run: Vec::new(), begun: Instant::now() }
    }

    /// Runs one stage.
    ///
    /// # Errors
    /// The stage's own error, with the stage named; the summary is printed first.
    pub fn run(&mut self, name: &'static str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        eprintln!("── {}: {name}", self.chore);
        let begun = Instant::now();
        let outcome = work();
        self.done.push((name, begun.elapsed()));
        outcome.map_err(|error| {
            eprint!("{}", self.summary("FAILED"));
            error.context(format!("stage `{name}` of `cargo xtask {}` failed", self.chore))
        })
    }

    /// Notes a stage that this machine cannot run; the summary says so, with the reason.
    pub fn not_run(&mut self, name: &'static str, reason: String) {
        self.not_run.push((name, reason));
    }

    /// Ends the row: everything that ran went well.
    ///
    /// # Errors
    /// Where continuous integration says that it is at work (`CI` is set) and a stage could not run there: green would then say too much.
    pub fn end(self) -> Result<ExitCode> {
        eprint!("{}", self.summary("ok"));
        let names: Vec<&str> = self.not_run.iter().map(|(name, _)| *name).collect();
        if std::env::var_os("CI").is_some() && !names.is_empty() {
            bail!("not run: {} (CI is set, so every stage of `cargo xtask {}` must run)", names.join(", "), self.chore);
        }
        Ok(ExitCode::SUCCESS)
    }

    /// One line per stage; `last` says how the last one that ran ended.
    fn summary(&self, last: &str) -> String {
        let width = self.done.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let mut text = format!("── {}: summary\n", self.chore);
        for (at, (name, took)) in self.done.iter().enumerate() {
            let outcome = if at + 1 == self.done.len() { last } else { "ok" };
            text.push_str(&format!("  {name:width$}  {:>7.1} s  {outcome}\n", took.as_secs_f64()));
        }
        for (name, reason) in &self.not_run {
            text.push_str(&format!("  {name:width$}  not run: {reason}\n"));
        }
        text.push_str(&format!("  {:width$}  {:>7.1} s\n", "all", self.begun.elapsed().as_secs_f64()));
        text
    }
}

/// Runs a command with this terminal as its own.
///
/// # Errors
/// When it cannot be started or does not end with success.
pub fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("could not run {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs a command with this terminal as its own and returns its exit code; a signal counts as 255.
///
/// # Errors
/// When it cannot be started.
pub fn exit_code(command: &mut Command) -> Result<u8> {
    let status = command.status().with_context(|| format!("could not run {}", shown(command)))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

fn shown(command: &Command) -> String {
    let mut text = format!("`{}", command.get_program().display());
    for argument in command.get_args() {
        text.push_str(&format!(" {}", argument.display()));
    }
    text + "`"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_stage_is_named_and_ends_the_row() {
        let mut stages = Stages::begin("test");
        stages.run("first", || Ok(())).expect("goes well");
        let error = stages.run("second", || bail!("broken")).expect_err("fails");
        assert_eq!(format!("{error:#}"), "stage `second` of `cargo xtask test` failed: broken");
        stages.not_run("third", "no compiler".into());
        let summary = stages.summary("FAILED");
        assert!(
            summary.lines().any(|line| line.contains("third ") && line.ends_with("not run: no compiler")),
            "{summary}"
        );
        assert_eq!(summary.matches("FAILED").count(), 1);
        assert!(summary.lines().any(|line| line.contains("first ") && line.ends_with("ok")));
    }

    #[cfg(unix)]
    #[test]
    fn exit_codes_are_passed_on() {
        let code = |script: &str| exit_code(Command::new("sh").args(["-c", script]));
        assert_eq!(code("exit 0").expect("sh runs"), 0);
        assert_eq!(code("exit 3").expect("sh runs"), 3);
        assert_eq!(code("kill -9 $$").expect("sh runs"), u8::MAX);
        assert!(succeed(Command::new("sh").args(["-c", "exit 1"])).is_err());
        assert!(exit_code(&mut Command::new("mlxport-no-such-program")).is_err());
    }
}
