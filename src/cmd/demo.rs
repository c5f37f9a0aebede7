//! `mlxport demo`: the main job on data that the binary carries. It converts a small checkpoint, checks every layer, writes the report.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;

/// The recording `fixtures/data/tiny-small`, file by file, with its checkpoint: a random DeepSeek-OCR of 0.6 MB and what PyTorch computed with it.
const RECORDING: [(&str, &[u8]); 5] = [
    ("checkpoint/config.json", include_bytes!("../../fixtures/data/tiny-small/checkpoint/config.json")),
    ("checkpoint/model.safetensors", include_bytes!("../../fixtures/data/tiny-small/checkpoint/model.safetensors")),
    ("activations.safetensors", include_bytes!("../../fixtures/data/tiny-small/activations.safetensors")),
    ("inputs.safetensors", include_bytes!("../../fixtures/data/tiny-small/inputs.safetensors")),
    ("manifest.json", include_bytes!("../../fixtures/data/tiny-small/manifest.json")),
];

/// This file in a directory says that a demo made it, so the next demo may use it again.
const MARKER: &str = ".mlxport-demo";

/// Flags of `mlxport demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory for the recording, the converted model and the report
    #[arg(long, value_name = "DIR", default_value = "mlxport-demo")]
    out: PathBuf,
}

/// Converts the carried checkpoint, compares the model with PyTorch's recording, and writes the report. The exit code is the verdict's.
///
/// # Errors
/// When the directory belongs to someone else or cannot be written, and whatever `convert` and `parity` report.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let recording = args.out.join("tiny-small");
    claim(&args.out)?;
    for (name, bytes) in RECORDING {
        write(&recording.join(name), bytes)?;
    }
    let path = |parts: &[&str]| parts.iter().fold(args.out.clone(), |dir, part| dir.join(part)).display().to_string();
    let (checkpoint, model, report) = (path(&["tiny-small", "checkpoint"]), path(&["model"]), path(&["report"]));
    let steps = [
        vec!["convert", &checkpoint, &model, "--force"],
        vec![
            "parity",
            "--model",
            &model,
            "--fixture",
            recording.to_str().context("the directory's name is not UTF-8")?,
            "--report",
            &report,
        ],
    ];
    let mut verdict = ExitCode::SUCCESS;
    for step in steps {
        eprintln!("\n$ mlxport {}", step.join(" "));
        verdict = crate::dispatch(crate::Cli::try_parse_from(std::iter::once("mlxport").chain(step))?.command)?;
        if verdict != ExitCode::SUCCESS {
            break;
        }
    }
    let page = args.out.join("report/report.html");
    if page.is_file() {
        eprintln!("\nOpen {} in a browser to see every tensor.", page.display());
    }
    Ok(verdict)
}

/// Makes the directory, or takes it again when a demo made it.
fn claim(out: &Path) -> anyhow::Result<()> {
    let is_taken = fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some());
    anyhow::ensure!(
        !is_taken || out.join(MARKER).is_file(),
        "{}: this directory holds files that no demo made; name another one with --out",
        out.display()
    );
    write(&out.join(MARKER), b"Made by `mlxport demo`, which may replace what lies here.\n")
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}
