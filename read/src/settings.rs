//! Flags of `mlxport ocr`, and what they mean to the model: the prompt, what may not repeat, how many pages at a time.

use std::{collections::HashSet, ops::RangeInclusive, path::PathBuf};

use mlxport_model::{
    LoadOptions,
    contract::Reading,
    decoding::{NoRepeatNgram, Options},
};
use mlxport_ocr::{Decoding, Mode, pdf};

use super::sources::Kind;
use crate::cmd::{asked::Asked, device::Device, preprocess::ModeName};

/// What ends a text, in the release's tokenizer.
pub const END_OF_SENTENCE_ID: i32 = 1;
/// `<td>` and `</td>`, which every row of a table repeats.
const TABLE_CELL_IDS: [i32; 2] = [128_821, 128_822];
/// Pages decoded together on a GPU, where nothing is said: at 8192 tokens each their keys and values take 4.5 GB in bfloat16.
const GPU_BATCH: usize = 8;

/// Flags of `mlxport ocr`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Images, PDF documents, or directories of them
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// The converted model's directory
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// How pages are cut and scaled [default: gundam; several pages in one prompt: base, where the model's release has it so]
    #[arg(long, value_enum)]
    pub mode: Option<ModeName>,
    #[command(flatten)]
    pub asked: Asked,
    /// Where results go; pages that are there, of the same source, model and settings, are not done again. Each page: DIR/PAGE/result.mmd (Markdown), result_ori.mmd (as
    /// the model wrote it), images/N.jpg, result_with_boxes.jpg, page.json; geo.jpg where the text describes a geometric figure
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Keep results that are there, also those of another source, model or setting
    #[arg(long, requires = "out")]
    pub keep: bool,
    /// Read folders in directories, too
    #[arg(long)]
    pub recursive: bool,
    /// A page that lost something on its way to the model (missing fonts, form values, cut content, transparency) fails
    #[arg(long)]
    pub strict: bool,
    /// What is done with transparent pixels; the release drops their opacity, and black on nothing turns black on black
    #[arg(long, value_enum, value_name = "COLOR")]
    pub flatten: Option<Flatten>,
    /// Scale 16-bit grey to 8 bits; the release cuts it off at 255, and nearly all of it turns white
    #[arg(long = "scale-16bit")]
    pub scale_16bit: bool,
    /// Where fonts lie that documents name but do not hold, beside the system's; several times for several
    #[arg(long, value_name = "DIR")]
    pub fonts: Vec<PathBuf>,
    /// What is written: pages as Markdown with pictures, or DIR/NAME.md and NAME_det.md as the release's evaluation has them
    #[arg(long, value_enum, default_value = "markdown")]
    pub format: Format,
    /// All INPUTs, in order, make one prompt: with --prompt, as many <image> as INPUTs
    #[arg(long)]
    pub together: bool,
    /// Pages of a document: 1-3,7,20-
    #[arg(long, value_name = "PAGES", value_parser = ranges)]
    pub pages: Option<Ranges>,
    /// Dots an inch at which a document's pages are drawn
    #[arg(long, value_name = "N", default_value_t = pdf::DPI, value_parser = clap::value_parser!(u16).range(18..=1200))]
    pub dpi: u16,
    /// The password of protected documents; MLXPORT_PDF_PASSWORD, where it is set, keeps it out of the list of processes
    #[arg(long, value_name = "TEXT", env = "MLXPORT_PDF_PASSWORD", hide_env_values = true, default_value = "")]
    pub password: String,
    /// How long a document's page may take to be drawn
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    pub page_seconds: u64,
    /// Leave pages that came to no end by themselves (mostly repetitions) out of their document's Markdown, as the release does
    #[arg(long)]
    pub skip_unfinished: bool,
    /// The release's tokenizer.json, where it does not lie in the model's directory
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    #[command(flatten)]
    pub rules: Rules,
    /// Pages decoded together: one on a CPU, where each then has the same tokens whatever its neighbours, 8 on a GPU
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: Option<u16>,
    /// What the model computes in: bf16 on a GPU, f32 on a CPU, where bf16 takes many times as long, where nothing is said
    #[arg(long, value_enum)]
    dtype: Option<Dtype>,
    /// Where to run
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    pub device: Device,
    /// Print one JSON object on stdout: text, references with boxes, and tokens of every page
    #[arg(long)]
    pub json: bool,
    /// How the model's release reads pages, once the model is known.
    #[arg(skip)]
    pub reading: Option<Reading>,
}

