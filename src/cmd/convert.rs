//! `mlxport convert`: a PyTorch checkpoint becomes a directory of MLX-ready safetensors.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use mlxport_convert::digest;
use mlxport_convert::manifest::Manifest;
use mlxport_convert::plan::Plan;
use mlxport_convert::{
    ConvertError, DtypeChoice, Request, Survey, WriteOptions, parse_byte_len, show_byte_len, survey,
};
use serde_json::{Value, json};

use crate::exit;
use crate::output::to_stdout;

/// The schema of `--json`.
const SCHEMA: &str = "mlxport.convert/1";

/// Convert a PyTorch checkpoint to MLX-ready safetensors.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Checkpoint directory, or one .safetensors file with config.json beside it.
    source: PathBuf,
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
    /// The most bytes of tensors in one file.
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = parse_byte_len)]
    max_shard_size: u64,
    /// Print the plan and everything wrong with the input; write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Replace the target if it exists.
    #[arg(long)]
    force: bool,
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
    let (report, code) = match attempt(args) {
        Ok(Outcome::Planned(survey)) => planned(args, &survey)?,
        Ok(Outcome::Written(manifest)) => {
            let seconds = started.elapsed().as_secs_f64();
            people(args.json, &summary(args, &manifest, seconds))?;
            let mut report = written(&manifest);
            report["seconds"] = json!(seconds);
            (report, ExitCode::SUCCESS)
        }
        Err(error) => {
            writeln!(std::io::stderr(), "error: {error}")?;
            let report = json!({ "error": error.to_string(), "violations": error.violations() });
            (report, exit::code_of(&error.into()))
        }
    };
    if args.json {
        let mut object = json!({
            "schema": SCHEMA,
            "ok": code == ExitCode::SUCCESS,
            "source": args.source,
            "target": args.target,
            "dry_run": args.dry_run,
        });
        if let (Some(object), Value::Object(report)) = (object.as_object_mut(), report) {
            object.extend(report);
        }
        to_stdout(&format!("{object}\n"))?;
    }
    Ok(code)
}

enum Outcome {
    Planned(Box<Survey>),
    Written(Box<Manifest>),
}

fn attempt(args: &Args) -> Result<Outcome, ConvertError> {
    let survey = survey(&Request {
        source: args.source.clone(),
        recipe: args.recipe.clone(),
        layout: args.layout.clone(),
        dtype: args.dtype,
    })?;
    if args.dry_run {
        return Ok(Outcome::Planned(Box::new(survey)));
    }
    let options =
        WriteOptions { force: args.force, max_shard_byte_len: args.max_shard_size, ..WriteOptions::to(&args.target) };
    let manifest = survey.into_prepared()?.write(&options)?;
    Ok(Outcome::Written(Box::new(manifest)))
}

/// Text for a person: stdout, or stderr where stdout carries the JSON object.
fn people(json: bool, text: &str) -> std::io::Result<()> {
    if json { write!(std::io::stderr(), "{text}") } else { to_stdout(text) }
}

/// Prints the plan and the violations of a dry run.
fn planned(args: &Args, survey: &Survey) -> std::io::Result<(Value, ExitCode)> {
    let mut report = json!({ "violations": survey.violations });
    if let Some(plan) = &survey.plan {
        let mut text = plan.table();
        for note in &plan.notes {
            text.push_str(&format!("note: {note}\n"));
        }
        text.push_str(&format!(
            "{} tensors, {}, recipe {}, layout {}\n",
            plan.tensors.len(),
            show_byte_len(plan.byte_len()),
            plan.recipe,
            plan.layout
        ));
        people(args.json, &text)?;
        report["plan"] = plan_json(plan);
    }
    if survey.violations.is_empty() {
        return Ok((report, ExitCode::SUCCESS));
    }
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{}", digest::count(&survey.violations))?;
    for violation in &survey.violations {
        writeln!(stderr, "  {violation}")?;
    }
    Ok((report, ExitCode::from(exit::INPUT)))
}

fn plan_json(plan: &Plan) -> Value {
    let tensors: Vec<Value> = plan
        .tensors
        .iter()
        .map(|tensor| {
            let keys: Vec<&str> = tensor.sources.iter().map(|s| s.key.as_str()).collect();
            json!({
                "name": tensor.name,
                "dtype": tensor.dtype.to_string(),
                "shape": tensor.shape,
                "op": tensor.op,
                "row": tensor.row,
                "sources": keys,
            })
        })
        .collect();
    let dropped: Vec<Value> = plan
        .dropped
        .iter()
        .map(|dropped| json!({ "key": dropped.key, "row": dropped.row, "reason": dropped.reason }))
        .collect();
    json!({
        "recipe": plan.recipe,
        "recipe_blake3": plan.recipe_hash,
        "layout": plan.layout,
        "dtype": plan.dtype.to_string(),
        "byte_len": plan.byte_len(),
        "tensors": tensors,
        "dropped": dropped,
        "notes": plan.notes,
        "config": plan.config,
    })
}

fn written(manifest: &Manifest) -> Value {
    json!({
        "recipe": manifest.recipe,
        "recipe_blake3": manifest.recipe_blake3,
        "layout": manifest.layout,
        "dtype": manifest.dtype,
        "tensors": manifest.tensors.len(),
        "byte_len": manifest.tensors.iter().map(|tensor| tensor.byte_len).sum::<u64>(),
        "source_tensors": source_count(manifest),
        "operations": operations(manifest),
        "files": manifest.files,
        "notes": manifest.notes,
        "violations": [],
    })
}

/// How many source keys went into the output or were left out; a packed one that was split counts once.
fn source_count(manifest: &Manifest) -> usize {
    let used = manifest.tensors.iter().flat_map(|tensor| &tensor.sources);
    let keys: std::collections::BTreeSet<&str> = used.map(|source| source.key.as_str()).collect();
    keys.len() + manifest.dropped.len()
}

fn operations(manifest: &Manifest) -> std::collections::BTreeMap<&str, usize> {
    let mut counts = std::collections::BTreeMap::new();
    for tensor in &manifest.tensors {
        *counts.entry(tensor.op.as_str()).or_default() += 1;
    }
    counts
}

fn summary(args: &Args, manifest: &Manifest, seconds: f64) -> String {
    let byte_len: u64 = manifest.tensors.iter().map(|tensor| tensor.byte_len).sum();
    let operations: Vec<String> =
        operations(manifest).into_iter().map(|(name, count)| format!("{count} {name}")).collect();
    let mut text = String::new();
    for note in &manifest.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text.push_str(&format!(
        "{}: {} tensors from {}, {} in {seconds:.1} s (recipe {}, layout {}, dtype {})\n  {}\n",
        shown(&args.target),
        manifest.tensors.len(),
        source_count(manifest),
        show_byte_len(byte_len),
        manifest.recipe,
        manifest.layout,
        manifest.dtype,
        operations.join(", "),
    ));
    text
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
