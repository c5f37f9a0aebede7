//! `mlxport check`: is this MLX port right? The Python package runs PyTorch and the port; this judges what it recorded.

mod python;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use mlxport_check::{Allowed, Outcome, Recorded, judge, text};

use crate::cmd::lock::LockArgs;
use crate::exit;
use crate::output::{style, to_stdout, with_error_object};

/// The scenario that a lockfile pins: the whole sequence at once, in float32, with each module alone.
const LOCKED: &str = "prefill";

/// Flags of `mlxport check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A Hugging Face directory, a GGUF file that transformers reads, or a hub id
    #[arg(required_unless_present_any = ["model_type", "reference", "recorded"], conflicts_with_all = ["model_type", "reference", "recorded"])]
    model: Option<String>,
    /// A small random model of this architecture instead, made on the spot
    #[arg(long, value_name = "TYPE", conflicts_with_all = ["reference", "recorded"])]
    model_type: Option<String>,
    /// A PyTorch module of one's own instead; the port is a class in a file, too
    #[arg(long, value_name = "FILE.py:Class", requires = "port", conflicts_with = "recorded")]
    reference: Option<String>,
    /// Judge what `python -m mlxport.check --out DIR` has recorded, here or on another machine; nothing is run
    #[arg(long, value_name = "DIR")]
    recorded: Option<PathBuf>,
    /// The port: mlx-lm, mlx-vlm, or FILE.py:Class [default: mlx-lm; mlx-vlm for models with pictures]
    #[arg(long)]
    port: Option<String>,
    /// prefill, decode, chunked, turns, batch, padded, long, resume, plain, text, resize, non-square, two-images, tiles, invariants; a comma-separated list, or all
    #[arg(long, default_value = "all", value_name = "LIST")]
    scenarios: String,
    /// A field of the small model's config, its value as JSON: rope_theta=5e5; may be given several times
    #[arg(long, value_name = "NAME=VALUE", requires = "model_type")]
    set: Vec<String>,
    /// Seed of the random model and of the tokens
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// bf16: the port in bfloat16, too, judged by what PyTorch itself is off by in bfloat16
    #[arg(long, default_value = "f32", value_parser = ["f32", "bf16"])]
    dtype: String,
    /// What the port is given as config.json: the form that hub releases have, what transformers saved, or a release that it saved again
    #[arg(long, default_value = "hub", value_parser = ["hub", "as-saved", "resaved"])]
    config: String,
    /// Do without outputs whose PyTorch path fits, for a reason: GLOB=REASON; may be given several times
    #[arg(long, value_name = "GLOB=REASON")]
    allow_unmapped: Vec<String>,
    #[command(flatten)]
    lock: LockArgs,
    /// A quantized conversion of MODEL: KL and top-1 against PyTorch in bfloat16 on real text, as a finding
    #[arg(long, value_name = "DIR", requires = "model")]
    quantized: Option<PathBuf>,
    /// Let transformers run code that the model directory holds
    #[arg(long)]
    trust_remote_code: bool,
    /// The Python that has torch, transformers, mlx and the port
    #[arg(long, env = "MLXPORT_PYTHON", hide_env_values = true, default_value = "python3", value_name = "PROGRAM")]
    python: PathBuf,
    /// Write check.json, index.html and each scenario's report there
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Print one JSON object on stdout; the report for people goes to stderr
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Python, the package or the model cannot be used, or nothing can be compared: no verdict.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    with_error_object(args.json, verdict(args))
}

fn verdict(args: &Args) -> anyhow::Result<ExitCode> {
    let allowed = Allowed::parse(&args.allow_unmapped)?;
    let work = tempfile::Builder::new().prefix("mlxport-check-").tempdir().context("making a folder to work in")?;
    let recorded = args.recorded.clone().unwrap_or_else(|| work.path().join("recorded"));
    if args.recorded.is_none() {
        python::record(args, &recorded)?;
    }
    let check = Recorded::read(&recorded)?;
    let is_locked_run = |name: &str| name == LOCKED;
    if args.lock.is_given() && !check.scenarios.iter().any(|(name, scenario)| is_locked_run(name) && scenario.ran()) {
        bail!("--tolerances: a lockfile is of the scenario {LOCKED}, which did not run here; add it to --scenarios");
    }
    let judged = judge(
        &check,
        &recorded,
        &allowed,
        |name, run| {
            if is_locked_run(name) { args.lock.apply(run) } else { Ok(run) }
        },
    )?;
    let outcome = Outcome::of(&check, &judged, &allowed);
    if let Some(dir) = &args.report {
        mlxport_check::write(dir, &outcome, &judged)?;
    }
    if args.json {
        eprint!("{}", text(&outcome, &judged, &style(&std::io::stderr())));
        to_stdout(&outcome.json())?;
    } else {
        to_stdout(&text(&outcome, &judged, &style(&std::io::stdout())))?;
    }
    Ok(ExitCode::from(if outcome.passed() { exit::PASS } else { exit::DIVERGENCE }))
}
