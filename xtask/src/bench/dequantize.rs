//! `cargo xtask bench dequantize`: a generated FP8-block release becomes bfloat16: time and peak memory, beside `cp` of the same file.
//!
//! `cp` reads and writes the release once. Dequantizing writes twice what it reads, so what `cp` took is scaled by bytes: read and written
//! here over read and written there.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use serde_json::{Map, json};

use super::measure::{Measured, measure, median, warm};

/// Dequantizing may take this many times what `cp` takes for as many bytes.
const MOST_OF_CP: f64 = 1.5;
/// The most memory it may take.
const MOST_BYTE_LEN: u64 = 64 << 20;
/// Rows and columns that share a scale.
const BLOCK: u64 = 128;
/// Width of the model, and of its feed-forward layers (no multiple of the block, as in real releases).
const WIDTH: (u64, u64) = (4096, 11_008 + 64);
/// The release's one weight file.
const WEIGHTS: &str = "model.safetensors";

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Runs of each; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Size of the release, in GB.
    #[arg(long, default_value_t = 6)]
    gigabytes: u64,
    /// A binary that is built already; without it, one is built as people get it.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// Measures and prints.
///
/// # Errors
/// When anything cannot be made or run.
pub fn run(options: &Options) -> Result<ExitCode> {
    let binary = options.binary.clone().map_or_else(super::binary, Ok)?;
    let source = make(options.gigabytes.max(1))?;
    let weights = source.join(WEIGHTS);
    let target = super::folder().join("out");
    let (mut copied, mut made) = (Vec::new(), Vec::new());
    let (mut read, mut written) = (fs::metadata(&weights)?.len(), 0);
    // Round by round, so that a machine that slows down slows both.
    for _ in 0..options.rounds.max(1) {
        copied.push(once(&weights, &target, Command::new("cp").args([&weights, &target]))?.0);
        let mut command = Command::new(&binary);
        command.arg("convert").args([&source, &target]).args(["--dequantize", "--dtype", "bf16"]);
        let (run, byte_len) = once(&weights, &target, &mut command)?;
        eprintln!("bench: dequantize {:.1} s", run.seconds);
        (read, written) = (read.max(1), byte_len);
        made.push(run);
    }
    print!("{}", report(&copied, &made, read, written));
    Ok(ExitCode::SUCCESS)
}

/// One run from the common start; what it took, and how many bytes it left.
fn once(weights: &Path, target: &Path, command: &mut Command) -> Result<(Measured, u64)> {
    super::clear(target)?;
    // Where there is no `sync`, what is left to write is written during the run.
    let _ = Command::new("sync").status();
    warm(weights)?;
    let run = measure(command);
    let byte_len = byte_len(target);
    super::clear(target)?;
    Ok((run?, byte_len))
}

fn byte_len(path: &Path) -> u64 {
    match fs::read_dir(path) {
        Err(_) => fs::metadata(path).map_or(0, |meta| meta.len()),
        Ok(entries) => entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum(),
    }
}

/// Both times, their ratio by bytes, and the peak.
fn report(copied: &[Measured], made: &[Measured], read: u64, written: u64) -> String {
    let seconds = |runs: &[Measured]| median(runs).map_or(f64::NAN, |run| run.seconds);
    let by_bytes = (read + written) as f64 / (2 * read) as f64;
    let ratio = seconds(made) / (seconds(copied) * by_bytes);
    let peak = made.iter().filter_map(|run| run.peak_byte_len).max();
    let verdict = |met: bool| if met { "met" } else { "MISSED" };
    let most = MOST_BYTE_LEN >> 20;
    let memory = match peak {
        None => format!("peak memory: not measured on this system (at most {most} MiB is asked)\n"),
        Some(peak) => {
            format!("peak memory: {} MiB, {} (at most {most})\n", peak >> 20, verdict(peak <= MOST_BYTE_LEN))
        }
    };
    format!(
        "cp: {:.1} s for {:.1} GB; dequantize: {:.1} s, {:.1} GB read, {:.1} GB written\n\
         dequantize ÷ cp of as many bytes: {ratio:.2}, {} (at most {MOST_OF_CP})\n{memory}",
        seconds(copied),
        read as f64 / 1e9,
        seconds(made),
        read as f64 / 1e9,
        written as f64 / 1e9,
        verdict(ratio <= MOST_OF_CP),
    )
}

