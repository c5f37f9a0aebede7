//! Flags of `mlxport ocr`, and the settings they make.

use std::path::PathBuf;

use anyhow::Context;
use mlxport_model::runtime::DeviceKind;
use mlxport_ocr::{Decoding, Mode, pdf};
use mlxport_read::{DrawSettings, Dtype, Format, PageRanges, Settings, TextRules};

use crate::cmd::prompt_args::PromptArgs;

/// Flags of `mlxport ocr`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Images, PDF documents, or directories of them
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// The converted model's directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// How pages are cut and scaled [default: gundam; several pages in one prompt: base, where the model's release has it so]
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    #[command(flatten)]
    prompt: PromptArgs,
    /// Where results go; pages that are there, of the same source, model and settings, are not done again. Each page: DIR/PAGE/result.mmd (Markdown), result_ori.mmd (as
    /// the model wrote it), images/N.jpg, result_with_boxes.jpg, page.json; geo.jpg where the text describes a geometric figure
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Keep results that are there, also those of another source, model or setting
    #[arg(long, requires = "out")]
    keep: bool,
    /// Read folders in directories, too
    #[arg(long)]
    recursive: bool,
    /// A page that lost something on its way to the model (missing fonts, form values, cut content, transparency) fails
    #[arg(long)]
    strict: bool,
    /// What is done with transparent pixels; the release drops their opacity, and black on nothing turns black on black
    #[arg(long, value_enum, value_name = "COLOR")]
    flatten: Option<Flatten>,
    /// Scale 16-bit grey to 8 bits; the release cuts it off at 255, and nearly all of it turns white
    #[arg(long = "scale-16bit")]
    scale_16bit: bool,
    /// Where fonts lie that documents name but do not hold, beside the system's; several times for several
    #[arg(long, value_name = "DIR")]
    fonts: Vec<PathBuf>,
    /// What is written: pages as Markdown with pictures, or DIR/NAME.md and NAME_det.md as the release's evaluation has them
    #[arg(long, value_enum, default_value = "markdown")]
    format: Format,
    /// All INPUTs, in order, make one prompt: with --prompt, as many <image> as INPUTs
    #[arg(long)]
    together: bool,
    /// Pages of a document: 1-3,7,20-
    #[arg(long, value_name = "PAGES", value_parser = clap::value_parser!(PageRanges))]
    pages: Option<PageRanges>,
    /// Dots an inch at which a document's pages are drawn
    #[arg(long, value_name = "N", default_value_t = pdf::DPI, value_parser = clap::value_parser!(u16).range(18..=1200))]
    dpi: u16,
    /// The password of protected documents; MLXPORT_PDF_PASSWORD, where it is set, keeps it out of the list of processes
    #[arg(long, value_name = "TEXT", env = "MLXPORT_PDF_PASSWORD", hide_env_values = true, default_value = "")]
    password: String,
    /// How long a document's page may take to be drawn
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    page_seconds: u64,
    /// Leave pages that came to no end by themselves (mostly repetitions) out of their document's Markdown, as the release does
    #[arg(long)]
    skip_unfinished: bool,
    /// The release's tokenizer.json, where it does not lie in the model's directory
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    #[command(flatten)]
    rules: RulesArgs,
    /// Pages decoded together: one on a CPU, where each then has the same tokens whatever its neighbours, 8 on a GPU
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: Option<u16>,
    /// What the model computes in: bf16 on a GPU, f32 on a CPU, where bf16 takes many times as long, where nothing is said
    #[arg(long, value_enum)]
    dtype: Option<Dtype>,
    /// Where to run
    #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
    device: DeviceKind,
    /// Print one JSON object on stdout: text, references with boxes, and tokens of every page
    #[arg(long)]
    pub json: bool,
}

/// When a text ends, and what may not be said twice.
#[derive(Debug, Clone, clap::Args)]
pub struct RulesArgs {
    /// The most tokens per page
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    /// No sequence of N tokens twice; 0: no rule. Where nothing is said, the release's, for DeepSeek-OCR: 20 for images; 20 in a window of 50 for
    /// documents and 40 in one of 90 for --format eval, <td> and </td> exempt
    #[arg(long, value_name = "N")]
    no_repeat_ngram: Option<usize>,
    /// Search only the last N generated tokens for repeats
    #[arg(long, value_name = "N", requires = "no_repeat_ngram")]
    window: Option<usize>,
    /// Tokens that may repeat all the same, separated by commas
    #[arg(long, value_name = "IDS", value_delimiter = ',', requires = "no_repeat_ngram")]
    exempt: Vec<i32>,
}

/// What transparent pixels are laid on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Flatten {
    /// Paper
    White,
}

impl Args {
    /// The flags, as the library takes them.
    ///
    /// # Errors
    /// When this program, which draws documents' pages in a process of its own, cannot be found.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        let program = std::env::current_exe().context("finding this program, which draws pages")?;
        Ok(Settings {
            inputs: self.inputs.clone(),
            model: self.model.clone(),
            tokenizer: self.tokenizer.clone(),
            mode: self.mode,
            prompt: self.prompt.spec(),
            out: self.out.clone(),
            keep: self.keep,
            recursive: self.recursive,
            strict: self.strict,
            decoding: Decoding { flatten_white: self.flatten.is_some(), scale_16bit: self.scale_16bit },
            format: self.format,
            together: self.together,
            pages: self.pages.clone(),
            drawing: DrawSettings {
                program,
                dpi: self.dpi,
                page_seconds: self.page_seconds,
                fonts: self.fonts.clone(),
                password: self.password.clone(),
            },
            skip_unfinished: self.skip_unfinished,
            rules: self.rules.rules(),
            batch: self.batch.map(usize::from),
            dtype: self.dtype,
            device: self.device,
            collect_pages: self.json,
            reading: None,
        })
    }
}

impl RulesArgs {
    fn rules(&self) -> TextRules {
        TextRules {
            max_tokens: self.max_tokens as usize,
            no_repeat_ngram: self.no_repeat_ngram,
            window: self.window,
            exempt: self.exempt.clone(),
        }
    }
}
