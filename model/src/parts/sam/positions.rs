//! SAM's relative positions (`add_decomposed_rel_pos` and `get_rel_pos` of `deepencoder.py`): what a patch's distance in rows and its distance
//! in columns add to a score.
//!
//! ```text
//! q [B, heads, h·w, d] × both tables [d, 2h − 1 + 2w − 1] → a number for every distance
//!   by_row [B, heads, h, w, h] and by_col [B, heads, h, w, w]: views of it, one column further for the next key
//!   bias   [B, heads, h·w, h·w]: their sum for every pair of patches
//! ```

use mlx_rs::{
    Array, Dtype, ops,
    ops::indexing::{IntoStrideBy, TryIndexOp},
};

use crate::{
    backend::{
        Param,
        resample::{Kept, LinearMode},
        runtime,
    },
    contract::{MadeBias, Pass, Site, Step},
    error::Result,
    loading::Scope,
};

/// GEMMs of such a multiple are the fast ones.
const ALIGNED: i32 = 8;

/// One attention layer's tables, \[2·edge − 1, head_dim\] each.
pub(crate) struct RelativePositions {
    rel_pos_h: Param,
    rel_pos_w: Param,
    /// Both as one, for a grid.
    tables: Kept<(i32, i32, Dtype)>,
    /// See [`Positions::spread`].
    spreads: Kept<(i32, i32, Dtype)>,
}

impl RelativePositions {
    /// Loads the tables that were made for `edge` patches per side.
    pub(crate) fn load(scope: &Scope, edge: i32, head_dim: i32) -> Self {
        Self {
            rel_pos_h: scope.param("rel_pos_h", &[2 * edge - 1, head_dim]),
            rel_pos_w: scope.param("rel_pos_w", &[2 * edge - 1, head_dim]),
            tables: Kept::default(),
            spreads: Kept::default(),
        }
    }

    /// What they give for q \[B, heads, h·w, d\] of the module at `site`.
    pub(crate) fn of(&self, site: &Site, q: &Array, (h, w): (i32, i32), pass: &Pass) -> Result<Positions> {
        let (batch, heads, dtype) = (q.dim(0), q.dim(1), q.dtype());
        let table = self.tables.get_or(pass.keeps(), (h, w, dtype), || self.table(site, (h, w), dtype, pass))?;
        let all = site.step(pass, Step::Distances { q, table: &table, grid: (h, w) })?;
        // From a patch to the one `down` rows below or `right` columns beside it, its keys begin that much earlier.
        let view = |first: i32, keys: i32, down: i64, right: i64| -> Result<Array> {
            let [h, w, heads, width] = [h, w, heads, table.dim(1)].map(i64::from);
            let strides = [heads * h * w * width, h * w * width, w * width - down, width - right, 1];
            let offset = (first + keys - 1).unsigned_abs() as usize;
            Ok(all.as_strided(&[batch, q.dim(1), h as i32, w as i32, keys][..], &strides[..], offset)?)
        };
        // A GPU's product of float32 may round its factors (TF32); of narrower ones it adds what they are.
        let spreads = runtime::is_gpu() && dtype != Dtype::Float32;
        Ok(Positions {
            by_row: view(0, h, 1, 0)?,
            by_col: view(2 * h - 1, w, 0, 1)?,
            spread: spreads.then(|| self.spreads.get_or(true, (h, w, dtype), || spread(h, w, dtype))).transpose()?,
        })
    }

    /// Rows for every distance, \[d, 2h − 1 + 2w − 1\]: PyTorch takes row q − k + size − 1 for query q and key k; with the rows turned round, the
    /// next key's is the next column.
    fn table(&self, site: &Site, (h, w): (i32, i32), dtype: Dtype, pass: &Pass) -> Result<Array> {
        let [rows, cols] = [(&self.rel_pos_h, h), (&self.rel_pos_w, w)].map(|(table, size)| -> Result<Array> {
            let (rows, size) = (table.stored(), 2 * size - 1);
            let rows = site.step(pass, Step::ResampleRows { rows, size, mode: LinearMode::HalfPixels, dtype })?;
            Ok(rows.try_index(((..).stride_by(-1), ..))?)
        });
        Ok(ops::concatenate(&[rows?, cols?], 0)?.t())
    }
}

/// What relative positions add to the scores of a patch at row h and column w.
pub(crate) struct Positions {
    /// For every row of patches seen, \[B, heads, h, w, h\].
    by_row: Array,
    /// For every column seen, \[B, heads, h, w, w\].
    by_col: Array,
    /// Where the sum is a product: 1 where a patch seen is in this row or this column, \[h + w and up to a multiple of 8, h·w\].
    spread: Option<Array>,
}

