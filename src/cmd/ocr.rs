//! `mlxport ocr`: images in, the release's Markdown out, page by page; finished pages are not done again.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use mlxport_model::{
    LoadOptions,
    decoding::{NoRepeatNgram, Options, generate},
    image::{Image, TileGrid},
    ocr::{DeepseekOcr, Prompt},
    runtime::{self, Place},
};
use mlxport_ocr::{
    Inputs, Mode, Page, Prompter, TILE,
    grounding::{Markdown, markdown, with_boxes},
    open, prepare,
};

use crate::{
    cmd::preprocess::{ModeName, PROMPT},
    output::to_stdout,
};

/// Endings of files that are taken from a directory.
const ENDINGS: [&str; 8] = ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff"];
/// What ends a text, in the release's tokenizer.
pub const END_OF_SENTENCE_ID: i32 = 1;

/// Flags of `mlxport ocr`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Images, or directories of them
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// The converted model's directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// How pages are cut and scaled
    #[arg(long, value_enum, default_value = "gundam")]
    mode: ModeName,
    /// What to do with each page; <image> stands for it
    #[arg(long, default_value = PROMPT)]
    prompt: String,
    /// Write DIR/PAGE/result.mmd, images/N.jpg and result_with_boxes.jpg; pages that are there are not done again
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The release's tokenizer.json, where it does not lie in the model's directory
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// The most tokens per page
    #[arg(long, value_name = "N", default_value_t = 8192)]
    max_tokens: usize,
    /// No sequence of N tokens twice; 0: no rule
    #[arg(long, value_name = "N", default_value_t = 20)]
    no_repeat_ngram: usize,
    /// Where to run
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    device: Device,
    /// Print one JSON object on stdout: text, references with boxes, and tokens of every page
    #[arg(long)]
    json: bool,
}

/// Where a model runs.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Device {
    /// The processor
    Cpu,
    /// The accelerator
    Gpu,
}

/// One page, read.
#[derive(Debug)]
struct Read {
    name: String,
    found: Markdown,
    tokens: Vec<i32>,
    seconds: f64,
}

/// Runs the command: exit code 2 where a page could not be read (the others are done all the same).
///
/// # Errors
/// When model, tokenizer or device cannot be used, or the output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let pages = pages(&args.inputs)?;
    let tokenizer = args.tokenizer.clone().unwrap_or_else(|| args.model.join("tokenizer.json"));
    let prompter = Prompter::open(&tokenizer)?;
    let place = match args.device {
        Device::Cpu => Place::Cpu,
        Device::Gpu => Place::Gpu,
    };
    runtime::use_device(place).context("this MLX cannot run there")?;
    let model = DeepseekOcr::load(&args.model, LoadOptions::bfloat16())?;
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    }
    let (mut done, mut failed, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
    for (name, path) in &pages {
        if args.out.as_ref().is_some_and(|out| out.join(name).exists()) {
            note(&format!("{name}: done before"));
            skipped.push(name.clone());
            continue;
        }
        match page(args, &model, &prompter, name, path) {
            Ok(read) => {
                let speed = read.tokens.len() as f64 / read.seconds.max(1e-9);
                note(&format!("{name}: {} tokens, {:.1} s, {speed:.1} tokens/s", read.tokens.len(), read.seconds));
                if args.out.is_none() && !args.json {
                    to_stdout(&format!("{}\n", read.found.text))?;
                }
                done.push(read);
            }
            Err(error) => {
                note(&format!("error: {name}: {error:#}"));
                failed.push((name.clone(), error));
            }
        }
    }
    if args.json {
        to_stdout(&format!("{}\n", object(&done, &skipped, &failed)))?;
    }
    Ok(failed.first().map_or(ExitCode::SUCCESS, |(_, error)| crate::exit::code_of(error)))
}

/// People's text goes to stderr: stdout is for Markdown or the object.
fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The pages' names and files: directories are listed, in order of their names.
fn pages(inputs: &[PathBuf]) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for input in inputs {
        if !input.is_dir() {
            files.push(input.clone());
            continue;
        }
        let listed = std::fs::read_dir(input).with_context(|| format!("listing {}", input.display()))?;
        let mut inside: Vec<PathBuf> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
        inside.retain(|path| {
            let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
            ending.is_some_and(|ending| ENDINGS.contains(&&*ending)) && path.is_file()
        });
        inside.sort();
        anyhow::ensure!(
            !inside.is_empty(),
            "{}: expected images ({}), found none",
            input.display(),
            ENDINGS.join(", ")
        );
        files.extend(inside);
    }
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let named: Vec<(String, PathBuf)> = files.into_iter().filter_map(|path| Some((name(&path)?, path))).collect();
    let mut seen = std::collections::BTreeMap::new();
    for (name, path) in &named {
        if let Some(other) = seen.insert(name, path) {
            anyhow::bail!("two pages are called {name}: {} and {}", other.display(), path.display());
        }
    }
    Ok(named)
}