/// When a text ends, and what may not be said twice.
#[derive(Debug, Clone, clap::Args)]
pub struct Rules {
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

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A directory for each page
    Markdown,
    /// Two files for each page
    Eval,
}

/// What transparent pixels are laid on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Flatten {
    /// Paper
    White,
}

/// What the model computes in.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Dtype {
    Bf16,
    F32,
}

/// Pages of a document, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges(Vec<RangeInclusive<usize>>);

fn ranges(text: &str) -> Result<Ranges, String> {
    let wrong = || format!("expected pages like 1-3,7,20-, found {text:?}");
    let number = |text: &str| text.parse::<usize>().ok().filter(|&page| page > 0).ok_or_else(wrong);
    let one = |part: &str| {
        let (first, last) = match part.split_once('-') {
            Some((first, "")) => (number(first)?, usize::MAX),
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first <= last { Ok(first..=last) } else { Err(wrong()) }
    };
    text.split(',').map(|part| one(part.trim())).collect::<Result<_, _>>().map(Ranges)
}

impl Ranges {
    /// The pages of a document of `count`, in order, each once, counted from 1.
    ///
    /// # Errors
    /// When it has no such pages.
    pub fn of(&self, count: usize) -> anyhow::Result<Vec<usize>> {
        for range in &self.0 {
            let last = if *range.end() == usize::MAX { range.start() } else { range.end() };
            anyhow::ensure!(*last <= count, "--pages: expected pages up to {count}, found {last}");
        }
        Ok((1..=count).filter(|page| self.0.iter().any(|range| range.contains(page))).collect())
    }
}

impl Args {
    /// The same flags, read as the model's release reads pages where they say nothing.
    #[must_use]
    pub fn knowing(&self, reading: Reading) -> Self {
        Self { reading: Some(reading), ..self.clone() }
    }

    /// The prompt for `images` pages, in its template.
    ///
    /// # Errors
    /// When it has not one `<image>` for each.
    pub fn prompt(&self, images: usize) -> anyhow::Result<String> {
        let prompt = self.asked.prompt_or(images, self.reading.as_ref());
        let placeholders = prompt.matches(mlxport_ocr::IMAGE_TOKEN).count();
        if placeholders != images {
            return Err(mlxport_ocr::OcrError::Placeholders { placeholders, images }.into());
        }
        Ok(prompt)
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        let several = self.together && self.reading.as_ref().is_some_and(|reading| reading.several_without_tiles);
        self.mode.map_or(if several { Mode::Base } else { Mode::Gundam }, Mode::from)
    }

    /// How a page is decoded.
    pub fn options(&self, kind: Kind) -> Options {
        Options {
            max_tokens: self.rules.max_tokens as usize,
            stop: vec![END_OF_SENTENCE_ID],
            no_repeat: self.usual_rule().or_else(|| self.rules.no_repeat(self.format, kind)),
            ..Options::default()
        }
    }

    /// How image files are decoded.
    pub fn decoding(&self) -> Decoding {
        Decoding { flatten_white: self.flatten.is_some(), scale_16bit: self.scale_16bit }
    }

    /// What the model computes in, by name; `usual` where nothing is said.
    pub fn dtype_name(&self) -> &'static str {
        match (self.dtype, self.device) {
            (Some(Dtype::Bf16), _) => "bf16",
            (Some(Dtype::F32), _) => "f32",
            (None, Device::Gpu) => "usual on a GPU",
            (None, _) => "usual on a CPU",
        }
    }

    /// The rule that the model's release always reads by, where nothing else is said.
    fn usual_rule(&self) -> Option<NoRepeatNgram> {
        let usual = self.reading.as_ref()?.no_repeat.filter(|_| self.rules.no_repeat_ngram.is_none())?;
        let window = if self.together { usual.window_of_several } else { usual.window };
        let (window, counts_prompt) = (Some(window), usual.counts_prompt);
        Some(NoRepeatNgram { size: usual.size, window, counts_prompt, exempt: HashSet::new() })
    }

    /// Pages decoded together.
    pub fn batch(&self) -> usize {
        let usual = if self.device == Device::Gpu { GPU_BATCH } else { 1 };
        self.batch.map_or(usual, usize::from)
    }

    /// How to load the model.
    pub fn load_options(&self) -> LoadOptions {
        match self.dtype {
            Some(Dtype::Bf16) => LoadOptions::bfloat16(),
            Some(Dtype::F32) => LoadOptions::float32(),
            None => LoadOptions::usual(self.device.place()),
        }
    }
}

