//! What can go wrong between a file on disk and a model's inputs.

use std::path::PathBuf;

/// A page, a prompt, a tokenizer or an output that cannot be used: what was expected, what was found, and where.
#[derive(Debug, thiserror::Error)]
pub enum OcrError {
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that is larger than any page needs to be.
    #[error("{origin}: expected an image of at most {limit} bytes, found {byte_len}")]
    TooManyBytes {
        /// Where the bytes came from.
        origin: String,
        /// The file's length in bytes.
        byte_len: u64,
        /// The most that is read, in bytes.
        limit: u64,
    },
    /// An image whose header claims more pixels than are decoded.
    #[error("{origin}: expected an image of at most {limit} pixels, found {width}×{height}")]
    TooManyPixels {
        /// Where the bytes came from.
        origin: String,
        /// Pixels a row.
        width: u32,
        /// Rows.
        height: u32,
        /// The most pixels that are decoded.
        limit: u64,
    },
    /// Bytes that no decoder takes: unknown, truncated, broken or empty.
    #[error("{origin}: expected a PNG, JPEG, WebP, BMP, GIF or TIFF image: {reason}")]
    NotAnImage {
        /// Where the bytes came from.
        origin: String,
        /// What the decoder found.
        reason: String,
    },
    /// Bytes that are no PDF, or one that is broken or over the limits.
    #[error("{origin}: expected a PDF document: {reason}")]
    NotAPdf {
        /// Where the bytes came from.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// A PDF that asks for a password.
    #[error("{origin}: expected the document's password, found {found}", found = if *given { "another one" } else { "none" })]
    PdfPassword {
        /// Where the bytes came from.
        origin: String,
        /// Whether one was given.
        given: bool,
    },
    /// A page of a PDF that cannot be drawn.
    #[error("{origin}: page {page}: {reason}")]
    PdfPage {
        /// Where the document came from.
        origin: String,
        /// The page, counted from 1.
        page: usize,
        /// What is wrong.
        reason: String,
    },
    /// A page so long and thin that, fitted into the view, one side has no pixel left. Pillow refuses it, too.
    #[error("a page of {width}×{height} fitted into {size}×{size} has a side of 0 pixels: expected at least 1")]
    TooThin {
        /// Pixels a row of the page.
        width: usize,
        /// Rows of the page.
        height: usize,
        /// The view's side in pixels.
        size: usize,
    },
    /// A prompt whose placeholders are not as many as the images.
    #[error("expected one <image> in the prompt for each image: found {placeholders} for {images} images")]
    Placeholders {
        /// How many `<image>` the prompt has.
        placeholders: usize,
        /// How many images were given.
        images: usize,
    },
    /// A `tokenizer.json` that cannot be used, or a text it cannot encode.
    #[error("{path}: {reason}", path = path.display())]
    Tokenizer {
        /// The tokenizer's file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Tensors that could not be put into a file.
    #[error("{path}: {reason}", path = path.display())]
    Write {
        /// The file to be written.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}
