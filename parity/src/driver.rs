//! How a whole pass is made of a model's parts: at once, or in pieces that must come to the same.

use mlx_rs::{Array, ops, ops::indexing::TryIndexOp};
use mlxport_model::{
    Model, Pass, Prompt, Result,
    contract::{chunks, merge},
};

use crate::joined_taps::{JoinedTaps, axis_of_images, axis_of_tokens};

/// Who calls the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Driver {
    /// One pass over everything, as PyTorch was recorded.
    #[default]
    Whole,
    /// Tiles encoded one at a time.
    TilesOneByOne,
    /// The prompt so many tokens at a time, through the cache.
    InChunks(i32),
    /// The prompt in two halves, through the cache.
    InHalves,
}

impl Driver {
    /// Logits \[1, T, vocab\], float32, of a whole prompt; taps are shown as if it had been one pass.
    ///
    /// # Errors
    /// When prompt and model do not fit.
    pub fn forward(self, model: &dyn Model, prompt: &Prompt, pass: &Pass) -> Result<Array> {
        let chunk = match self {
            Self::Whole => return model.forward(prompt, None, pass),
            Self::TilesOneByOne => {
                let embeddings = tiles_one_by_one(model, prompt, pass)?;
                return model.head(&model.hidden(&embeddings, None, pass)?, pass);
            }
            Self::InChunks(size) => size,
            Self::InHalves => (prompt.input_ids.len() as i32 + 1) / 2,
        };
        let embeddings = model.inputs_embeds(prompt, &[], pass)?;
        let mut cache = model.new_cache();
        let parts = chunks(embeddings.dim(1), chunk).map(|(start, end)| embeddings.try_index((.., start..end)));
        let parts = parts.collect::<std::result::Result<Vec<_>, _>>()?.into_iter();
        JoinedTaps::new(pass).run(parts, (1, axis_of_tokens), |part, pass| {
            model.head(&model.hidden(part, Some(&mut cache), pass)?, pass)
        })
    }
}

/// The decoder's input \[1, T, hidden\].
fn tiles_one_by_one(model: &dyn Model, prompt: &Prompt, pass: &Pass) -> Result<Array> {
    let embeddings = model.embeddings_of(&prompt.input_ids, pass)?;
    let Some(image) = &prompt.image else { return Ok(embeddings) };
    let features = |views: &Array, pass: &Pass| Ok(model.features(std::slice::from_ref(views), pass)?.remove(0));
    // In the order of the model's own calls.
    let whole_first = model.facts().junction.whole_first;
    let early = whole_first.then(|| features(&image.global, pass)).transpose()?;
    let tiles = match &image.tiles {
        Some(tiles) => {
            let each = ops::split_equal(tiles, tiles.dim(0), 0)?.into_iter();
            Some(JoinedTaps::new(pass).run(each, (0, axis_of_images), features)?)
        }
        None => None,
    };
    let whole = early.map_or_else(|| features(&image.global, pass), Ok)?;
    let rows = model.rows(tiles.as_ref(), image.grid, &whole, pass)?;
    merge(&embeddings, &rows, &prompt.images_seq_mask)
}
