//! A page, read: what the model wrote and what it makes.

use mlxport_ocr::{
    Page, Prompter, formats,
    geometry::{Figure, GeometryError, figure, is_figure},
    grounding::{Markdown, PixelBox, markdown},
};

use crate::{page_id::PageId, write::GEOMETRY};

/// A page, read.
#[derive(Debug)]
pub struct ReadPage {
    /// The page.
    pub id: PageId,
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
    /// The geometric figure that its Markdown describes, where it looks like one.
    pub figure: Option<Result<Figure, GeometryError>>,
    /// What it lost on its way to the model, a sentence each.
    pub degraded: Vec<String>,
    /// How long it took from its prompt to its last token; beside others it shares the device.
    pub seconds: f64,
}

impl ReadPage {
    /// What `tokens` say of `page`.
    ///
    /// # Errors
    /// When the tokenizer cannot decode them.
    pub(crate) fn new(
        prompter: &Prompter,
        id: PageId,
        page: &Page,
        tokens: Vec<i32>,
        degraded: Vec<String>,
        seconds: f64,
    ) -> anyhow::Result<Self> {
        let ids: Vec<u32> = tokens.iter().filter_map(|&id| u32::try_from(id).ok()).collect();
        let written = prompter.decode(&ids)?;
        let found = markdown(&written);
        let boxes = found.references.iter().map(|reference| reference.each_on(page)).collect();
        let (ended, size) = (formats::ended(&written), [page.width(), page.height()]);
        let figure = is_figure(&found.text).then(|| figure(&found.text));
        Ok(Self { id, written, found, tokens, ended, boxes, size, figure, degraded, seconds })
    }

    /// What is to be said of its figure, if anything.
    pub(crate) fn note_of_figure(&self) -> Option<String> {
        let name = self.id.name();
        match self.figure.as_ref()? {
            Ok(figure) if figure.left_out == 0 => None,
            Ok(figure) => Some(format!(
                "{name}: parts of its figure that cannot be read and are not in {GEOMETRY}: {}",
                figure.left_out
            )),
            Err(error) => Some(format!(
                "{name}: mentions line_type, but is no figure: no {GEOMETRY}, the text is as it was: {error}"
            )),
        }
    }
}
