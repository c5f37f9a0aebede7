//! `cargo xtask bench audit`: time and peak memory of an audit, beside `cat` of the same two sides.
//!
//! A release of 6.67 GB and its 4-bit conversion are audited and read in turns: first with both in memory, then with both on disk alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use super::measure::{Measured, measure, median, warm};
use super::release::{self, Size};

/// An audit may take this many times what reading both sides once takes.
const MOST_OF_CAT: f64 = 1.5;
/// The most memory it may take.
const MOST_BYTE_LEN: u64 = 256 << 20;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Runs of each; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// A binary that is built already; without it, one is built as people get it.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// Where the files are when a run begins.
#[derive(Debug, Clone, Copy)]
struct Start {
    name: &'static str,
    prepare: fn(&Path) -> Result<()>,
}

/// Runs of both from one start.
struct Pair {
    start: &'static str,
    cat: Vec<Measured>,
    audit: Vec<Measured>,
}

/// Measures and prints.
///
/// # Errors
/// When anything cannot be made or run, or the audit finds a fault.
pub fn run(options: &Options) -> Result<ExitCode> {
    let binary = options.binary.clone().map_or_else(super::binary, Ok)?;
    let source = release::make("release", Size::default())?;
    let made = converted(&binary, &source)?;
    let files: Vec<PathBuf> = weights(&source)?.into_iter().chain(weights(&made)?).collect();
    let mut byte_len = 0;
    for file in &files {
        byte_len += fs::metadata(file)?.len();
    }
    let mut pairs = Vec::new();
    for start in starts() {
        let mut pair = Pair { start: start.name, cat: Vec::new(), audit: Vec::new() };
        // In turns, so that a machine that slows down slows both.
        for _ in 0..options.rounds.max(1) {
            pair.cat.push(once(&start, &files, Command::new("cat").args(&files))?);
            pair.audit.push(once(&start, &files, Command::new(&binary).arg("audit").args([&made, &source]))?);
        }
        pairs.push(pair);
    }
    print!("{}", report(&pairs, byte_len));
    Ok(ExitCode::SUCCESS)
}

#[cfg(target_os = "linux")]
fn starts() -> Vec<Start> {
    vec![Start { name: "warm", prepare: warm }, Start { name: "cold", prepare: super::measure::cold }]
}

#[cfg(not(target_os = "linux"))]
fn starts() -> Vec<Start> {
    eprintln!("bench: nothing is measured cold: only Linux takes files out of memory");
    vec![Start { name: "warm", prepare: warm }]
}

/// The release in 4 bits, made once.
fn converted(binary: &Path, source: &Path) -> Result<PathBuf> {
    let folder = super::folder().join("release-4bit");
    if !folder.is_dir() {
        measure(Command::new(binary).arg("convert").args([source, &folder]).args(["--quantize", "affine"]))?;
    }
    Ok(folder)
}

/// A side's weight files.
fn weights(side: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(side).with_context(|| side.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "safetensors") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn once(start: &Start, files: &[PathBuf], command: &mut Command) -> Result<Measured> {
    files.iter().try_for_each(|file| (start.prepare)(file))?;
    let run = measure(command)?;
    let name = command.get_program().to_string_lossy();
    eprintln!("bench: {} {} {:.2} s", start.name, name.rsplit('/').next().unwrap_or(&name), run.seconds);
    Ok(run)
}

/// Each pair's times, their ratio, and what processors did; the peak of all.
fn report(pairs: &[Pair], byte_len: u64) -> String {
    let gigabytes = byte_len as f64 / 1e9;
    let mut text = format!("{gigabytes:.2} GB on both sides\n");
    let verdict = |met: bool| if met { "met" } else { "MISSED" };
    for pair in pairs {
        let (Some(cat), Some(audit)) = (median(&pair.cat), median(&pair.audit)) else { continue };
        let ratio = audit.seconds / cat.seconds;
        text.push_str(&format!(
            "{}: cat {:.2} s, {}; audit {:.2} s, {}\n{}: audit ÷ cat {ratio:.2}, {} (at most {MOST_OF_CAT})\n",
            pair.start,
            cat.seconds,
            processors(cat, gigabytes),
            audit.seconds,
            processors(audit, gigabytes),
            pair.start,
            verdict(ratio <= MOST_OF_CAT),
        ));
    }
    let most = MOST_BYTE_LEN >> 20;
    match pairs.iter().flat_map(|pair| &pair.audit).filter_map(|run| run.peak_byte_len).max() {
        None => text.push_str(&format!("peak memory: not measured on this system (at most {most} MiB is asked)\n")),
        Some(peak) => {
            let met = verdict(peak <= MOST_BYTE_LEN);
            text.push_str(&format!("peak memory: {} MiB, {met} (at most {most})\n", peak >> 20));
        }
    }
    text
}

fn processors(run: Measured, gigabytes: f64) -> String {
    run.cpu_seconds.map_or("processor time not measured on this system".to_owned(), |seconds| {
        format!("{seconds:.2} s of one core ({:.1} GB/s)", gigabytes / seconds)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_is_held_against_reading() {
        let run =
            |seconds, mib: u64| Measured { seconds, peak_byte_len: Some(mib << 20), cpu_seconds: Some(2.0 * seconds) };
        let pair = |start, cat, audit| Pair { start, cat: vec![run(cat, 1)], audit: vec![run(audit, 40)] };
        let text = report(&[pair("warm", 1.0, 1.4), pair("cold", 2.0, 4.0)], 8_000_000_000);
        for expected in [
            "warm: audit ÷ cat 1.40, met (at most 1.5)",
            "cold: audit ÷ cat 2.00, MISSED (at most 1.5)",
            "audit 4.00 s, 8.00 s of one core (1.0 GB/s)",
            "peak memory: 40 MiB, met (at most 256)",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
    }
}
