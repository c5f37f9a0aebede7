//! `mlxport serve`: an OpenAI-compatible endpoint. The model stays on the main thread, where several texts are made side by side.

#[path = "../../serve/src/flag_values.rs"]
mod values;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use mlxport_model::{
    Error, Facts, LoadOptions, Model,
    contract::UsualRule,
    decoding::{Engine, NoRepeatNgram, Options, Sampling},
};
use mlxport_ocr::{Inputs, Mode, page::MAX_PIXELS};
use mlxport_read::{END_OF_SENTENCE_ID, model_inputs, refuse_other_token_counts, tokenizer};
use mlxport_serve::{Generator, GeneratorError, Limits, Log, Made, Making, Server, Settings};

use self::values::{address, at_least_one, at_most_a_million, host_name, origin, size};
use crate::{
    cmd::{device::Device, parity::error_object, preprocess::ModeName},
    output::to_stdout,
};

/// The environment variable that holds the key.
const KEY_VARIABLE: &str = "MLXPORT_API_KEY";
/// No sequence of so many tokens twice, where neither request nor model say otherwise.
const USUAL_NGRAM: usize = 20;
/// The most bytes of a key's file.
const MAX_KEY_BYTES: u64 = 4096;

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
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    device: Device,
    /// How pages are cut and scaled, where a request does not say
    #[arg(long, value_enum, default_value = "gundam")]
    mode: ModeName,
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
    let ready = ready(args);
    if let (true, Err(error)) = (args.json, &ready) {
        to_stdout(&error_object(error))?;
    }
    let Ready { model, server, name } = ready?;
    let address = server.address();
    note(&format!("{name} at http://{address}/v1 (SIGINT or SIGTERM ends it)"));
    if args.json {
        let object = serde_json::json!({ "schema": 1, "ok": true, "address": address, "model": name });
        to_stdout(&format!("{object}\n"))?;
    }
    let chunk = (args.bounds.prompt_chunk > 0).then_some(i32::try_from(args.bounds.prompt_chunk)?);
    let mut texts = Texts { engine: Engine::new(&*model), model: &*model, chunk };
    server.run(&mut texts, true)?;
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
    args.device.begin()?;
    let model = mlxport_model::load(&args.model, LoadOptions::usual(args.device.place()))?;
    let settings = settings(args, model.facts())?;
    let (name, guarded) = (settings.model.clone(), settings.api_key.is_some());
    let server = Server::bind(settings, prompter)?;
    let address = server.address();
    if !address.ip().is_loopback() {
        let who = if guarded { "who has the key" } else { "who reaches it, without a key" };
        note(&format!(
            "warning: {address} is no loopback address: the model answers everyone {who}, and nothing is encrypted"
        ));
    }
    if !guarded && args.cors.iter().any(|origin| origin == "*") {
        note("warning: --cors '*' without a key: every page that a browser of this machine opens may use the model");
    }
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
        address: address(&args.host, args.port)?,
        model: args.model_name.clone().map_or_else(|| name_of(&args.model), Ok)?,
        api_key: key(args.api_key_file.as_deref())?,
        mode: Mode::from(args.mode),
        no_repeat_ngram: args.no_repeat_ngram.unwrap_or(facts.reading.no_repeat.map_or(USUAL_NGRAM, |rule| rule.size)),
        end_ids: vec![END_OF_SENTENCE_ID],
        allowed_hosts: args.allow_host.clone(),
        cors_origins: args.cors.clone(),
        strict_fields: args.strict_fields,
        limits,
        log: Arc::new(|line| note(&shown(line))),
    })
}

/// A directory's own name.
fn name_of(dir: &Path) -> anyhow::Result<String> {
    let whole = dir.canonicalize().with_context(|| dir.display().to_string())?;
    let name = whole.file_name().map(|name| name.to_string_lossy().into_owned());
    name.context("the model's directory has no name: give one with --model-name")
}

/// The key, without the white space around it.
fn key(file: Option<&Path>) -> anyhow::Result<Option<String>> {
    let (text, origin) = match file {
        Some(path) => {
            let byte_len = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
            anyhow::ensure!(byte_len <= MAX_KEY_BYTES, "{}: expected at most {MAX_KEY_BYTES} bytes", path.display());
            (std::fs::read_to_string(path).with_context(|| path.display().to_string())?, path.display().to_string())
        }
        None => match std::env::var(KEY_VARIABLE) {
            // Compose files set variables that nobody gave a value.
            Ok(text) if text.trim().is_empty() => return Ok(None),
            Ok(text) => (text, KEY_VARIABLE.to_owned()),
            Err(std::env::VarError::NotPresent) => return Ok(None),
            Err(error) => return Err(error).context(KEY_VARIABLE),
        },
    };
    let key = text.trim_start_matches('\u{FEFF}').trim().to_owned();
    let is_sendable = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    anyhow::ensure!(is_sendable, "{origin}: expected a key of printable ASCII characters without blanks");
    Ok(Some(key))
}

