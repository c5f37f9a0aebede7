//! From encoded views to rows of the decoder's input (`DeepseekOCRModel.forward` of `modeling_deepseekocr.py`).
//!
//! ```text
//! tiles  [P, t², hidden] ─ laid out in their grid, row-major over the whole grid, image_newline after every row
//! global [1, g², hidden] ─ image_newline after every row
//! rows:  tiles, global, view_seperator        (the checkpoint's spelling)
//! ```

use mlx_rs::{Array, ops};

use crate::{
    config::LanguageConfig,
    error::{Error, Result},
    fault::{GraphFault, Planted},
    kernels::{self, scalar},
    layers::Param,
    weights::Scope,
};

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

/// The two learned rows between image features, \[hidden\] each.
pub struct Assembly {
    image_newline: Param,
    view_seperator: Param,
    planted: Planted,
}

impl Assembly {
    /// Loads both rows.
    pub fn load(scope: &Scope, config: &LanguageConfig) -> Self {
        Self {
            image_newline: scope.param("image_newline", &[config.hidden_size]),
            view_seperator: scope.param("view_separator", &[config.hidden_size]),
            planted: scope.planted(),
        }
    }

    /// Lays projected features out as rows \[n, hidden\]: tiles \[P, t², hidden\] if any, then global \[1, g², hidden\].
    ///
    /// # Errors
    /// When the number of tiles is not that of the grid or a view is not square.
    pub fn rows(&self, tiles: Option<&Array>, grid: TileGrid, global: &Array) -> Result<Array> {
        let hidden = global.dim(2);
        let mut parts = Vec::new();
        if let Some(tiles) = tiles {
            parts.push(self.tile_rows(tiles, grid)?);
        }
        let edge = square_edge(global)?;
        parts.push(self.end_rows(&global.reshape(&[edge, edge, hidden])?)?);
        let separator = self.view_seperator.to(global.dtype())?.reshape(&[1, hidden])?;
        let absent = self.planted.has(GraphFault::SeparatorMissing);
        parts.push(if absent { separator.multiply(scalar(0.0, separator.dtype())?)? } else { separator });
        if self.planted.has(GraphFault::GlobalFirst) {
            let last = parts.len() - 2;
            parts.swap(0, last);
        } else if self.planted.has(GraphFault::SeparatorFirst) {
            let last = parts.len() - 1;
            parts.swap(last - 1, last);
        }
        let rows = ops::concatenate(&parts, 0)?;
        Ok(if self.planted.has(GraphFault::ImageRowsOffByOne) { kernels::roll(&rows, 1)? } else { rows })
    }

    fn tile_rows(&self, tiles: &Array, grid: TileGrid) -> Result<Array> {
        let (edge, hidden) = (square_edge(tiles)?, tiles.dim(2));
        let TileGrid { across, down } = grid;
        if across < 1 || down < 1 || tiles.dim(0) != across * down {
            let found = format!("{} tiles for a grid of {across}×{down}", tiles.dim(0));
            return Err(Error::input("image", "as many tiles as the grid has places", found));
        }
        let placed = if self.planted.has(GraphFault::TilesInColumnOrder) {
            tiles.reshape(&[across, down, edge, edge, hidden])?.transpose_axes(&[1, 2, 0, 3, 4])?
        } else {
            tiles.reshape(&[down, across, edge, edge, hidden])?.transpose_axes(&[0, 2, 1, 3, 4])?
        };
        self.end_rows(&placed.reshape(&[down * edge, across * edge, hidden])?)
    }

    /// \[h, w, hidden\] → \[h·(w + 1), hidden\], `image_newline` after every row.
    fn end_rows(&self, x: &Array) -> Result<Array> {
        let (height, width, hidden) = (x.dim(0), x.dim(1), x.dim(2));
        let newline = self.image_newline.to(x.dtype())?.reshape(&[1, 1, hidden])?;
        let absent = self.planted.has(GraphFault::NewlineMissing);
        let newline = if absent { newline.multiply(scalar(0.0, x.dtype())?)? } else { newline };
        let newlines = ops::broadcast_to(newline, &[height, 1, hidden])?;
        let first = self.planted.has(GraphFault::NewlineFirst);
        let row = if first { [newlines, x.clone()] } else { [x.clone(), newlines] };
        Ok(ops::concatenate(&row, 1)?.reshape(&[height * (width + 1), hidden])?)
    }
}

/// The side of a square view whose features are \[N, side², hidden\].
fn square_edge(features: &Array) -> Result<i32> {
    let count = features.dim(1);
    let edge = f64::from(count).sqrt().round() as i32;
    if edge * edge == count {
        Ok(edge)
    } else {
        Err(Error::input("image", "a square view", format!("{count} features")))
    }
}

/// Puts rows \[n, hidden\] in the places of `mask` in embeddings \[1, T, hidden\] (`masked_scatter_`).
///
/// # Errors
/// When the mask does not hold as many places as there are rows.
pub fn merge(embeddings: &Array, rows: &Array, mask: &[bool]) -> Result<Array> {
    let (tokens, hidden) = (embeddings.dim(1), embeddings.dim(2));
    let places = mask.iter().filter(|&&m| m).count();
    if places != rows.dim(0) as usize || mask.len() != tokens as usize {
        let expected = format!("{} places for image features in {tokens} tokens", rows.dim(0));
        return Err(Error::input("images_seq_mask", expected, format!("{places} in {}", mask.len())));
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
