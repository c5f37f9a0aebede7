//! What a run reads, with which model, and how: the prompt, what may not repeat, how many pages at a time, where results go.

use std::{collections::HashSet, path::PathBuf};

use mlxport_model::{
    LoadOptions,
    contract::Reading,
    decoding::{NoRepeatNgram, Options},
    runtime::DeviceKind,
};
use mlxport_ocr::{Decoding, Mode, OcrError, pdf};

use crate::{page_ranges::PageRanges, prompt_spec::PromptSpec, sources::Kind};

/// The token that ends a text, in the release's tokenizer.
pub const END_OF_SENTENCE_ID: i32 = 1;
/// `<td>` and `</td>`, which every row of a table repeats.
const TABLE_CELL_IDS: [i32; 2] = [128_821, 128_822];
/// Pages decoded together on a GPU, unless told otherwise: at 8192 tokens each their keys and values take 4.5 GB in bfloat16.
const GPU_BATCH: usize = 8;

/// All that a run is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Images, PDF documents, or directories of them.
    pub inputs: Vec<PathBuf>,
    /// The converted model's directory.
    pub model: PathBuf,
    /// The release's tokenizer.json, unless it lies in the model's directory.
    pub tokenizer: Option<PathBuf>,
    /// How pages are cut and scaled; none: as the model's release does.
    pub mode: Option<Mode>,
    /// What the model is asked.
    pub prompt: PromptSpec,
    /// Where results go; none: each page's text goes to the watcher.
    pub out: Option<PathBuf>,
    /// Keep results that are there, also those of another source, model or setting.
    pub keep: bool,
    /// Read folders in directories, too.
    pub recursive: bool,
    /// A page that lost something on its way to the model fails.
    pub strict: bool,
    /// How image files are decoded.
    pub decoding: Decoding,
    /// What is written.
    pub format: Format,
    /// All inputs, in order, make one prompt.
    pub together: bool,
    /// Pages of each document; none: all.
    pub pages: Option<PageRanges>,
    /// How documents are drawn.
    pub drawing: DrawSettings,
    /// Leave pages that came to no end by themselves out of their document's Markdown.
    pub skip_unfinished: bool,
    /// When a text ends, and what may not be said twice.
    pub rules: TextRules,
    /// Pages decoded together; none: one on a CPU, several on a GPU.
    pub batch: Option<usize>,
    /// What the model computes in; none: bf16 on a GPU, f32 on a CPU.
    pub dtype: Option<Dtype>,
    /// Where the model runs.
    pub device: DeviceKind,
    /// Keep every page in the outcome, instead of giving its text to the watcher.
    pub collect_pages: bool,
    /// How the model's release reads pages; [`crate::read_pages`] fills it in.
    pub reading: Option<Reading>,
}

/// How a document's pages are drawn: by a process, which a hostile page may end.
#[derive(Debug, Clone)]
pub struct DrawSettings {
    /// The program that is `mlxport`: started as `draw-pdf`, it answers by [`crate::drawer::draw`].
    pub program: PathBuf,
    /// Dots an inch.
    pub dpi: u16,
    /// Seconds that a page may take.
    pub page_seconds: u64,
    /// Where fonts lie that documents name but do not hold, beside the system's.
    pub fonts: Vec<PathBuf>,
    /// The password of protected documents.
    pub password: String,
}

/// When a text ends, and what may not be said twice.
#[derive(Debug, Clone)]
pub struct TextRules {
    /// The most tokens per page.
    pub max_tokens: usize,
    /// No sequence of so many tokens twice; 0: no rule; none: the release's.
    pub no_repeat_ngram: Option<usize>,
    /// Only the last so many generated tokens are searched for repeats.
    pub window: Option<usize>,
    /// Tokens that may repeat all the same.
    pub exempt: Vec<i32>,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Format {
    /// A directory for each page.
    Markdown,
    /// Two files for each page, as the release's evaluation has them.
    Eval,
}

/// What the model computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Dtype {
    /// bfloat16.
    Bf16,
    /// float32.
    F32,
}

impl Default for DrawSettings {
    fn default() -> Self {
        let program = PathBuf::from("mlxport");
        Self { program, dpi: pdf::DPI, page_seconds: 120, fonts: Vec::new(), password: String::new() }
    }
}

impl Default for TextRules {
    fn default() -> Self {
        Self { max_tokens: 8192, no_repeat_ngram: None, window: None, exempt: Vec::new() }
    }
}

