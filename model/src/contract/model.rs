//! The model: what is asked of every family, and what follows from it for all.

use std::collections::BTreeMap;

use mlx_rs::{Array, Dtype, ops, ops::indexing::TryIndexOp};

use super::{Image, Module, Pass, TileGrid, merge};
use crate::{
    backend::KvCache,
    error::{Error, Result},
};

/// What one prefill is given.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// Token ids, all below the vocabulary's size.
    pub input_ids: Vec<i32>,
    /// Which tokens stand for image features.
    pub images_seq_mask: Vec<bool>,
    /// The picture, if there is one.
    pub image: Option<Image>,
}

/// A recording's inputs by name, in PyTorch's layout: floats as float32, integers as int32, flags as bool.
pub type Recorded = BTreeMap<String, Array>;

/// What is known of a loaded model: plain data, so that nobody needs to know its family by name.
#[derive(Debug, Clone)]
pub struct Facts {
    /// `model_type` of config.json.
    pub model_type: &'static str,
    /// The family's name for people.
    pub name: &'static str,
    /// The dtype of activations.
    pub dtype: Dtype,
    /// Entries of the token table and of the logits.
    pub vocabulary: i32,
    /// Width of the residual stream.
    pub hidden: i32,
    /// Positions the release was made for.
    pub context: i32,
    /// Group size and bits of packed weights, where there are any.
    pub packed: Option<(i32, i32)>,
    /// The layout of the files: `mlx-vlm` or `split`.
    pub layout: &'static str,
    /// The recipe that made the files, where they say it.
    pub recipe: Option<String>,
    /// Points that a pass shows and no module returns.
    pub whole: &'static [&'static str],
    /// Modules that are compared alone and not in a whole pass: how their paths end, and why.
    pub alone: &'static [(&'static str, &'static str)],
    /// From a module's path in the released checkpoint to its path in the PyTorch class that is answered to.
    pub names: fn(&str) -> String,
    /// Where image features meet token embeddings.
    pub junction: Junction,
    /// Parts of the model for reports, in the order of a pass.
    pub systems: &'static [System],
    /// How pages are read.
    pub reading: Reading,
}

/// Laying image features out among embeddings is no module in PyTorch: the first point that sees the result stands for it.
#[derive(Debug, Clone, Copy)]
pub struct Junction {
    /// The point; its first input is the decoder's input.
    pub point: &'static str,
    /// The module that returns the projected features of a batch of views.
    pub features: &'static str,
    /// Whether the whole view is its first call; else the tiles are, where there are any.
    pub whole_first: bool,
    /// The first module that shows what the encoders say, put together.
    pub encoded: &'static str,
    /// The first module that shows where tokens stand.
    pub positions: &'static str,
    /// The module that returns the tokens' embeddings.
    pub embeddings: &'static str,
}

/// A part of the model.
#[derive(Debug, Clone, Copy)]
pub struct System {
    /// For people.
    pub name: &'static str,
    /// Paths of PyTorch modules; what lies in them belongs to it.
    pub prefixes: &'static [&'static str],
}

/// How pages are read with a model: views, tokens, text.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Pixels per side of a tile.
    pub tile_side: i32,
    /// The least and the most tiles of a page that has tiles.
    pub tiles: (i32, i32),
    /// Pixels per side of the whole view where there are tiles.
    pub whole_side: i32,
    /// Pixels per side of what one token stands for; none: the number of tokens does not follow from the side alone.
    pub pixels_per_token: Option<i32>,
    /// Whether a newline token ends each row of features.
    pub has_newlines: bool,
    /// Whether a padded view is rounded as transformers' image processors do it; else as the release's own code and Pillow.
    pub rounds_as_transformers: bool,
    /// The token that stands for an image feature.
    pub image_token: i32,
    /// Tokens that end a text.
    pub stop: &'static [i32],
    /// Whether pages are resized as torchvision resizes bytes; else as Pillow does.
    pub resizes_as_torch: bool,
    /// The usual prompt.
    pub prompt: &'static str,
    /// What follows the pictures in a prompt with several; none: the usual prompt, a line for each picture.
    pub prompt_of_several: Option<&'static str>,
    /// How the release ends loops, where it is always on.
    pub no_repeat: Option<UsualRule>,
    /// Whether a page of a prompt with several is read as its whole view alone.
    pub several_without_tiles: bool,
    /// Whether special tokens belong to the text.
    pub keeps_special_tokens: bool,
    /// Fields of config.json by which a view has another number of tokens: pages cannot be read with such a model.
    pub other_token_counts: Vec<String>,
}

