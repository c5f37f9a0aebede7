//! `cargo xtask bench convert`: time and peak memory of a conversion, beside `cp` of the same file and beside mlx-vlm's converter.
//!
//! Every run begins with the source in memory as far as it fits and with nothing left to write back, so all begin alike. `mlxport` has
//! its files on disk when it ends (fsync); `cp` and mlx-vlm do not wait for that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Result;

use super::measure::{Measured, measure, median, warm};
use super::release::{self, Size};
use crate::mlx_vlm;

/// bf16 to bf16 may take this many times what `cp` takes.
const MOST_OF_CP: f64 = 1.0;
/// Quantizing to 4 bits may take this part of what mlx-vlm takes.
const MOST_OF_PEER: f64 = 0.25;
/// The most memory a conversion may take, whatever the model.
const MOST_BYTE_LEN: u64 = 64 << 20;
/// Experts that make a release of 60 GB.
const LARGE_EXPERTS: u64 = 770;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Runs of `cp` and of mlxport; the median counts. mlx-vlm runs once.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Convert a sparse release of 60 GB to 4 bits, too (17 GB are written).
    #[arg(long)]
    large: bool,
}

/// A way to convert, and what it took.
struct Contestant {
    name: &'static str,
    command: Box<dyn Fn(&Path) -> Command>,
    rounds: usize,
    runs: Vec<Measured>,
}