impl Rules {
    fn no_repeat(&self, format: Format, kind: Kind) -> Option<NoRepeatNgram> {
        let serving = |size, window| {
            let exempt = TABLE_CELL_IDS.into_iter().collect();
            Some(NoRepeatNgram { size, window: Some(window), counts_prompt: false, exempt })
        };
        match (self.no_repeat_ngram, format, kind) {
            (Some(0), ..) => None,
            (Some(size), ..) => {
                let exempt = self.exempt.iter().copied().collect();
                Some(NoRepeatNgram { size, window: self.window, counts_prompt: false, exempt })
            }
            (None, Format::Eval, _) => serving(40, 90),
            (None, Format::Markdown, Kind::Document) => serving(20, 50),
            (None, Format::Markdown, Kind::Image) => Some(NoRepeatNgram::plain(20)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    pub(in crate::cmd::ocr) fn args(more: &[&str]) -> Args {
        Line::parse_from(["ocr", "a.png", "--model", "m"].iter().chain(more)).args
    }

    #[test]
    fn pages_are_named_as_people_name_them() {
        let pages = |text: &str, count| ranges(text).map_err(anyhow::Error::msg)?.of(count);
        assert_eq!(pages("1-3,7", 9).expect("pages"), [1, 2, 3, 7]);
        assert_eq!(pages("7, 1-3,2", 7).expect("pages"), [1, 2, 3, 7]);
        assert_eq!(pages("8-", 9).expect("pages"), [8, 9]);
        for (text, count) in [("", 9), ("0", 9), ("3-1", 9), ("x", 9), ("-3", 9), ("1-10", 9), ("10-", 9), ("1,,2", 9)]
        {
            assert!(pages(text, count).is_err(), "{text}");
        }
    }

    #[test]
    fn prompts_have_an_image_for_each_page() {
        let usual = "<image>\n<|grounding|>Convert the document to markdown.";
        assert_eq!(args(&[]).prompt(1).expect("one"), usual);
        assert_eq!(args(&["--task", "free-ocr"]).prompt(2).expect("two"), "<image>\n<image>\nFree OCR.");
        let locate = args(&["--task", "locate", "--query", "the total"]).prompt(1).expect("one");
        assert_eq!(locate, "<image>\nLocate <|ref|>the total<|/ref|> in the image.");
        let chat = args(&["--prompt", "<image> what?", "--template", "deepseek"]).prompt(1).expect("one");
        assert_eq!(chat, "<|User|>: <image> what?\n\n<|Assistant|>:");
        let error = args(&["--prompt", "<image>"]).prompt(3).expect_err("two are missing").to_string();
        assert!(error.contains("found 1 for 3 images"), "{error}");
        assert!(Line::try_parse_from(["ocr", "a.png", "--model", "m", "--task", "locate"]).is_err(), "no query");
    }

    #[test]
    fn rules_are_the_releases_until_one_is_given() {
        let rule = |more: &[&str], kind| args(more).options(kind).no_repeat.map(|r| (r.size, r.window, r.exempt.len()));
        assert_eq!(rule(&[], Kind::Image), Some((20, None, 0)));
        assert_eq!(rule(&[], Kind::Document), Some((20, Some(50), 2)));
        assert_eq!(rule(&["--format", "eval"], Kind::Image), Some((40, Some(90), 2)));
        assert_eq!(rule(&["--no-repeat-ngram", "0"], Kind::Document), None);
        let own = ["--no-repeat-ngram", "5", "--window", "9", "--exempt", "1,2,3"];
        assert_eq!(rule(&own, Kind::Document), Some((5, Some(9), 3)));
    }

    #[test]
    fn a_cpu_takes_one_page_at_a_time_and_a_gpu_several() {
        assert_eq!((args(&[]).batch(), args(&["--device", "gpu"]).batch()), (1, GPU_BATCH));
        assert_eq!(args(&["--batch", "3"]).batch(), 3);
    }
}