fn page(args: &Args, model: &DeepseekOcr, prompter: &Prompter, name: &str, path: &Path) -> anyhow::Result<Read> {
    let begun = Instant::now();
    let page = open(path)?;
    let inputs = prepare(prompter, &args.prompt, std::slice::from_ref(&page), Mode::from(args.mode))?;
    let options = Options {
        max_tokens: args.max_tokens,
        stop: vec![END_OF_SENTENCE_ID],
        no_repeat: (args.no_repeat_ngram > 0).then(|| NoRepeatNgram::plain(args.no_repeat_ngram)),
        ..Options::default()
    };
    let tokens = generate(model, &prompt(&inputs)?, &options, |_| true)?;
    let ids: Vec<u32> = tokens.iter().filter_map(|&id| u32::try_from(id).ok()).collect();
    let found = markdown(&prompter.decode(&ids)?);
    if let Some(out) = &args.out {
        write(&out.join(name), out, &page, &found)?;
    }
    Ok(Read { name: name.to_owned(), found, tokens, seconds: begun.elapsed().as_secs_f64() })
}

/// What the model is given.
pub fn prompt(inputs: &Inputs) -> anyhow::Result<Prompt> {
    let grid = inputs.images_spatial_crop.first().copied().unwrap_or([1, 1]);
    let grid = TileGrid { across: i32::try_from(grid[0])?, down: i32::try_from(grid[1])? };
    let tiles = if inputs.tile_count == 0 { &[][..] } else { &inputs.images_crop };
    let input_ids = inputs.input_ids.iter().map(|&id| i32::try_from(id)).collect::<Result<_, _>>()?;
    // The release takes a view whose values sum to 0 for one that is not there.
    let there = inputs.images_ori.iter().sum::<f32>() != 0.0;
    let image = if there { Some(Image::from_nchw(&inputs.images_ori, inputs.side, tiles, TILE, grid)?) } else { None };
    Ok(Prompt { input_ids, images_seq_mask: inputs.images_seq_mask.clone(), image })
}

/// Writes a page's directory, which appears whole or not at all.
fn write(target: &Path, out: &Path, page: &Page, found: &Markdown) -> anyhow::Result<()> {
    let stage = tempfile::Builder::new().prefix(".mlxport-").tempdir_in(out)?;
    let images = stage.path().join("images");
    std::fs::create_dir(&images)?;
    let cuts =
        found.references.iter().filter(|reference| reference.is_image()).flat_map(|reference| reference.on(page));
    for (at, cut) in cuts.enumerate() {
        std::fs::write(
            images.join(format!("{at}.jpg")),
            page.part(cut.left, cut.top, cut.width, cut.height).to_jpeg()?,
        )?;
    }
    std::fs::write(stage.path().join("result.mmd"), &found.text)?;
    std::fs::write(stage.path().join("result_with_boxes.jpg"), with_boxes(page, &found.references).to_jpeg()?)?;
    let stage = stage.keep();
    std::fs::rename(&stage, target).inspect_err(|_| {
        let _ = std::fs::remove_dir_all(&stage);
    })?;
    Ok(())
}

fn object(done: &[Read], skipped: &[String], failed: &[(String, anyhow::Error)]) -> serde_json::Value {
    let page = |read: &Read| {
        let reference =
            |r: &mlxport_ocr::grounding::Reference| serde_json::json!({ "label": r.label, "boxes": r.boxes });
        serde_json::json!({
            "page": read.name,
            "text": read.found.text,
            "references": read.found.references.iter().map(reference).collect::<Vec<_>>(),
            "tokens": read.tokens,
            "seconds": read.seconds,
        })
    };
    let wrong =
        |(name, error): &(String, anyhow::Error)| serde_json::json!({ "page": name, "error": format!("{error:#}") });
    serde_json::json!({
        "schema": 1,
        "ok": failed.is_empty(),
        "pages": done.iter().map(page).collect::<Vec<_>>(),
        "done_before": skipped,
        "failed": failed.iter().map(wrong).collect::<Vec<_>>(),
    })
}
