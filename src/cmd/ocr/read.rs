//! A page, read: what the model wrote and what it makes.

use mlxport_ocr::{
    Page, Prompter, formats,
    grounding::{Markdown, PixelBox, markdown},
};

use super::write::Place;

/// A page, read.
#[derive(Debug)]
pub struct Read {
    /// Where its results go.
    pub place: Place,
    /// What the model wrote, special tokens and all.
    pub written: String,
    /// Its Markdown.
    pub found: Markdown,
    /// Its tokens.
    pub tokens: Vec<i32>,
    /// Whether the model came to an end by itself.
    pub ended: bool,
    /// Each reference's boxes in pixels of the page.
    pub boxes: Vec<Vec<Option<PixelBox>>>,
    /// The page's sides in pixels.
    pub size: [usize; 2],
    /// How long it took from its prompt to its last token; beside others it shares the device.
    pub seconds: f64,
}

impl Read {
    /// What `tokens` say of `page`.
    ///
    /// # Errors
    /// When the tokenizer cannot decode them.
    pub fn new(prompter: &Prompter, place: Place, page: &Page, tokens: Vec<i32>, seconds: f64) -> anyhow::Result<Self> {
        let ids: Vec<u32> = tokens.iter().filter_map(|&id| u32::try_from(id).ok()).collect();
        let written = prompter.decode(&ids)?;
        let found = markdown(&written);
        let boxes = found.references.iter().map(|reference| reference.each_on(page)).collect();
        let (ended, size) = (formats::ended(&written), [page.width(), page.height()]);
        Ok(Self { place, written, found, tokens, ended, boxes, size, seconds })
    }
}
