//! `mlxport recipe`: learn a recipe from an example, list those that are built in.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;
use mlxport_audit::infer::{Inferred, Pair, Request, SCHEMA, infer, summary};
use mlxport_convert::recipe::Recipe;
use mlxport_convert::{parse_byte_len, report};
use mlxport_reports::{write_new_text, write_text};
use serde_json::Value;

use super::hub_progress::resolve;
use crate::exit;
use crate::output::{to_stdout, with_violations};

/// Flags of `mlxport recipe`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the recipe that makes MLX of RELEASE, and prove it on RELEASE bit by bit
    Infer(Box<Infer>),
    /// List the built-in recipes
    List(List),
}

#[derive(Debug, clap::Args)]
struct Infer {
    /// The PyTorch release: a directory, one weight file with its config.json beside it, or a hub id
    release: String,
    /// An MLX conversion of it: a directory or a hub id
    mlx: String,
    /// A second release of the same type and another size: it settles which config field a size is
    #[arg(requires = "mlx2")]
    release2: Option<String>,
    /// The conversion of the second release
    mlx2: Option<String>,
    /// Where the recipe goes (TOML)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace FILE
    #[arg(long)]
    force: bool,
    /// What buffers may take
    #[arg(long, value_name = "SIZE", default_value = "192MiB", value_parser = parse_byte_len)]
    memory: u64,
    /// Print the outcome as one JSON object on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct List {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command. Of `infer`: exit code 0 where the recipe was written, 1 where the format cannot say the conversion, 2 for bad input.
///
/// # Errors
/// What keeps a recipe from being learned or written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::List(args) => list(args),
        Command::Infer(args) => with_violations(args.json, SCHEMA, learn(args)),
    }
}

fn learn(args: &Infer) -> anyhow::Result<ExitCode> {
    if !args.force && args.out.symlink_metadata().is_ok() {
        bail!("{} is there already: give another --out, or --force", args.out.display());
    }
    if args.out.is_dir() {
        bail!("{} is a directory: --out names a file", args.out.display());
    }
    let mut pairs = vec![pair(&args.release, &args.mlx, args.json)?];
    if let (Some(release), Some(mlx)) = (&args.release2, &args.mlx2) {
        pairs.push(pair(release, mlx, args.json)?);
    }
    let outcome = infer(&Request { pairs, memory: args.memory })?;
    if let Some(recipe) = &outcome.recipe {
        let written = if args.force { write_text(&args.out, recipe) } else { write_new_text(&args.out, recipe) };
        written.with_context(|| format!("writing {}", args.out.display()))?;
    }
    to_stdout(&shown(&outcome, args)?)?;
    Ok(ExitCode::from(if outcome.recipe.is_some() { exit::PASS } else { exit::DIVERGENCE }))
}

fn shown(outcome: &Inferred, args: &Infer) -> anyhow::Result<String> {
    if !args.json {
        let written = outcome.recipe.as_ref().map(|_| format!("written: {}\n", args.out.display()));
        return Ok(summary(outcome) + &written.unwrap_or_default());
    }
    let mut object = serde_json::to_value(outcome)?;
    object["out"] = outcome.recipe.as_ref().map_or(Value::Null, |_| Value::from(args.out.display().to_string()));
    Ok(serde_json::to_string_pretty(&object)? + "\n")
}

fn pair(release: &str, mlx: &str, json: bool) -> anyhow::Result<Pair> {
    Ok(Pair { release: resolve(release, json)?, mlx: resolve(mlx, json)?, names: (release.to_owned(), mlx.to_owned()) })
}

fn list(args: &List) -> anyhow::Result<ExitCode> {
    let recipes: Vec<Recipe> = Recipe::builtin_names().into_iter().map(Recipe::named).collect::<Result<_, _>>()?;
    let text = if args.json { report::recipes_json(&recipes) } else { report::recipes(&recipes) };
    to_stdout(&text)?;
    Ok(ExitCode::from(exit::PASS))
}