/// Makes the release once; returns its folder.
fn make(gigabytes: u64) -> Result<PathBuf> {
    let folder = super::folder().join(format!("fp8-{gigabytes}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    let work = super::folder().join(format!("fp8-{gigabytes}.unfinished"));
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
    eprintln!("bench: writing {}", folder.display());
    let section = json!({ "quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [BLOCK, BLOCK] });
    let config = json!({ "model_type": "bench", "torch_dtype": "bfloat16", "quantization_config": section });
    fs::write(work.join("config.json"), format!("{config:#}\n"))?;
    write(&work.join(WEIGHTS), gigabytes * 1_000_000_000)?;
    fs::rename(&work, &folder)?;
    Ok(folder)
}

/// Layers of a decoder until there are so many bytes.
fn shapes(byte_len: u64) -> Vec<(String, [u64; 2])> {
    let (width, inner) = WIDTH;
    let layer = [
        ("self_attn.q_proj", [width, width]),
        ("self_attn.o_proj", [width, width]),
        ("mlp.up_proj", [inner, width]),
        ("mlp.gate_proj", [inner, width]),
        ("mlp.down_proj", [width, inner]),
    ];
    let one: u64 = layer.iter().map(|(_, [rows, cols])| rows * cols).sum();
    let layers = byte_len.div_ceil(one);
    (0..layers)
        .flat_map(|at| layer.iter().map(move |(name, shape)| (format!("model.layers.{at}.{name}.weight"), *shape)))
        .collect()
}

fn write(path: &Path, byte_len: u64) -> Result<()> {
    let (mut header, mut at) = (Map::new(), 0);
    let shapes = shapes(byte_len);
    for (key, [rows, cols]) in &shapes {
        let grid = [rows.div_ceil(BLOCK), cols.div_ceil(BLOCK)];
        let (codes, scales) = (rows * cols, grid[0] * grid[1] * 4);
        let codes_end = at + codes;
        header
            .insert(key.clone(), json!({ "dtype": "F8_E4M3", "shape": [rows, cols], "data_offsets": [at, codes_end] }));
        at = codes_end + scales;
        header.insert(
            format!("{key}_scale_inv"),
            json!({ "dtype": "F32", "shape": grid, "data_offsets": [codes_end, at] }),
        );
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let file = File::create(path).with_context(|| path.display().to_string())?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    let mut state = 7_u64;
    for (_, [rows, cols]) in &shapes {
        for _ in 0..rows * cols / 8 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Without the second bit no code is NaN.
            out.write_all(&((state ^ state >> 29) & 0xbfbf_bfbf_bfbf_bfbf).to_le_bytes())?;
        }
        for at in 0..rows.div_ceil(BLOCK) * cols.div_ceil(BLOCK) {
            out.write_all(&(1e-3 + (at % 97) as f32 * 1e-5).to_le_bytes())?;
        }
    }
    out.flush().with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_by_bytes() {
        let run = |seconds, mib: u64| Measured { seconds, peak_byte_len: Some(mib << 20), cpu_seconds: None };
        let text = report(&[run(10.0, 1)], &[run(21.0, 40)], 6_000_000_000, 12_000_000_000);
        assert!(text.contains("1.40, met (at most 1.5)") && text.contains("40 MiB, met"), "{text}");
        let text = report(&[run(10.0, 1)], &[run(30.0, 65)], 6_000_000_000, 12_000_000_000);
        assert!(text.contains("2.00, MISSED") && text.contains("65 MiB, MISSED"), "{text}");
    }

    #[test]
    fn the_release_has_the_size_asked_for() {
        let bytes: u64 = shapes(1_000_000_000).iter().map(|(_, [rows, cols])| rows * cols).sum();
        assert!((1_000_000_000..1_200_000_000).contains(&bytes), "{bytes}");
    }
}