/// Measures and prints.
///
/// # Errors
/// When anything cannot be made or run.
pub fn run(options: &Options) -> Result<ExitCode> {
    let binary = super::binary()?;
    let source = release::make("release", Size::default())?;
    let mut contestants = contestants(&binary, &source, options.rounds.max(1));
    let most = contestants.iter().map(|contestant| contestant.rounds).max().unwrap_or(0);
    // Round by round, so that a machine that slows down slows all.
    for round in 0..most {
        for contestant in contestants.iter_mut().filter(|contestant| round < contestant.rounds) {
            let run = once(&source, &contestant.command)?;
            eprintln!("bench: {:<14} {:>6.1} s", contestant.name, run.seconds);
            contestant.runs.push(run);
        }
    }
    print!("{}", table(&contestants));
    if options.large {
        large(&binary)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn contestants(binary: &Path, source: &Path, rounds: usize) -> Vec<Contestant> {
    let mlxport = |name, extra: &'static [&'static str]| {
        let (binary, source) = (binary.to_owned(), source.to_owned());
        let command = move |target: &Path| {
            let mut command = Command::new(&binary);
            command.arg("convert").args([source.as_path(), target]).args(extra);
            command
        };
        Contestant { name, command: Box::new(command), rounds, runs: Vec::new() }
    };
    let weights = source.join(release::WEIGHTS);
    let cp = move |target: &Path| {
        let mut command = Command::new("cp");
        command.args([weights.as_path(), target]);
        command
    };
    let mut all = vec![
        Contestant { name: "cp", command: Box::new(cp), rounds, runs: Vec::new() },
        mlxport("mlxport bf16", &[]),
        mlxport("mlxport 4 bit", &["--quantize", "affine"]),
    ];
    let Some(python) = mlx_vlm::installed() else {
        eprintln!("bench: mlx-vlm is not run: `cargo xtask mlx-vlm` installs it");
        return all;
    };
    let peers: [(_, &[&str]); 2] = [("mlx-vlm bf16", &[]), ("mlx-vlm 4 bit", &["--bits", "4"])];
    all.extend(peers.map(|(name, extra)| {
        let (python, source) = (python.clone(), source.to_owned());
        let command = move |target: &Path| mlx_vlm::convert(&python, &source, target, extra);
        Contestant { name, command: Box::new(command), rounds: 1, runs: Vec::new() }
    }));
    all
}

/// One run from the common start; what it wrote is removed.
fn once(source: &Path, command: &dyn Fn(&Path) -> Command) -> Result<Measured> {
    let target = super::folder().join("out");
    super::clear(&target)?;
    // Where there is no `sync`, what is left to write is written during the run.
    let _ = Command::new("sync").status();
    warm(&source.join(release::WEIGHTS))?;
    let run = measure(&mut command(&target));
    super::clear(&target)?;
    run
}

/// All figures, and how they stand to what is asked.
fn table(contestants: &[Contestant]) -> String {
    let of = |name: &str| contestants.iter().find(|one| one.name == name).and_then(|one| median(&one.runs));
    let mut text = "\n                 median   fastest   slowest     peak   ÷ cp   ÷ mlx-vlm\n".to_owned();
    for Contestant { name, runs, .. } in contestants {
        let Some(middle) = median(runs) else { continue };
        let seconds = runs.iter().map(|run| run.seconds);
        let (fastest, slowest) = (seconds.clone().fold(f64::MAX, f64::min), seconds.fold(0.0, f64::max));
        let peak = runs.iter().filter_map(|run| run.peak_byte_len).max();
        let peak = peak.map_or("unknown".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
        let ratio = |other: Option<Measured>| {
            other.map_or("-".to_owned(), |other| format!("{:.2}", middle.seconds / other.seconds))
        };
        let peer = name.strip_prefix("mlxport").and_then(|kind| of(&format!("mlx-vlm{kind}")));
        text.push_str(&format!(
            "{name:<14} {:>6.1} s  {fastest:>6.1} s  {slowest:>6.1} s {peak:>8}  {:>5}  {:>10}\n",
            middle.seconds,
            ratio(of("cp")),
            ratio(peer),
        ));
    }
    text.push('\n');
    let ratio = |one: &str, other: &str| Some(of(one)?.seconds / of(other)?.seconds);
    text.push_str(&target("bf16 ÷ cp", ratio("mlxport bf16", "cp"), MOST_OF_CP));
    text.push_str(&target("4 bit ÷ mlx-vlm", ratio("mlxport 4 bit", "mlx-vlm 4 bit"), MOST_OF_PEER));
    let own = contestants.iter().filter(|one| one.name.starts_with("mlxport"));
    let peak = own.flat_map(|one| &one.runs).filter_map(|run| run.peak_byte_len).max();
    text.push_str(&memory(peak));
    text
}

fn target(what: &str, found: Option<f64>, most: f64) -> String {
    match found {
        None => format!("{what}: not measured (at most {most} is asked)\n"),
        Some(found) => format!("{what}: {found:.2}, {} (at most {most})\n", verdict(found <= most)),
    }
}

fn memory(peak: Option<u64>) -> String {
    let most = MOST_BYTE_LEN >> 20;
    match peak {
        None => format!("peak memory: not measured on this system (at most {most} MiB is asked)\n"),
        Some(peak) => format!("peak memory: {} MiB, {} (at most {most})\n", peak >> 20, verdict(peak <= MOST_BYTE_LEN)),
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

/// A checkpoint that no memory holds.
fn large(binary: &Path) -> Result<()> {
    let size = Size { experts: Some(LARGE_EXPERTS), sparse: true, ..Size::default() };
    let source: PathBuf = release::make("large", size)?;
    let byte_len = fs::metadata(source.join(release::WEIGHTS))?.len();
    let target = super::folder().join("out");
    super::clear(&target)?;
    let run =
        measure(Command::new(binary).arg("convert").args([source.as_path(), &target]).args(["--quantize", "affine"]));
    super::clear(&target)?;
    let run = run?;
    println!("{:.1} GB, sparse, to 4 bit: {:.1} s", byte_len as f64 / 1e9, run.seconds);
    print!("{}", memory(run.peak_byte_len));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_against_cp_and_the_like_of_the_peer() {
        let run = |seconds, mib: u64| Measured { seconds, peak_byte_len: Some(mib << 20), cpu_seconds: None };
        let one = |name, runs| Contestant { name, command: Box::new(|_| Command::new("true")), rounds: 1, runs };
        let contestants = [
            one("cp", vec![run(10.0, 1)]),
            one("mlxport bf16", vec![run(12.0, 40), run(11.0, 300), run(30.0, 40)]),
            one("mlxport 4 bit", vec![run(5.0, 30)]),
            one("mlx-vlm 4 bit", vec![run(10.0, 4000)]),
        ];
        let text = table(&contestants);
        for expected in [
            "bf16 ÷ cp: 1.20, MISSED (at most 1)",
            "4 bit ÷ mlx-vlm: 0.50, MISSED (at most 0.25)",
            "peak memory: 300 MiB, MISSED (at most 64)",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        assert!(table(&contestants[..2]).contains("4 bit ÷ mlx-vlm: not measured"));
    }
}
