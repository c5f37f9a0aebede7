//! What CLIP's layers begin with: SAM's features as rows, the class token before them, and positions (`CLIPVisionEmbeddings` of
//! `deepencoder.py`).

use mlx_rs::{Array, Dtype, ops, ops::indexing::TryIndexOp};

use super::config::{ClipClass, ClipConfig};
use crate::{
    backend::{
        Param,
        kernels::scalar,
        resample::{Bicubic, Kept, bicubic_table},
    },
    contract::{Module, Pass, Site, TorchLayout},
    error::{Error, Result},
    fault::{GraphFault, Planted},
    layers::Embedding,
    loading::Scope,
};

/// Class token, features and positions (`CLIPVisionEmbeddings`).
pub struct Embeddings {
    site: Site,
    class_embedding: Param,
    position_embedding: Embedding,
    /// In the checkpoint, unused: SAM's features take the patches' place.
    _patch_embedding: Param,
    num_positions: i32,
    class: ClipClass,
    resampling: Bicubic,
    /// The position table as resampled for a grid.
    tables: Kept<(i32, Bicubic, Dtype)>,
    planted: Planted,
}

impl Embeddings {
    pub(crate) fn load(scope: &Scope, config: &ClipConfig) -> Self {
        let (width, patch, positions) = (config.width, config.patch_size, config.num_positions());
        let planted = scope.planted();
        let resampling = match planted {
            p if p.has(GraphFault::ClipTableWithoutAntialias) => Bicubic::Plain,
            p if p.has(GraphFault::ClipTableAlignsCorners) => Bicubic::AlignCorners,
            p if p.has(GraphFault::ClipTableHalfAPixelOff) => Bicubic::WholePixels,
            _ => Bicubic::Antialias,
        };
        Self {
            site: scope.site().with_layouts(TorchLayout::Nchw, TorchLayout::Same),
            class_embedding: scope.param("class_embedding", &[width]),
            position_embedding: Embedding::load(&scope.child("position_embedding"), positions, width),
            _patch_embedding: scope.child("patch_embedding").param("weight", &[width, patch, patch, 3]),
            num_positions: positions,
            class: config.class,
            resampling,
            tables: Kept::default(),
            planted,
        }
    }

    /// (pixels, features \[N, g, g, width\]) → \[N, g² + 1, width\].
    ///
    /// # Errors
    /// When the features do not fit the width.
    pub(crate) fn forward(&self, pixels: &Array, features: &Array, pass: &Pass) -> Result<Array> {
        self.forward_with(pixels, features, self.resampling, pass)
    }

    /// With the table resampled in a given way.
    fn forward_with(&self, pixels: &Array, features: &Array, resampling: Bicubic, pass: &Pass) -> Result<Array> {
        self.site.run(pass, given(self.class, &[pixels, features]), || {
            let (batch, grid, width) = (features.dim(0), features.dim(1), features.dim(3));
            let transposed = self.planted.has(GraphFault::SamFeaturesTransposed);
            let features = if transposed { &features.transpose_axes(&[0, 2, 1, 3])? } else { features };
            let patches = features.reshape(&[batch, grid * features.dim(2), width])?;
            let class = self.class_embedding.to(features.dtype())?;
            let class = ops::broadcast_to(class.reshape(&[1, 1, width])?, &[batch, 1, width])?;
            let class_last = self.planted.has(GraphFault::ClassTokenLast);
            let x = ops::concatenate(&if class_last { [patches, class] } else { [class, patches] }, 1)?;
            if self.planted.has(GraphFault::ClipPositionsMissing) {
                let none = self.positions(grid, &x, resampling, pass)?.multiply(scalar(0.0, x.dtype())?)?;
                return Ok(x.add(none)?);
            }
            Ok(x.add(self.positions(grid, &x, resampling, pass)?)?)
        })
    }

    /// The table for a grid of `grid`², class row first: \[1, grid² + 1, width\] (`get_abs_pos`).
    fn positions(&self, grid: i32, x: &Array, resampling: Bicubic, pass: &Pass) -> Result<Array> {
        let ids: Vec<i32> = (0..self.num_positions).collect();
        let ids = Array::from_slice(&ids, &[1, self.num_positions]);
        let is_resampled = grid * grid + 1 != self.num_positions;
        // transformers reads a table that it resamples without calling the module.
        let unheard = pass.unheard();
        let is_called = !is_resampled || self.class == ClipClass::Release;
        let table = self.position_embedding.forward(&ids, x.dtype(), if is_called { pass } else { &unheard })?;
        if !is_resampled {
            return Ok(table);
        }
        let way = (grid, resampling, x.dtype());
        self.tables.get_or(way, || self.resampled(&table, way))
    }

    fn resampled(&self, table: &Array, (grid, resampling, dtype): (i32, Bicubic, Dtype)) -> Result<Array> {
        let (width, edge) = (table.dim(2), ((self.num_positions - 1) as f64).sqrt() as i32);
        let class = table.try_index((.., ..1))?;
        let rows = table.try_index((.., 1..))?.reshape(&[1, edge, edge, width])?;
        // The fault takes the table's memory for one with channels first and resamples what it finds there.
        let scrambled = self.planted.has(GraphFault::ClipTableScrambled);
        let rows = if scrambled { rows.reshape(&[1, width, edge, edge])?.transpose_axes(&[0, 2, 3, 1])? } else { rows };
        let rows = bicubic_table(&rows, grid, resampling, self.planted, dtype)?;
        let rows = if scrambled { rows.transpose_axes(&[0, 3, 1, 2])? } else { rows };
        let rows = rows.reshape(&[1, grid * grid, width])?;
        Ok(ops::concatenate(&[class, rows], 1)?)
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

    fn alternatives(&self, inputs: &[Array]) -> Result<Vec<(String, Array)>> {
        self.resampling.others(|mode| {
            self.site.isolated(inputs, |x| {
                let (pixels, features) = two(&self.site, self.class, x)?;
                self.forward_with(pixels, features, mode, &Pass::plain())
            })
        })
    }
}

/// Pixels and features, as PyTorch passes them; transformers passes the features alone, which then stand for both.
pub(crate) fn two<'a>(site: &Site, class: ClipClass, inputs: &'a [Array]) -> Result<(&'a Array, &'a Array)> {
    match (class, inputs) {
        (ClipClass::Release, [a, b, ..]) => Ok((a, b)),
        (ClipClass::Transformers, [features, ..]) => Ok((features, features)),
        _ => Err(Error::input(site.path(), "pixels and SAM features", format!("{} inputs", inputs.len()))),
    }
}

/// What a module of `class` is given of pixels and features.
pub(crate) fn given<'a>(class: ClipClass, both: &'a [&'a Array; 2]) -> &'a [&'a Array] {
    match class {
        ClipClass::Release => both,
        ClipClass::Transformers => &both[1..],
    }
}