/// The rule by which a release ends loops: no n-gram twice among the last tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsualRule {
    /// n.
    pub size: usize,
    /// How many of the last tokens are searched, for a prompt with one picture.
    pub window: usize,
    /// The same for a prompt with several pictures.
    pub window_of_several: usize,
    /// Whether the prompt's tokens are among them.
    pub counts_prompt: bool,
}

/// A model of the registry.
///
/// A family says what it computes; everything that all families do alike (prefill in pieces, decoding, texts side by side) follows.
/// Every method takes the [`Pass`] on to the modules.
pub trait Model {
    /// What is known of it.
    fn facts(&self) -> &Facts;

    /// Every module that can be run on its own, by PyTorch path.
    fn modules(&self) -> BTreeMap<&str, &dyn Module>;

    /// An empty cache of one sequence.
    fn new_cache(&self) -> KvCache;

    /// A recording's inputs as a prompt.
    ///
    /// # Errors
    /// When they are not those of one prompt.
    fn prompt(&self, recorded: &Recorded) -> Result<Prompt>;

    /// Projected features of batches of views, \[N, S, S, 3\] each (S may differ) → \[N, features, hidden\] each, in the same order.
    ///
    /// # Errors
    /// When views and model do not fit.
    fn features(&self, views: &[Array], pass: &Pass) -> Result<Vec<Array>>;

    /// Features laid out as rows \[n, hidden\] of the decoder's input: tiles \[P, …, hidden\] if any, and the whole view \[1, …, hidden\].
    ///
    /// # Errors
    /// When tiles and grid do not fit each other.
    fn rows(&self, tiles: Option<&Array>, grid: TileGrid, whole: &Array, pass: &Pass) -> Result<Array>;

    /// Rows of the token table of ids \[B, T\] int32, all below the vocabulary's size (MLX does not check): \[B, T, hidden\].
    ///
    /// # Errors
    /// MLX's.
    fn embed(&self, ids: &Array, pass: &Pass) -> Result<Array>;

    /// All layers and the last norm: \[B, T, hidden\] → the same. With a cache, the tokens follow what it holds, and it holds them afterwards.
    ///
    /// # Errors
    /// When the width does not fit.
    fn hidden(&self, embeddings: &Array, cache: Option<&mut KvCache>, pass: &Pass) -> Result<Array>;

    /// \[B, T, hidden\] → logits \[B, T, vocab\], float32.
    ///
    /// # Errors
    /// When the width does not fit.
    fn head(&self, hidden: &Array, pass: &Pass) -> Result<Array>;

    /// Logits \[1, T, vocab\], float32, of a whole prompt; fills `cache` where one is given.
    ///
    /// # Errors
    /// When prompt and model do not fit.
    fn forward(&self, prompt: &Prompt, cache: Option<&mut KvCache>, pass: &Pass) -> Result<Array> {
        self.head(&self.hidden(&self.inputs_embeds(prompt, &[], pass)?, cache, pass)?, pass)
    }

    /// Logits \[1, 1, vocab\], float32, of a prompt's last token; fills `cache`, `chunk` tokens at a time. More pictures may follow
    /// `prompt.image`: each fills the next of the mask's places, in order. What the head makes of the other tokens is not computed: at the
    /// release's vocabulary it is half a megabyte per token.
    ///
    /// # Errors
    /// When prompt, pictures and model do not fit.
    fn prefill(
        &self,
        prompt: &Prompt,
        more: &[Image],
        cache: &mut KvCache,
        chunk: Option<i32>,
        pass: &Pass,
    ) -> Result<Array> {
        let embeddings = self.inputs_embeds(prompt, more, pass)?;
        let tokens = embeddings.dim(1);
        let mut last = None;
        for (start, end) in chunks(tokens, chunk.unwrap_or(tokens).max(1)) {
            last = Some(self.hidden(&embeddings.try_index((.., start..end))?, Some(&mut *cache), pass)?);
        }
        cache.prompt_ends();
        self.last_logits(&last.unwrap_or(embeddings), pass)
    }

