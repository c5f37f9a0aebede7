//! Text to ids and back: the release's `plain` conversation, its tokenizer, and the places where images go.

use std::path::{Path, PathBuf};

use tokenizers::Tokenizer;

use crate::OcrError;
pub use crate::conversation::IMAGE_TOKEN;
use crate::views::Cut;

/// The id at every position an image's features fill.
pub const IMAGE_TOKEN_ID: i64 = 128_815;
/// The id every prompt begins with.
const BOS_ID: i64 = 0;
/// The most bytes of a tokenizer's file: the release's has 4.7 MB.
const MAX_BYTES: u64 = 64 << 20;

/// The release's tokenizer, from its `tokenizer.json`.
#[derive(Debug)]
pub struct Prompter {
    path: PathBuf,
    tokenizer: Tokenizer,
    cut: Cut,
}

impl Prompter {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// When the file cannot be read, is no tokenizer, or has another token than `<image>` at [`IMAGE_TOKEN_ID`].
    pub fn open(path: &Path) -> Result<Self, OcrError> {
        let io = |source| OcrError::Io { path: path.to_owned(), source };
        let wrong = |reason: String| OcrError::Tokenizer { path: path.to_owned(), reason };
        let metadata = std::fs::metadata(path).map_err(io)?;
        if !metadata.is_file() {
            return Err(wrong("expected a regular file".to_owned()));
        }
        let byte_len = metadata.len();
        if byte_len > MAX_BYTES {
            return Err(wrong(format!("expected a tokenizer of at most {MAX_BYTES} bytes, found {byte_len}")));
        }
        let bytes = std::fs::read(path).map_err(io)?;
        let tokenizer =
            Tokenizer::from_bytes(bytes).map_err(|error| wrong(format!("expected a tokenizer: {error}")))?;
        match tokenizer.token_to_id(IMAGE_TOKEN) {
            Some(id) if i64::from(id) == IMAGE_TOKEN_ID => {
                Ok(Self { path: path.to_owned(), tokenizer, cut: Cut::default() })
            }
            found => Err(wrong(format!("expected {IMAGE_TOKEN} to be token {IMAGE_TOKEN_ID}, found {found:?}"))),
        }
    }

    /// With pages cut as another family of models wants them.
    #[must_use]
    pub fn cutting(self, cut: Cut) -> Self {
        Self { cut, ..self }
    }

    /// How pages are cut.
    pub fn cut(&self) -> Cut {
        self.cut
    }

    /// A prompt's ids, where the images' places are: `ids` and `mask` are of one length, and `mask` is true where an
    /// image's feature goes. `token_counts` says how many each image takes, in order. White space around the prompt is
    /// dropped, as the release does.
    ///
    /// # Errors
    /// When the prompt has not one `<image>` for each image.
    pub fn encode(&self, prompt: &str, token_counts: &[usize]) -> Result<(Vec<i64>, Vec<bool>), OcrError> {
        let texts: Vec<&str> = prompt.trim().split(IMAGE_TOKEN).collect();
        if texts.len() != token_counts.len() + 1 {
            let (placeholders, images) = (texts.len() - 1, token_counts.len());
            return Err(OcrError::Placeholders { placeholders, images });
        }
        let (mut ids, mut mask) = (vec![BOS_ID], vec![false]);
        for (at, text) in texts.into_iter().enumerate() {
            let encoding = self.tokenizer.encode(text, false).map_err(|error| self.wrong(error))?;
            ids.extend(encoding.get_ids().iter().map(|id| i64::from(*id)));
            mask.resize(ids.len(), false);
            if let Some(count) = token_counts.get(at) {
                ids.resize(ids.len() + count, IMAGE_TOKEN_ID);
                mask.resize(ids.len(), true);
            }
        }
        Ok((ids, mask))
    }

    /// The text of ids, special tokens kept.
    ///
    /// # Errors
    /// When the tokenizer cannot decode them.
    pub fn decode(&self, ids: &[u32]) -> Result<String, OcrError> {
        self.tokenizer.decode(ids, false).map_err(|error| self.wrong(error))
    }

    /// Text as its tokens come.
    #[must_use]
    pub fn stream(&self) -> Streamed<'_> {
        Streamed { prompter: self, ids: Vec::new(), given: 0 }
    }

    fn wrong(&self, error: tokenizers::Error) -> OcrError {
        OcrError::Tokenizer { path: self.path.clone(), reason: error.to_string() }
    }
}

/// Text as its tokens come; a character whose bytes are not complete is held back. All that is returned, put together, is what
/// [`Prompter::decode`] makes of all ids.
#[derive(Debug)]
pub struct Streamed<'a> {
    prompter: &'a Prompter,
    /// Tokens whose text is not all certain.
    ids: Vec<u32>,
    /// Bytes of their text that were returned.
    given: usize,
}

/// What stands for bytes that are no character, or not yet.
const BROKEN: char = '\u{FFFD}';
/// A character has at most four bytes, so at most four tokens.
const TOKENS_A_CHARACTER: usize = 4;

impl Streamed<'_> {
    /// Takes the next token and returns the text that is now certain, perhaps none. A byte-level decoder has no memory,
    /// so tokens whose text was returned are let go.
    ///
    /// # Errors
    /// When the tokenizer cannot decode.
    pub fn push(&mut self, id: u32) -> Result<String, OcrError> {
        self.ids.push(id);
        let text = self.prompter.decode(&self.ids)?;
        // Only the last character may change with what follows, and only if it is broken.
        let certain = text.strip_suffix(BROKEN).unwrap_or(&text);
        let new = certain.get(self.given..).unwrap_or_default().to_owned();
        self.given = certain.len();
        if certain.len() == text.len() {
            (self.ids, self.given) = (Vec::new(), 0);
        } else if self.ids.len() > TOKENS_A_CHARACTER {
            self.let_go(&text)?;
        }
        Ok(new)
    }

    /// Forgets all but the last tokens, where no character lies across the cut.
    fn let_go(&mut self, text: &str) -> Result<(), OcrError> {
        let at = self.ids.len() - TOKENS_A_CHARACTER;
        let head = self.prompter.decode(&self.ids[..at])?;
        let byte_len = head.len();
        // What the head still holds back stays: tokens without a text, special ones say, may stand between it and its other bytes.
        if byte_len <= self.given && head + &self.prompter.decode(&self.ids[at..])? == text {
            self.given -= byte_len;
            self.ids.drain(..at);
        }
        Ok(())
    }

    /// What was held back, complete or not.
    ///
    /// # Errors
    /// When the tokenizer cannot decode.
    pub fn finish(self) -> Result<String, OcrError> {
        if self.ids.is_empty() {
            return Ok(String::new());
        }
        let text = self.prompter.decode(&self.ids)?;
        Ok(text.get(self.given..).unwrap_or_default().to_owned())
    }
}
