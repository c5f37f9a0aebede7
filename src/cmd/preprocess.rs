//! `mlxport preprocess`: images and a prompt made into the model's inputs, as the release makes them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mlxport_ocr::{Decoding, ImageFile, Inputs, Mode, Page, Prompter, page::MAX_PIXELS, prepare};
use serde_json::json;

use crate::{
    cmd::{ocr::Flatten, prompt_args::PromptArgs},
    output::{json_line, to_stdout},
};

/// The schema of `--json`.
const SCHEMA: &str = "mlxport.preprocess/1";

/// Make images and a prompt into a model's inputs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// PNG, JPEG, WebP, BMP, GIF or TIFF images, in the order of the prompt's placeholders.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// How the pages are cut and scaled.
    #[arg(long, value_enum, default_value = "gundam")]
    mode: Mode,
    #[command(flatten)]
    prompt: PromptArgs,
    /// The release's tokenizer.json.
    #[arg(long, value_name = "FILE")]
    tokenizer: PathBuf,
    /// Lay transparent pixels on white; the release drops their opacity
    #[arg(long, value_enum, value_name = "COLOR")]
    flatten: Option<Flatten>,
    /// Scale 16-bit grey to 8 bits; the release cuts it off at 255
    #[arg(long = "scale-16bit")]
    scale_16bit: bool,
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
    let mode = args.mode;
    let prompter = Prompter::open(&args.tokenizer)?;
    let pages = args.images.iter().map(|path| page(path, args)).collect::<anyhow::Result<Vec<_>>>()?;
    let inputs = prepare(&prompter, &args.prompt.spec().for_images(pages.len(), None), &pages, mode)?;
    inputs.write(&args.out)?;
    Ok(summary(args, mode, &inputs))
}

/// An image's first page; what it loses is told on stderr.
fn page(path: &Path, args: &Args) -> anyhow::Result<Page> {
    let decoding = Decoding { flatten_white: args.flatten.is_some(), scale_16bit: args.scale_16bit };
    let mut file = ImageFile::open(path)?;
    let mut decoded = file.page(0, decoding, MAX_PIXELS)?;
    if file.page_count() > 1 {
        decoded.notes.push(format!("it has {} pages: only the first is read", file.page_count()));
    }
    for note in &decoded.notes {
        // A note that cannot be told is no reason to stop.
        let _ = writeln!(std::io::stderr(), "{}: {note}", path.display());
    }
    Ok(decoded.page)
}

fn summary(args: &Args, mode: Mode, inputs: &Inputs) -> String {
    if args.json {
        let head = json!({ "schema": SCHEMA, "ok": true, "out": args.out, "mode": mode.name(), "images": args.images });
        return json_line(head, inputs.counts());
    }
    format!("{}: {}, {} images, {}\n", args.out.display(), mode.name(), args.images.len(), inputs.counts_text())
}
