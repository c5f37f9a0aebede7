//! `mlxport serve`: an OpenAI-compatible endpoint. The model stays on the main thread, where several texts are made side by side.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use mlxport_model::{
    Facts, LoadOptions, Model,
    runtime::{DeviceKind, use_device},
};
use mlxport_ocr::{Mode, page::MAX_PIXELS};
use mlxport_read::{END_OF_SENTENCE_ID, refuse_other_token_counts, tokenizer};
use mlxport_serve::{
    Limits, ModelGenerator, Server, Settings,
    flag_values::{address, api_key, at_least_one, at_most_a_million, host_name, origin, size},
};

use crate::output::{to_stdout, with_error_object};

/// No sequence of so many tokens twice, where neither request nor model say otherwise.
const USUAL_NGRAM: usize = 20;

/// Flags of `mlxport serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The converted model's directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The release's tokenizer.json, where it does not lie in the model's directory
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// The model's name in requests and lists; its directory's, where nothing is said
    #[arg(long, value_name = "NAME")]
    model_name: Option<String>,
    /// Where to listen: an address, or a name such as localhost; anything but loopback is open to others
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: String,
    /// The port; 0 takes one that is free
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// A file with the key that requests must bring; else the variable MLXPORT_API_KEY, where it is set and not empty
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// A name by which clients may call a server on loopback without a key, host.docker.internal say; may be given several times
    #[arg(long, value_name = "NAME", value_parser = host_name)]
    allow_host: Vec<String>,
    /// Pages of this origin may ask from a browser, http://localhost:3000 say; * allows every page; may be given several times
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    cors: Vec<String>,
    /// Refuse fields of a request that are unknown or cannot be followed; else they are ignored, with a Warning header and a log line
    #[arg(long)]
    strict_fields: bool,
    /// Where to run
    #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
    device: DeviceKind,
    /// How pages are cut and scaled, where a request does not say
    #[arg(long, value_enum, default_value = "gundam")]
    mode: Mode,
    /// No sequence of N tokens twice, where a request does not say; 0: no rule [default: the release's, 20 or 35]
    #[arg(long, value_name = "N")]
    no_repeat_ngram: Option<usize>,
    #[command(flatten)]
    bounds: Bounds,
    /// Print one JSON object on stdout once requests are answered: address and model
    #[arg(long)]
    json: bool,
}

/// How much of everything.
#[derive(Debug, clap::Args)]
struct Bounds {
    /// Texts made side by side
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    batch: usize,
    /// Tokens of a new prompt that are read between two steps of the texts under way; 0: the whole prompt at once
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_most_a_million)]
    prompt_chunk: usize,
    /// Requests that wait for them; more are told to come back (429)
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = at_most_a_million)]
    queue: usize,
    /// The most tokens of a text; a request that asks for more gets as many, and finish_reason "length"
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = at_least_one)]
    max_tokens: usize,
    /// The most bytes of a request: 33554432, 32MiB, 64MB, …
    #[arg(long, value_name = "SIZE", default_value = "32MiB", value_parser = size)]
    max_body: usize,
    /// The most pixels of a request's images together
    #[arg(long, value_name = "N", default_value_t = 50_000_000, value_parser = clap::value_parser!(u64).range(1..=MAX_PIXELS))]
    max_image_pixels: u64,
    /// The most images of a request
    #[arg(long, value_name = "N", default_value_t = MAX_IMAGES, value_parser = at_least_one)]
    max_images: usize,
    /// The most connections at a time; others are told to come back (503)
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one)]
    max_connections: usize,
    /// How many seconds requests under way have to finish once SIGINT or SIGTERM came
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    grace: u64,
}

/// Images of one prompt: a page of nine tiles has over a thousand tokens.
const MAX_IMAGES: usize = 8;
/// So many of the longest bodies are in memory at a time.
const BODIES: usize = 8;

/// Runs the command until SIGINT or SIGTERM, and then ends with exit code 0.
///
/// # Errors
/// When model, tokenizer, device, key or address cannot be used.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    with_error_object(args.json, serve(args))
}

fn serve(args: &Args) -> anyhow::Result<ExitCode> {
    let Ready { model, server, name } = ready(args)?;
    let address = server.address();
    note(&format!("{name} at http://{address}/v1 (SIGINT or SIGTERM ends it)"));
    if args.json {
        let object = serde_json::json!({ "schema": 1, "ok": true, "address": address, "model": name });
        to_stdout(&format!("{object}\n"))?;
    }
    let chunk = (args.bounds.prompt_chunk > 0).then_some(i32::try_from(args.bounds.prompt_chunk)?);
    server.run(&mut ModelGenerator::new(&*model, chunk), true)?;
    note("ended");
    Ok(ExitCode::SUCCESS)
}

/// A model, and a server that listens for it.
struct Ready {
    model: Box<dyn Model>,
    server: Server,
    /// What requests call the model.
    name: String,
}

fn ready(args: &Args) -> anyhow::Result<Ready> {
    refuse_other_token_counts(&args.model)?;
    let prompter = tokenizer(&args.model, args.tokenizer.as_ref())?;
    use_device(args.device).context("this MLX cannot run there")?;
    let model = mlxport_model::load(&args.model, LoadOptions::usual(args.device))?;
    let settings = settings(args, model.facts())?;
    let name = settings.model.clone();
    let server = Server::bind(settings, prompter)?;
    server.warnings().iter().for_each(|warning| note(&format!("warning: {warning}")));
    Ok(Ready { model, server, name })
}

/// People's text goes to stderr; who closed it is not told.
fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn settings(args: &Args, facts: &Facts) -> anyhow::Result<Settings> {
    let (bounds, context_tokens) = (&args.bounds, facts.context);
    let limits = Limits {
        connections: bounds.max_connections,
        body_byte_len: bounds.max_body,
        bodies_byte_len: bounds.max_body.saturating_mul(BODIES),
        images: bounds.max_images.min(MAX_IMAGES),
        image_pixels: bounds.max_image_pixels,
        queue: bounds.queue,
        batch: bounds.batch,
        max_tokens: bounds.max_tokens,
        context_tokens: usize::try_from(context_tokens)?,
        grace: Duration::from_secs(bounds.grace),
        ..Limits::default()
    };
    Ok(Settings {
        address: address(&args.host, args.port).map_err(anyhow::Error::msg)?,
        model: args.model_name.clone().map_or_else(|| name_of(&args.model), Ok)?,
        api_key: api_key(args.api_key_file.as_deref()).map_err(anyhow::Error::msg)?,
        mode: args.mode,
        no_repeat_ngram: args.no_repeat_ngram.unwrap_or(facts.reading.no_repeat.map_or(USUAL_NGRAM, |rule| rule.size)),
        end_ids: vec![END_OF_SENTENCE_ID],
        allowed_hosts: args.allow_host.clone(),
        cors_origins: args.cors.clone(),
        strict_fields: args.strict_fields,
        limits,
        log: Arc::new(|line| note(&line.to_string())),
    })
}

/// A directory's own name.
fn name_of(dir: &Path) -> anyhow::Result<String> {
    let whole = dir.canonicalize().with_context(|| dir.display().to_string())?;
    let name = whole.file_name().map(|name| name.to_string_lossy().into_owned());
    name.context("the model's directory has no name: give one with --model-name")
}