fn shown(line: &Log) -> String {
    match line {
        Log::Answered { method, path, status, message, seconds } => {
            let message = message.as_ref().map_or(String::new(), |message| format!(": {}", message.escape_debug()));
            format!("{method} {path} {status}, {seconds:.2} s{message}")
        }
        Log::Ignored { fields } => format!("ignored in a request: {}", fields.join(", ")),
        Log::Made { prompt_tokens, completion_tokens, finish, seconds } => {
            let speed = *completion_tokens as f64 / seconds.max(1e-9);
            format!(
                "{prompt_tokens} tokens read, {completion_tokens} made, {seconds:.2} s, {speed:.1} tokens/s, end: {finish}"
            )
        }
        Log::Stopping => "stopping: requests under way finish; a second signal cuts them off".to_owned(),
    }
}

/// The model's texts.
struct Texts<'a> {
    model: &'a dyn Model,
    engine: Engine<'a>,
    /// Tokens of a prompt that are read between two steps.
    chunk: Option<i32>,
}

impl Generator for Texts<'_> {
    fn begin(&mut self, id: usize, inputs: &Inputs, making: &Making) -> Result<(), GeneratorError> {
        let (prompt, more) = model_inputs(inputs).map_err(|error| GeneratorError::Refused(format!("{error:#}")))?;
        let usual = self.model.facts().reading.no_repeat;
        let options = Options { chunk: self.chunk, ..options(making, usual, !more.is_empty()) };
        self.engine.begin(id, prompt, more, options);
        Ok(())
    }

    fn advance(&mut self) -> Result<bool, GeneratorError> {
        self.engine.advance().map(|read| read.is_some()).map_err(|error| match error {
            Error::Input { .. } => GeneratorError::Refused(error.to_string()),
            other => failed(other),
        })
    }

    fn leave(&mut self, id: usize) -> Result<(), GeneratorError> {
        self.engine.leave(id).map_err(failed).map(|_| ())
    }

    fn step(&mut self) -> Result<Vec<Made>, GeneratorError> {
        let made = self.engine.step().map_err(failed)?;
        Ok(made.into_iter().map(|made| Made { id: made.id, token: made.token, is_last: made.is_last }).collect())
    }

    fn reset(&mut self) {
        self.engine = Engine::new(self.model);
    }
}

fn failed(error: Error) -> GeneratorError {
    GeneratorError::Failed(error.to_string())
}

/// How a text is made. A rule without a window, of the size that the model's release reads by, has the release's window.
fn options(making: &Making, usual: Option<UsualRule>, has_several: bool) -> Options {
    let no_repeat = making.no_repeat.as_ref().map(|rule| {
        let usual = usual.filter(|usual| rule.window.is_none() && usual.size == rule.size);
        let window = usual.map(|usual| if has_several { usual.window_of_several } else { usual.window });
        NoRepeatNgram {
            size: rule.size,
            window: rule.window.or(window),
            counts_prompt: usual.is_some_and(|usual| usual.counts_prompt),
            exempt: rule.exempt.iter().copied().collect(),
        }
    });
    let sampling =
        Sampling { temperature: making.temperature, top_k: making.top_k, top_p: making.top_p, seed: making.seed };
    // A greedy text draws nothing: with the seed of all greedy texts it may be made on the device.
    let sampling = if sampling.temperature > 0.0 { sampling } else { Sampling::default() };
    Options { max_tokens: making.max_tokens, stop: vec![END_OF_SENTENCE_ID], no_repeat, sampling, ..Options::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greedy_text_is_the_engines_own_kind() {
        let making = Making { max_tokens: 3, temperature: 0.0, top_k: 5, top_p: 0.5, seed: 7, no_repeat: None };
        assert_eq!(options(&making, None, false).sampling, Sampling::default());
        assert_eq!(options(&Making { temperature: 1.0, ..making }, None, false).sampling.seed, 7);
    }
}
