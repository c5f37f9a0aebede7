//! Pages in, the model's Markdown out: what `mlxport ocr` does, as a library. Several pages are decoded together, the next ones are made
//! ready meanwhile, and finished pages are not done again.
//!
//! ```text
//! sources ─ prepare (a thread; documents are drawn by a process) ─ batch (the model) ─ results (files, texts, documents)
//! ```
//!
//! [`read_pages`] does it all. It prints nothing: a [`Watcher`] hears of progress, and takes the texts that are written nowhere.

mod batch;
mod document;
pub mod drawer;
mod drawing;
mod error_text;
mod fingerprint;
mod json;
mod model_inputs;
mod outcome;
mod page_id;
mod page_ranges;
mod prepare;
mod prompt_spec;
mod read_page;
mod results;
mod run;
mod settings;
mod sources;
mod tokenizer;
mod watcher;
mod write;

pub use error_text::error_text;
pub use model_inputs::model_inputs;
pub use outcome::Outcome;
pub use page_id::PageId;
pub use page_ranges::PageRanges;
pub use prompt_spec::{Message, PromptSpec};
pub use read_page::ReadPage;
pub use run::read_pages;
pub use settings::{DrawSettings, Dtype, END_OF_SENTENCE_ID, Format, Settings, TextRules};
pub use sources::{Kind, Skipped};
pub use tokenizer::{refuse_other_token_counts, tokenizer};
pub use watcher::Watcher;
