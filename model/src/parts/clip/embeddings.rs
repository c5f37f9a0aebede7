//! What CLIP's layers begin with: SAM's features as rows, the class token before them, and positions (`CLIPVisionEmbeddings` of
//! `deepencoder.py`).

use mlx_rs::{Array, Dtype, ops, ops::indexing::TryIndexOp};

use super::config::ClipConfig;
use crate::{
    backend::{
        Param,
        resample::{Bicubic, Kept},
    },
    contract::{Module, Pass, Site, Step, TorchLayout},
    error::{Error, Result},
    layers::Embedding,
    loading::{Class, Scope},
};

/// Class token, features and positions (`CLIPVisionEmbeddings`).
pub struct Embeddings {
    site: Site,
    class_embedding: Param,
    position_embedding: Embedding,
    /// In the checkpoint, unused: SAM's features take the patches' place.
    _patch_embedding: Param,
    num_positions: i32,
    class: Class,
    /// The position table as resampled for a grid.
    tables: Kept<(i32, Dtype)>,
}

impl Embeddings {
    pub(crate) fn load(scope: &Scope, config: &ClipConfig) -> Self {
        let (width, patch, positions) = (config.width, config.patch_size, config.num_positions());
        Self {
            site: scope.site().with_layouts(TorchLayout::Nchw, TorchLayout::Same),
            class_embedding: scope.param("class_embedding", &[width]),
            position_embedding: Embedding::load(&scope.child("position_embedding"), positions, width),
            _patch_embedding: scope.child("patch_embedding").param("weight", &[width, patch, patch, 3]),
            num_positions: positions,
            class: scope.class(),
            tables: Kept::default(),
        }
    }

    /// (pixels, features \[N, g, g, width\]) → \[N, g² + 1, width\].
    ///
    /// # Errors
    /// When the features do not fit the width.
    pub(crate) fn forward(&self, pixels: &Array, features: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, given(self.class, &[pixels, features]), || {
            let (batch, grid, width) = (features.dim(0), features.dim(1), features.dim(3));
            let patches = self.site.step(pass, Step::Flatten { x: features })?;
            let class = self.class_embedding.to(features.dtype())?;
            let class = ops::broadcast_to(class.reshape(&[1, 1, width])?, &[batch, 1, width])?;
            let x = self.site.step(pass, Step::Join { parts: &[class, patches], axis: 1 })?;
            let positions = self.positions(grid, &x, pass)?;
            self.site.step_named(pass, "positions", Step::Add { x: &x, y: &positions, normed: None })
        })
    }

    /// The table for a grid of `grid`², class row first: \[1, grid² + 1, width\] (`get_abs_pos`).
    fn positions(&self, grid: i32, x: &Array, pass: &Pass) -> Result<Array> {
        let ids: Vec<i32> = (0..self.num_positions).collect();
        let ids = Array::from_slice(&ids, &[1, self.num_positions]);
        let is_resampled = grid * grid + 1 != self.num_positions;
        // transformers resamples the weight itself and does not call the module then.
        let without_listener = pass.without_listener();
        let is_called = !is_resampled || self.class == Class::Release;
        let table =
            self.position_embedding.forward(&ids, x.dtype(), if is_called { pass } else { &without_listener })?;
        if !is_resampled {
            return Ok(table);
        }
        self.tables.get_or(pass.keeps(), (grid, x.dtype()), || self.resampled(&table, (grid, x.dtype()), pass))
    }

    fn resampled(&self, table: &Array, (size, dtype): (i32, Dtype), pass: &Pass) -> Result<Array> {
        let (width, edge) = (table.dim(2), ((self.num_positions - 1) as f64).sqrt() as i32);
        let class = table.try_index((.., ..1))?;
        let rows = table.try_index((.., 1..))?.reshape(&[1, edge, edge, width])?;
        let rows = self.site.step(pass, Step::Resample { table: &rows, size, mode: Bicubic::Antialias, dtype })?;
        Ok(ops::concatenate(&[class, rows.reshape(&[1, size * size, width])?], 1)?)
    }
}

impl Module for Embeddings {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        self.site.isolated(inputs, |x| {
            let (pixels, features) = two(&self.site, self.class, x)?;
            self.forward(pixels, features, pass)
        })
    }

    fn children(&self) -> Vec<&dyn Module> {
        vec![&self.position_embedding]
    }
}

/// Pixels and features, as PyTorch passes them; transformers passes the features alone, which then stand for both.
pub(crate) fn two<'a>(site: &Site, class: Class, inputs: &'a [Array]) -> Result<(&'a Array, &'a Array)> {
    match (class, inputs) {
        (Class::Release, [pixels, features, ..]) => Ok((pixels, features)),
        (Class::Transformers, [features, ..]) => Ok((features, features)),
        _ => Err(Error::input(site.path(), "pixels and SAM features", format!("{} inputs", inputs.len()))),
    }
}

/// What a module of `class` is given of pixels and features.
pub(crate) fn given<'a>(class: Class, both: &'a [&'a Array; 2]) -> &'a [&'a Array] {
    match class {
        Class::Release => both,
        Class::Transformers => &both[1..],
    }
}