impl Positions {
    /// Those of a range of the batch and a range of the heads.
    fn cut(&self, images: (i32, i32), heads: (i32, i32)) -> Result<Self> {
        let cut = |x: &Array| x.try_index((images.0..images.1, heads.0..heads.1));
        Ok(Self { by_row: cut(&self.by_row)?, by_col: cut(&self.by_col)?, spread: self.spread.clone() })
    }

    /// For every patch seen, \[B, heads, h·w, h·w\].
    fn whole(&self) -> Result<Array> {
        let (batch, heads) = (self.by_row.dim(0), self.by_row.dim(1));
        let places = self.by_row.dim(4) * self.by_col.dim(4);
        let shape = [batch, heads, places, places];
        let Some(spread) = &self.spread else {
            let sum = self.by_row.expand_dims(-1)?.add(self.by_col.expand_dims(-2)?)?;
            return Ok(sum.reshape(&shape)?);
        };
        // One sum of two numbers each, all others are 0: what adding gives, several times as fast as MLX adds arrays of five axes.
        let (width, mut rows) = (spread.dim(0), self.by_row.shape().to_vec());
        rows[4] = width - self.by_row.dim(4) - self.by_col.dim(4);
        let none = ops::zeros_dtype(&rows, spread.dtype())?;
        let both = ops::concatenate(&[&self.by_row, &self.by_col, &none], -1)?;
        Ok(ops::matmul(both.reshape(&[-1, width])?, spread)?.reshape(&shape)?)
    }
}

impl MadeBias for Positions {
    fn bias(&self, images: (i32, i32), heads: (i32, i32)) -> Result<Array> {
        self.cut(images, heads)?.whole()
    }
}

/// [`Positions::spread`].
fn spread(h: i32, w: i32, dtype: Dtype) -> Result<Array> {
    let width = (h + w + ALIGNED - 1) / ALIGNED * ALIGNED;
    let is_there = |(at, place): (i32, i32)| f32::from(u8::from(at == place / w || at == h + place % w));
    let values: Vec<f32> = (0..width).flat_map(|at| (0..h * w).map(move |place| (at, place))).map(is_there).collect();
    Ok(Array::from_slice(&values, &[width, h * w]).as_dtype(dtype)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::runtime::DeviceKind, steps::Plain};

    /// Against the definition: PyTorch's sum over d of q · table[q − k + size − 1], for rows and columns.
    #[test]
    fn positions_are_those_of_the_definition() -> Result<()> {
        runtime::use_device(DeviceKind::Cpu)?;
        let (batch, heads, h, w, d) = (2, 3, 3, 4, 2);
        let whole =
            |count: i32, seed: i32| -> Vec<f32> { (0..count).map(|at| ((at * 7919 + seed) % 13 - 6) as f32).collect() };
        let (q, rows, cols) =
            (whole(batch * heads * h * w * d, 1), whole((2 * h - 1) * d, 2), whole((2 * w - 1) * d, 3));
        let positions = RelativePositions {
            rel_pos_h: Param::new(Array::from_slice(&rows, &[2 * h - 1, d])),
            rel_pos_w: Param::new(Array::from_slice(&cols, &[2 * w - 1, d])),
            tables: Kept::default(),
            spreads: Kept::default(),
        };
        let given = Array::from_slice(&q, &[batch, heads, h * w, d]);
        let mut found = positions.of(&Site::new("attn"), &given, (h, w), &Pass::by(&Plain))?;
        let dot = |q_at: i32, table: &[f32], row: i32| -> f32 {
            (0..d).map(|i| q[(q_at * d + i) as usize] * table[(row * d + i) as usize]).sum()
        };
        let want: Vec<f32> = (0..batch * heads * h * w)
            .flat_map(|query| (0..h * w).map(move |key| (query, key)))
            .map(|(query, key)| {
                let (row, col) = (query / w % h - key / w + h - 1, query % w - key % w + w - 1);
                dot(query, &rows, row) + dot(query, &cols, col)
            })
            .collect();
        assert_eq!(found.whole()?.contiguous()?.try_as_slice::<f32>()?, want);
        // By a product, as on a GPU.
        found.spread = Some(spread(h, w, Dtype::Float32)?);
        assert_eq!(found.whole()?.contiguous()?.try_as_slice::<f32>()?, want);
        Ok(())
    }
}