impl Settings {
    /// Reads `inputs` with `model`, on a CPU, as the release does; texts go to the watcher.
    #[must_use]
    pub fn new(inputs: Vec<PathBuf>, model: PathBuf) -> Self {
        Self {
            inputs,
            model,
            tokenizer: None,
            mode: None,
            prompt: PromptSpec::default(),
            out: None,
            keep: false,
            recursive: false,
            strict: false,
            decoding: Decoding::default(),
            format: Format::Markdown,
            together: false,
            pages: None,
            drawing: DrawSettings::default(),
            skip_unfinished: false,
            rules: TextRules::default(),
            batch: None,
            dtype: None,
            device: DeviceKind::Cpu,
            collect_pages: false,
            reading: None,
        }
    }

    /// The prompt for `images` pages, in its template.
    ///
    /// # Errors
    /// When it has not one `<image>` for each.
    pub fn prompt(&self, images: usize) -> Result<String, OcrError> {
        let prompt = self.prompt.for_images(images, self.reading.as_ref());
        let placeholders = prompt.matches(mlxport_ocr::IMAGE_TOKEN).count();
        if placeholders != images {
            return Err(OcrError::Placeholders { placeholders, images });
        }
        Ok(prompt)
    }

    /// How pages are cut and scaled.
    #[must_use]
    pub fn mode(&self) -> Mode {
        let several = self.together && self.reading.as_ref().is_some_and(|reading| reading.several_without_tiles);
        self.mode.unwrap_or(if several { Mode::Base } else { Mode::Gundam })
    }

    /// How a page is decoded.
    #[must_use]
    pub fn options(&self, kind: Kind) -> Options {
        Options {
            max_tokens: self.rules.max_tokens,
            stop: vec![END_OF_SENTENCE_ID],
            no_repeat: self.usual_rule().or_else(|| self.rules.no_repeat(self.format, kind)),
            ..Options::default()
        }
    }

    /// What the model computes in, by name.
    pub(crate) fn dtype_name(&self) -> &'static str {
        match (self.dtype, self.device) {
            (Some(Dtype::Bf16), _) => "bf16",
            (Some(Dtype::F32), _) => "f32",
            (None, DeviceKind::Gpu) => "usual on a GPU",
            (None, DeviceKind::Cpu) => "usual on a CPU",
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
    #[must_use]
    pub fn batch(&self) -> usize {
        self.batch.unwrap_or(if self.device == DeviceKind::Gpu { GPU_BATCH } else { 1 })
    }

    /// How to load the model.
    pub(crate) fn load_options(&self) -> LoadOptions {
        match self.dtype {
            Some(Dtype::Bf16) => LoadOptions::bfloat16(),
            Some(Dtype::F32) => LoadOptions::float32(),
            None => LoadOptions::usual(self.device),
        }
    }
}

impl TextRules {
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
mod tests {
    use super::*;
    use crate::Message;

    fn settings() -> Settings {
        Settings::new(Vec::new(), PathBuf::new())
    }

    #[test]
    fn rules_are_the_releases_until_one_is_given() {
        let rule = |settings: &Settings, kind| {
            settings.options(kind).no_repeat.map(|rule| (rule.size, rule.window, rule.exempt.len()))
        };
        assert_eq!(rule(&settings(), Kind::Image), Some((20, None, 0)));
        assert_eq!(rule(&settings(), Kind::Document), Some((20, Some(50), 2)));
        assert_eq!(rule(&Settings { format: Format::Eval, ..settings() }, Kind::Image), Some((40, Some(90), 2)));
        let with = |rules| Settings { rules, ..settings() };
        let none = TextRules { no_repeat_ngram: Some(0), ..TextRules::default() };
        assert_eq!(rule(&with(none), Kind::Document), None);
        let exempt = vec![1, 2, 3];
        let own = TextRules { no_repeat_ngram: Some(5), window: Some(9), exempt, ..TextRules::default() };
        assert_eq!(rule(&with(own), Kind::Document), Some((5, Some(9), 3)));
    }

    #[test]
    fn a_prompt_has_an_image_for_each_page() {
        let own = PromptSpec { message: Message::Own("<image>".to_owned()), ..PromptSpec::default() };
        let error = Settings { prompt: own, ..settings() }.prompt(3).expect_err("two are missing").to_string();
        assert!(error.contains("found 1 for 3 images"), "{error}");
        assert_eq!(settings().prompt(3).expect("a line for each").matches("<image>").count(), 3);
    }

    #[test]
    fn a_cpu_takes_one_page_at_a_time_and_a_gpu_several() {
        let gpu = Settings { device: DeviceKind::Gpu, ..settings() };
        assert_eq!((settings().batch(), gpu.batch()), (1, GPU_BATCH));
        assert_eq!(Settings { batch: Some(3), ..settings() }.batch(), 3);
    }
}
