//! Pictures as a model gets them, and image features among token embeddings.

use mlx_rs::{Array, ops};

use crate::error::{Error, Result};

/// One picture as the model gets it: a whole view and, for large pictures, tiles.
#[derive(Debug, Clone)]
pub struct Image {
    /// The whole picture, \[1, S, S, 3\], channels-last.
    pub global: Array,
    /// Tiles, \[P, s, s, 3\], channels-last, row by row; absent where the picture needs none.
    pub tiles: Option<Array>,
    /// Tiles across and down.
    pub grid: TileGrid,
}

impl Image {
    /// A picture from values \[3, side, side\] of the whole view and \[P, 3, tile, tile\] of the tiles (none: empty), channels first as
    /// PyTorch has them.
    ///
    /// # Errors
    /// When the values are not as many as the sides say.
    pub fn from_nchw(whole: &[f32], side: usize, tiles: &[f32], tile: usize, grid: TileGrid) -> Result<Self> {
        let view = |values: &[f32], edge: usize| {
            let count = values.len() / (3 * edge * edge).max(1);
            if count == 0 || count * 3 * edge * edge != values.len() {
                return Err(Error::input(
                    "image",
                    format!("views of 3 × {edge} × {edge}"),
                    format!("{} values", values.len()),
                ));
            }
            let shape = [count as i32, 3, edge as i32, edge as i32];
            Ok(Array::from_slice(values, &shape).transpose_axes(&[0, 2, 3, 1])?)
        };
        let tiles = if tiles.is_empty() { None } else { Some(view(tiles, tile)?) };
        Ok(Self { global: view(whole, side)?, tiles, grid })
    }
}

/// How many tiles a picture was cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TileGrid {
    /// Tiles side by side.
    pub across: i32,
    /// Tiles one above the other.
    pub down: i32,
}

/// Puts rows \[n, hidden\] in the slots of `mask` in embeddings \[1, T, hidden\] (`masked_scatter_`).
///
/// # Errors
/// When the mask does not hold as many slots as there are rows.
pub fn merge(embeddings: &Array, rows: &Array, mask: &[bool]) -> Result<Array> {
    let (tokens, hidden) = (embeddings.dim(1), embeddings.dim(2));
    let slots = mask.iter().filter(|&&m| m).count();
    if slots != rows.dim(0) as usize || mask.len() != tokens as usize {
        let expected = format!("{} slots for image features in {tokens} tokens", rows.dim(0));
        return Err(Error::input("images_seq_mask", expected, format!("{slots} in {}", mask.len())));
    }
    let mut next = tokens - 1;
    let pick = |(token, &is_image): (usize, &bool)| {
        if is_image {
            next += 1;
            next
        } else {
            token as i32
        }
    };
    let order: Vec<i32> = mask.iter().enumerate().map(pick).collect();
    let both = ops::concatenate(&[embeddings.reshape(&[tokens, hidden])?, rows.as_dtype(embeddings.dtype())?], 0)?;
    Ok(both.take_axis(Array::from_slice(&order, &[tokens]), 0)?.reshape(&[1, tokens, hidden])?)
}