    /// Logits \[1, 1, vocab\], float32, of the last of \[1, T, hidden\].
    ///
    /// # Errors
    /// MLX's.
    fn last_logits(&self, hidden: &Array, pass: &Pass) -> Result<Array> {
        self.head(&hidden.try_index((.., -1..))?, pass)
    }

    /// A picture as rows of the decoder's input, \[n, hidden\]: what stands in the places of its image tokens.
    ///
    /// # Errors
    /// When tiles and grid do not fit each other.
    fn image_rows(&self, image: &Image, pass: &Pass) -> Result<Array> {
        // In the release's order: tiles first.
        let views: Vec<Array> = image.tiles.iter().chain([&image.global]).cloned().collect();
        match &self.features(&views, pass)?[..] {
            [tiles, whole] => self.rows(Some(tiles), image.grid, whole, pass),
            [whole] => self.rows(None, image.grid, whole, pass),
            other => Err(Error::input("image", "features of one or two batches", other.len().to_string())),
        }
    }

    /// The decoder's input \[1, T, hidden\]: the tokens' embeddings, image features in their places.
    ///
    /// # Errors
    /// When prompt, pictures and model do not fit.
    fn inputs_embeds(&self, prompt: &Prompt, more: &[Image], pass: &Pass) -> Result<Array> {
        let embeddings = self.embeddings_of(&prompt.input_ids, pass)?;
        let rows = prompt.image.iter().chain(more).map(|image| self.image_rows(image, pass));
        placed(&embeddings, &rows.collect::<Result<Vec<_>>>()?, &prompt.images_seq_mask)
    }

    /// The same, where the prompt's pictures are there as rows (see [`Model::image_rows`]), in order.
    ///
    /// # Errors
    /// When prompt, rows and model do not fit.
    fn embeddings_with(&self, prompt: &Prompt, rows: &[Array], pass: &Pass) -> Result<Array> {
        placed(&self.embeddings_of(&prompt.input_ids, pass)?, rows, &prompt.images_seq_mask)
    }

    /// Rows of the token table, \[1, T, hidden\].
    ///
    /// # Errors
    /// When an id is not in the vocabulary, or there is none.
    fn embeddings_of(&self, ids: &[i32], pass: &Pass) -> Result<Array> {
        let vocabulary = self.facts().vocabulary;
        if let Some(id) = ids.iter().find(|&&id| !(0..vocabulary).contains(&id)) {
            return Err(Error::input("input_ids", format!("ids below {vocabulary}"), format!("{id}")));
        }
        if ids.is_empty() {
            return Err(Error::input("input_ids", "at least one token", "none"));
        }
        self.embed(&Array::from_slice(ids, &[1, ids.len() as i32]), pass)
    }

    /// Logits \[1, n, vocab\], float32, of `ids` that follow what `cache` holds.
    ///
    /// # Errors
    /// When an id is not in the vocabulary.
    fn decode(&self, ids: &[i32], cache: &mut KvCache, pass: &Pass) -> Result<Array> {
        self.head(&self.hidden(&self.embeddings_of(ids, pass)?, Some(cache), pass)?, pass)
    }

    /// Logits \[B, 1, vocab\], float32, of one more token `ids` \[B\] int32 (below the vocabulary's size: MLX does not check) of every
    /// sequence of `cache`.
    ///
    /// # Errors
    /// When the cache holds another number of sequences.
    fn decode_each(&self, ids: &Array, cache: &mut KvCache, pass: &Pass) -> Result<Array> {
        let count = ids.dim(0);
        if cache.sequences() != count as usize {
            return Err(Error::input("cache", format!("{count} sequences"), cache.sequences().to_string()));
        }
        self.head(&self.hidden(&self.embed(&ids.reshape(&[count, 1])?, pass)?, Some(cache), pass)?, pass)
    }
}

/// Pictures' rows in their places of \[1, T, hidden\].
fn placed(embeddings: &Array, rows: &[Array], mask: &[bool]) -> Result<Array> {
    if rows.is_empty() {
        return Ok(embeddings.clone());
    }
    merge(embeddings, &ops::concatenate(rows, 0)?, mask)
}

/// How the tokens of a prompt are cut: (start, end) of every chunk.
pub fn chunks(tokens: i32, size: i32) -> impl Iterator<Item = (i32, i32)> {
    let size = size.max(1);
    (0..tokens).step_by(size as usize).map(move |start| (start, (start + size).min(tokens)))
}
