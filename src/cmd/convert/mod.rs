//! `mlxport convert`: a PyTorch checkpoint becomes a directory of MLX-ready safetensors.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use mlxport_convert::manifest::Manifest;
use mlxport_convert::progress::{Progress, Silent};
use mlxport_convert::quantize::Mode;
use mlxport_convert::recipe::packing::Wish;
use mlxport_convert::report;
use mlxport_convert::{DtypeChoice, Request, Survey, WriteOptions, parse_byte_len, survey};
use serde_json::{Value, json};

use super::hub_progress::resolve;
use crate::exit;
use crate::output::{json_line, to_stdout, violations};
use crate::progress::Bar;

/// The schema of `--json`.
const SCHEMA: &str = "mlxport.convert/1";

/// Convert a PyTorch checkpoint to MLX-ready safetensors.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Checkpoint directory, one weight file (safetensors, or any that torch.save wrote) with config.json beside it, or a hub id
    /// (owner/name[@revision]).
    source: String,
    /// Directory to make.
    target: PathBuf,
    /// Built-in recipe or recipe file (TOML or JSON, docs/recipes.md); without it, the built-in one that fits config.json.
    #[arg(long, value_name = "NAME|FILE")]
    recipe: Option<String>,
    /// How the tensors are laid out: mlx-vlm (packed as mlx-vlm loads them) or split (query, key and value apart).
    #[arg(long, value_name = "LAYOUT")]
    layout: Option<String>,
    /// What float tensors become: keep, bf16, f16 or f32.
    #[arg(long, value_name = "DTYPE", default_value = "keep")]
    dtype: DtypeChoice,
    /// Which dict of a PyTorch file is the state dict (a.b: b in a; .: the top level); without it, the one there is.
    #[arg(long, value_name = "NAME")]
    state_dict: Option<String>,
    /// Take this off the keys that begin with it (module., say); without it, what all keys carry is taken off where the recipe then fits.
    #[arg(long, value_name = "PREFIX", conflicts_with = "dequantize")]
    strip_prefix: Option<String>,
    /// Pack weights: affine, mxfp4, mxfp8 or nvfp4. The recipe says which; --dry-run shows them.
    #[arg(long, value_name = "MODE")]
    quantize: Option<Mode>,
    /// Bits of a packed weight (affine: 2, 3, 4, 5, 6 or 8; default 4).
    #[arg(long, value_name = "N", requires = "quantize")]
    bits: Option<u32>,
    /// Weights that share a scale (affine: 32, 64 or 128; default 64).
    #[arg(long, value_name = "N", requires = "quantize")]
    group_size: Option<u32>,
    /// Rules that come before the recipe's: a file (docs/quantization.md), or a mixture such as mixed_3_6.
    #[arg(long, value_name = "FILE|PRESET", requires = "quantize")]
    quantize_rules: Option<String>,
    /// Make float weights of a quantized release (FP8, compressed-tensors, GPTQ, AWQ) or MLX directory.
    #[arg(long)]
    dequantize: bool,
    /// Keep a quantized release's codes as they are, in MLX's affine packing (docs/quantization.md).
    #[arg(long, conflicts_with_all = ["quantize", "dequantize"])]
    keep_quantized: bool,
    /// Memory for buffers, all threads together.
    #[arg(long, value_name = "SIZE", default_value = "96MiB", value_parser = parse_byte_len)]
    memory: u64,
    /// The most bytes of tensors in one file.
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = parse_byte_len)]
    max_shard_size: u64,
    /// Print the plan and everything wrong with the input; write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Replace what an earlier conversion wrote to the target; anyone else's files are never replaced.
    #[arg(long)]
    force: bool,
    /// Print every violation, not only the first of each form.
    #[arg(long)]
    all: bool,
    /// Print one JSON object on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the command. Input errors are reported here and give exit code 2, a full disk 3.
///
/// # Errors
/// When stdout or stderr cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let (outcome, code) = match attempt(args) {
        Ok(Outcome::Planned(survey)) => planned(args, &survey)?,
        Ok(Outcome::Written(manifest)) => {
            let seconds = started.elapsed().as_secs_f64();
            let target = args.target.display().to_string();
            people(args.json, &report::summary(&target, &manifest, seconds))?;
            (report::written(&manifest, seconds), ExitCode::SUCCESS)
        }
        Err(error) => {
            match violations(&error) {
                [] => writeln!(std::io::stderr(), "error: {error}")?,
                list => write!(std::io::stderr(), "error: {}", report::listed(list, args.all))?,
            }
            let object = json!({ "error": error.to_string(), "violations": violations(&error) });
            (object, exit::code_of(&error))
        }
    };
    if args.json {
        let head = json!({
            "schema": SCHEMA,
            "ok": code == ExitCode::SUCCESS,
            "source": args.source,
            "target": args.target,
            "dry_run": args.dry_run,
        });
        to_stdout(&json_line(head, outcome))?;
    }
    Ok(code)
}

enum Outcome {
    Planned(Box<Survey>),
    Written(Box<Manifest>),
}

fn attempt(args: &Args) -> anyhow::Result<Outcome> {
    let wish = |mode| Wish::new(mode, args.bits, args.group_size, args.quantize_rules.as_deref());
    let survey = survey(&Request {
        source: resolve(&args.source, args.json)?,
        recipe: args.recipe.clone(),
        layout: args.layout.clone(),
        dtype: args.dtype,
        quantize: args.quantize.map(wish).transpose()?,
        dequantize: args.dequantize,
        keep_quantized: args.keep_quantized,
        state_dict: args.state_dict.clone(),
        strip_prefix: args.strip_prefix.clone(),
    })?;
    if args.dry_run {
        return Ok(Outcome::Planned(Box::new(survey)));
    }
    if !survey.violations.is_empty() {
        // What was passed over or taken off often says why the rest does not fit.
        let notes = survey.plan.iter().flat_map(|plan| &plan.notes);
        notes.into_iter().try_for_each(|note| writeln!(std::io::stderr(), "note: {note}"))?;
    }
    let prepared = survey.into_prepared()?;
    let options = WriteOptions {
        force: args.force,
        max_shard_byte_len: args.max_shard_size,
        memory_byte_len: usize::try_from(args.memory).unwrap_or(usize::MAX),
        ..WriteOptions::to(&args.target)
    };
    let bar = (!args.json).then(|| Bar::on_terminal(prepared.plan.byte_len())).flatten();
    let progress = bar.as_ref().map_or(&Silent as &dyn Progress, |bar| bar);
    let manifest = prepared.write_watched(&options, progress)?;
    Ok(Outcome::Written(Box::new(manifest)))
}

/// Text for a person: stdout, or stderr where stdout carries the JSON object.
fn people(json: bool, text: &str) -> std::io::Result<()> {
    if json { write!(std::io::stderr(), "{text}") } else { to_stdout(text) }
}

/// Prints the plan and the violations of a dry run.
fn planned(args: &Args, survey: &Survey) -> std::io::Result<(Value, ExitCode)> {
    let mut object = json!({ "violations": survey.violations });
    if let Some(plan) = &survey.plan {
        people(args.json, &report::table(plan))?;
        object["plan"] = report::plan_json(plan);
    }
    if survey.violations.is_empty() {
        return Ok((object, ExitCode::SUCCESS));
    }
    write!(std::io::stderr(), "{}", report::listed(&survey.violations, args.all))?;
    Ok((object, ExitCode::from(exit::INPUT)))
}
