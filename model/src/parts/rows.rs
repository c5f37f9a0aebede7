//! From encoded views to rows of the decoder's input (`DeepseekOCRModel.forward` of `modeling_deepseekocr.py`).
//!
//! ```text
//! tiles  [P, t², hidden] ─ laid out in their grid, row-major over the whole grid, image_newline after every row
//! global [1, g², hidden] ─ image_newline after every row
//! rows:  tiles, global, view_seperator        (the checkpoint's spelling)
//! ```
//!
//! Without newlines (`DeepseekOcr2Model.get_image_features`) features follow each other tile by tile, whatever the grid.

use mlx_rs::{Array, ops};

use crate::{
    backend::{Param, kernels::square_edge},
    contract::{Pass, Step, TileGrid},
    error::{Error, Result},
    loading::Scope,
};

/// The learned rows between image features, \[hidden\] each.
pub struct ImageRows {
    image_newline: Option<Param>,
    view_seperator: Param,
}

impl ImageRows {
    /// Loads both rows; or the separator alone, for features without newlines.
    pub fn load(scope: &Scope, hidden: i32, has_newlines: bool) -> Self {
        Self {
            image_newline: has_newlines.then(|| scope.param("image_newline", &[hidden])),
            view_seperator: scope.param("view_separator", &[hidden]),
        }
    }

    /// Lays projected features out as rows \[n, hidden\]: tiles \[P, t², hidden\] if any, then global \[1, g², hidden\].
    ///
    /// # Errors
    /// When the number of tiles is not that of the grid or a view is not square.
    pub fn rows(&self, tiles: Option<&Array>, grid: TileGrid, global: &Array, pass: &Pass) -> Result<Array> {
        let hidden = global.dim(2);
        let mut parts = Vec::new();
        if let Some(tiles) = tiles {
            parts.push(self.tile_rows(tiles, grid, pass)?);
        }
        parts.push(if self.image_newline.is_some() {
            let edge = square_edge(global)?;
            self.end_rows(&global.reshape(&[edge, edge, hidden])?, pass)?
        } else {
            global.reshape(&[-1, hidden])?
        });
        parts.push(self.view_seperator.to(global.dtype())?.reshape(&[1, hidden])?);
        pass.run_named(PATH, "rows", Step::Join { parts: &parts, axis: 0 })
    }

    fn tile_rows(&self, tiles: &Array, grid: TileGrid, pass: &Pass) -> Result<Array> {
        if self.image_newline.is_none() {
            return Ok(tiles.reshape(&[-1, tiles.dim(-1)])?);
        }
        square_edge(tiles)?;
        let TileGrid { across, down } = grid;
        if across < 1 || down < 1 || tiles.dim(0) != across * down {
            let found = format!("{} tiles for a grid of {across}×{down}", tiles.dim(0));
            return Err(Error::input("image", "as many tiles as the grid has places", found));
        }
        self.end_rows(&pass.run(PATH, Step::Lay { tiles, across, down })?, pass)
    }

    /// \[h, w, hidden\] → \[h·(w + 1), hidden\], `image_newline` after every row.
    fn end_rows(&self, x: &Array, pass: &Pass) -> Result<Array> {
        let (height, width, hidden) = (x.dim(0), x.dim(1), x.dim(2));
        let Some(newline) = &self.image_newline else { return Ok(x.reshape(&[height * width, hidden])?) };
        let newline = newline.to(x.dtype())?.reshape(&[1, 1, hidden])?;
        let newlines = ops::broadcast_to(newline, &[height, 1, hidden])?;
        let rows = pass.run_named(PATH, "newlines", Step::Join { parts: &[x.clone(), newlines], axis: 1 })?;
        Ok(rows.reshape(&[height * (width + 1), hidden])?)
    }
}

/// PyTorch lays features out in the forward of its `model`.
const PATH: &str = "model";
