//! `mlxport decode`: decode a recording's prompt and hold the tokens against PyTorch's.

use std::{path::PathBuf, process::ExitCode};

use mlxport_model::decoding::{NoRepeatNgram, Options, Sampling};
use mlxport_model::runtime::DeviceKind;
use mlxport_parity::{DecodeRequest, Decoded, decode};
use mlxport_verdict::Precision;

use crate::{
    exit,
    output::{to_stdout, with_error_object},
};

/// Flags of `mlxport decode`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The converted model's directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The recording's directory: its prompt is decoded, its decode.json judges
    #[arg(long, value_name = "DIR")]
    fixture: PathBuf,
    /// How many tokens to make; as many as were recorded, where nothing is said
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    #[command(flatten)]
    rules: Rules,
    /// Prompt tokens per prefill step; all at once, where nothing is said
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(i32).range(1..))]
    chunk: Option<i32>,
    /// Compute every step from the whole text instead of keeping keys and values
    #[arg(long)]
    no_cache: bool,
    /// Where to run
    #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
    device: DeviceKind,
    /// Print tokens and agreement as one JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// What may come next, and how it is drawn.
#[derive(Debug, clap::Args)]
pub struct Rules {
    /// No sequence of N tokens twice; 0: no rule. The release uses 20 for a page and 35 in its evaluation
    #[arg(long, value_name = "N", default_value_t = 0)]
    no_repeat_ngram: usize,
    /// Search only the last N generated tokens for repeats (the release's serving: 30 in a window of 90)
    #[arg(long, value_name = "N", requires = "no_repeat_ngram")]
    window: Option<usize>,
    /// Let the window reach back into the prompt, as Unlimited-OCR's rule does
    #[arg(long, requires = "window")]
    count_prompt: bool,
    /// Tokens that may repeat all the same, separated by commas (the release's serving: <td> and </td>, 128821,128822)
    #[arg(long, value_name = "IDS", value_delimiter = ',', requires = "no_repeat_ngram")]
    exempt: Vec<i32>,
    /// Tokens that end the text
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    stop: Vec<i32>,
    /// 0 takes the best token, as the release does; above it tokens are drawn
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f32,
    /// Draw among the K best; 0: all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Draw among the fewest best that hold this share of the probability
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f32,
    /// Where the random numbers begin
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

impl Rules {
    /// The rules as the model's decoder takes them.
    ///
    /// # Errors
    /// When a number makes no sense.
    pub fn options(&self) -> anyhow::Result<Options> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            anyhow::bail!("--temperature: expected a number from 0, found {}", self.temperature);
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            anyhow::bail!("--top-p: expected a share above 0 and up to 1, found {}", self.top_p);
        }
        let no_repeat = (self.no_repeat_ngram > 0).then(|| NoRepeatNgram {
            size: self.no_repeat_ngram,
            window: self.window,
            counts_prompt: self.count_prompt,
            exempt: self.exempt.iter().copied().collect(),
        });
        let Self { temperature, top_k, top_p, seed, .. } = *self;
        let sampling = Sampling { temperature, top_k, top_p, seed };
        Ok(Options { stop: self.stop.clone(), no_repeat, sampling, ..Options::default() })
    }
}

/// Runs the command.
///
/// # Errors
/// When model, recording or device cannot be used.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    with_error_object(args.json, verdict(args))
}

fn verdict(args: &Args) -> anyhow::Result<ExitCode> {
    let decoded = decoded(args)?;
    if args.json {
        to_stdout(&format!("{}\n", decoded.json()))?;
    } else {
        to_stdout(&decoded.text())?;
    }
    Ok(ExitCode::from(match decoded.verdict() {
        Some(true) => exit::PASS,
        Some(false) => exit::DIVERGENCE,
        // Tokens were made, and say nothing of the port.
        None => exit::INPUT,
    }))
}

fn decoded(args: &Args) -> anyhow::Result<Decoded> {
    let options = Options { chunk: args.chunk, without_cache: args.no_cache, ..args.rules.options()? };
    let request = DecodeRequest {
        model: args.model.clone(),
        fixture: args.fixture.clone(),
        options,
        steps: args.steps,
        device: args.device,
        precision: Precision::F32,
    };
    Ok(decode(&request)?)
}
