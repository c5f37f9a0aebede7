//! From encoded views to rows of the decoder's input (`DeepseekOCRModel.forward` of `modeling_deepseekocr.py`).
//!
//! ```text
//! tiles  [P, t², hidden] ─ laid out in their grid, row-major over the whole grid, image_newline after every row
//! global [1, g², hidden] ─ image_newline after every row
//! rows:  tiles, global, view_seperator        (the checkpoint's spelling)
//! ```

use mlx_rs::{Array, ops};

use crate::{
    backend::{
        Param,
        kernels::{self, scalar},
    },
    contract::TileGrid,
    error::{Error, Result},
    fault::{GraphFault, Planted},
    loading::Scope,
};

/// The two learned rows between image features, \[hidden\] each.
pub struct ImageRows {
    image_newline: Param,
    view_seperator: Param,
    planted: Planted,
}

impl ImageRows {
    /// Loads both rows.
    pub fn load(scope: &Scope, hidden: i32) -> Self {
        Self {
            image_newline: scope.param("image_newline", &[hidden]),
            view_seperator: scope.param("view_separator", &[hidden]),
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
