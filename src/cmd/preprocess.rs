//! `mlxport preprocess`: images and a prompt made into the model's inputs, as the release makes them.

use std::path::PathBuf;
use std::process::ExitCode;

use mlxport_ocr::{Inputs, Mode, Prompter, open, prepare};
use serde_json::json;

use crate::{cmd::asked::Asked, output::to_stdout};

/// The schema of `--json`.
const SCHEMA: &str = "mlxport.preprocess/1";

/// The release's modes, by name.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum ModeName {
    /// One view of 512 pixels
    Tiny,
    /// One view of 640 pixels
    Small,
    /// One view of 1024 pixels
    Base,
    /// One view of 1280 pixels
    Large,
    /// One view of 1024 pixels and, of larger pages, two to nine tiles of 640
    Gundam,
}

impl From<ModeName> for Mode {
    fn from(name: ModeName) -> Self {
        match name {
            ModeName::Tiny => Self::Tiny,
            ModeName::Small => Self::Small,
            ModeName::Base => Self::Base,
            ModeName::Large => Self::Large,
            ModeName::Gundam => Self::Gundam,
        }
    }
}

/// Make images and a prompt into a model's inputs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// PNG, JPEG, WebP, BMP, GIF or TIFF images, in the order of the prompt's placeholders.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// How the pages are cut and scaled.
    #[arg(long, value_enum, default_value = "gundam")]
    mode: ModeName,
    #[command(flatten)]
    asked: Asked,
    /// The release's tokenizer.json.
    #[arg(long, value_name = "FILE")]
    tokenizer: PathBuf,
    /// The safetensors file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print one JSON object on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the command: exit code 0 when the file is written, 2 for input that cannot be used, 3 where a resource ran out.
///
/// # Errors
/// When an image, the prompt or the tokenizer cannot be used, or the file or stdout cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let outcome = prepared(args);
    if let (true, Err(error)) = (args.json, &outcome) {
        to_stdout(&format!("{}\n", json!({ "schema": SCHEMA, "ok": false, "error": format!("{error:#}") })))?;
    }
    to_stdout(&outcome?)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the file and returns what is said of it.
fn prepared(args: &Args) -> anyhow::Result<String> {
    let mode = Mode::from(args.mode);
    let prompter = Prompter::open(&args.tokenizer)?;
    let pages = args.images.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let inputs = prepare(&prompter, &args.asked.prompt(pages.len()), &pages, mode)?;
    inputs.write(&args.out)?;
    Ok(summary(args, mode, &inputs))
}

fn summary(args: &Args, mode: Mode, inputs: &Inputs) -> String {
    let (tokens, tiles) = (inputs.input_ids.len(), inputs.tile_count);
    if args.json {
        let object = json!({
            "schema": SCHEMA,
            "ok": true,
            "out": args.out,
            "mode": mode.name(),
            "images": args.images,
            "tokens": tokens,
            "image_tokens": inputs.token_counts,
            "images_spatial_crop": inputs.images_spatial_crop,
            "tiles": tiles,
        });
        return format!("{object}\n");
    }
    let image_tokens: usize = inputs.token_counts.iter().sum();
    let (out, count, name) = (args.out.display(), args.images.len(), mode.name());
    format!("{out}: {name}, {count} images, {tiles} tiles, {tokens} tokens, {image_tokens} of them of images\n")
}
