//! SAM's attention: windows of patches, relative positions added to their scores (`Attention`, `window_partition` of the release's
//! `deepencoder.py`).
//!
//! ```text
//! x [B, h, w, C] ─ qkv → q, k, v [B, heads, h·w, d]
//!   bias[i, j] = q[i]·rel_pos_h[row(i) - row(j)] + q[i]·rel_pos_w[col(i) - col(j)]        (q unscaled)
//!   softmax(q kᵀ / √d + bias) v ─ proj → [B, h, w, C]
//! ```

use mlx_rs::{Array, ops, ops::indexing::TryIndexOp};

use super::{
    config::SamConfig,
    positions::{Positions, RelativePositions},
};
use crate::{
    backend::{
        kernels::{self, Mask},
        lanes,
        resample::LinearMode,
    },
    contract::{Module, Operation, Pass, Site, one},
    error::Result,
    fault::{GraphFault, Planted, Variant},
    layers::Linear,
    loading::{Layout, Scope},
};

/// Attention over the patches of a window or of the whole image: \[B, h, w, C\] → the same.
pub struct Attention {
    site: Site,
    qkv: Linear,
    proj: Linear,
    positions: RelativePositions,
    heads: i32,
    head_dim: i32,
    planted: Planted,
}

impl Attention {
    /// Loads the weights; `edge` is the number of patches per side that the relative positions were made for.
    pub fn load(scope: &Scope, config: &SamConfig, edge: i32, layout: Layout) -> Self {
        let (width, heads) = (config.width, config.heads);
        let head_dim = width / heads;
        let parts = (layout == Layout::Split).then_some(["q_proj", "k_proj", "v_proj"]);
        Self {
            site: scope.site(),
            qkv: Linear::load_packed(&scope.child("qkv"), parts, width, 3 * width),
            proj: Linear::load(&scope.child("proj"), width, width, true),
            positions: RelativePositions::load(scope, edge, head_dim),
            heads,
            head_dim,
            planted: scope.planted(),
        }
    }

    /// Applies attention within each of the B images or windows.
    ///
    /// # Errors
    /// When the width does not fit.
    pub fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.forward_with(x, self.positions.resampling(), pass)
    }

    /// With the relative positions' tables resampled in a given way.
    fn forward_with(&self, x: &Array, resampling: LinearMode, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || {
            let (batch, h, w, width) = (x.dim(0), x.dim(1), x.dim(2), x.dim(3));
            let qkv = self.qkv.forward(x, pass)?;
            let [q, k, v] = kernels::by_head(&qkv, [batch, h * w], [self.heads, self.head_dim])?;
            let positions = self.positions.of(&q, (h, w), resampling)?;
            let out = self.attend((&q, &k, &v), &positions)?;
            let out = out.transpose_axes(&[0, 2, 1, 3])?.reshape(&[batch, h, w, width])?;
            self.proj.forward(&out, pass)
        })
    }

    /// softmax(q kᵀ / √d + bias) v, \[B, heads, h·w, d\]: at once, or in parts where that is faster or a correct variant is asked for.
    fn attend(&self, (q, k, v): (&Array, &Array, &Array), positions: &Positions) -> Result<Array> {
        let (batch, heads, places) = (q.dim(0), self.heads, q.dim(2));
        let scale = (self.head_dim as f32).sqrt().recip();
        let part = |images: (i32, i32), heads: (i32, i32)| -> Result<Array> {
            let cut = |x: &Array| x.try_index((images.0..images.1, heads.0..heads.1));
            let bias = positions.cut(images, heads)?.bias()?;
            kernels::attention(self.planted, (&cut(q)?, &cut(k)?, &cut(v)?), scale, &Mask::Bias(&bias))
        };
        if self.planted.by(Variant::WindowsOneByOne) {
            return Ok(ops::concatenate(
                &(0..batch).map(|at| part((at, at + 1), (0, heads))).collect::<Result<Vec<_>>>()?,
                0,
            )?);
        }
        if !self.planted.is_empty() || !lanes::worthwhile((batch * heads) as usize * (places * places) as usize) {
            return part((0, batch), (0, heads));
        }
        if places < MANY_PLACES {
            return Ok(ops::concatenate(&lanes::apart(batch, |at| part((at, at + 1), (0, heads)))?, 0)?);
        }
        // A head of an image has millions of scores: one at a time on each core, none of them kept.
        let each = lanes::apart(batch * heads, |at| {
            let (image, head) = (at / heads, at % heads);
            part((image, image + 1), (head, head + 1))
        })?;
        Ok(ops::concatenate(&each, 1)?.reshape(q.shape())?)
    }
}

/// From so many places on, attention's parts are single heads; below, whole windows.
const MANY_PLACES: i32 = 1024;

impl Module for Attention {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        self.forward(one(&self.site, inputs)?, pass)
    }

    fn children(&self) -> Vec<&dyn Module> {
        vec![&self.qkv, &self.proj]
    }

    fn operations(&self) -> Vec<Operation> {
        vec![Operation::Attention { head_dim: self.head_dim }]
    }

    fn alternatives(&self, inputs: &[Array]) -> Result<Vec<(String, Array)>> {
        self.positions
            .resampling()
            .others(|mode| self.site.isolated(inputs, |x| self.forward_with(one(&self.site, x)?, mode, &Pass::plain())))
    }
}

/// How an image was cut into windows.
#[derive(Debug, Clone, Copy)]
pub struct Windows {
    batch: i32,
    height: i32,
    width: i32,
    size: i32,
    planted: Planted,
}

impl Windows {
    /// Cuts \[N, H, W, C\] into windows \[N·nh·nw, size, size, C\], zeros padding the bottom and the right
    /// (`window_partition`).
    ///
    /// # Errors
    /// MLX's.
    pub fn partition(x: &Array, size: i32, planted: Planted) -> Result<(Array, Self)> {
        let (batch, height, width, channels) = (x.dim(0), x.dim(1), x.dim(2), x.dim(3));
        let cut = Self { batch, height, width, size, planted };
        let (rows, cols) = cut.counts();
        let pad = |missing: i32| {
            if planted.has(GraphFault::WindowPaddingFirst) { (missing, 0) } else { (0, missing) }
        };
        let padding = [(0, 0), pad(rows * size - height), pad(cols * size - width), (0, 0)];
        let x = ops::pad(x, &padding[..], None, None)?;
        let x = x.reshape(&[batch, rows, size, cols, size, channels])?.transpose_axes(&[0, 1, 3, 2, 4, 5])?;
        Ok((x.reshape(&[batch * rows * cols, size, size, channels])?, cut))
    }

    /// Puts the windows back together and cuts the padding off (`window_unpartition`).
    ///
    /// # Errors
    /// When the windows are not those of this cut.
    pub fn join(self, windows: &Array) -> Result<Array> {
        let (rows, cols) = self.counts();
        let channels = windows.dim(3);
        let x = windows.reshape(&[self.batch, rows, cols, self.size, self.size, channels])?;
        let transposed = self.planted.has(GraphFault::WindowsJoinedTransposed) && rows == cols;
        let x = x.transpose_axes(if transposed { &[0, 2, 3, 1, 4, 5] } else { &[0, 1, 3, 2, 4, 5] })?;
        let x = x.reshape(&[self.batch, rows * self.size, cols * self.size, channels])?;
        if self.planted.has(GraphFault::WindowPaddingFirst) {
            let (top, left) = (rows * self.size - self.height, cols * self.size - self.width);
            return Ok(x.try_index((.., top.., left..))?);
        }
        Ok(x.try_index((.., ..self.height, ..self.width))?)
    }

    fn counts(self) -> (i32, i32) {
        let windows = |edge: i32| (edge + self.size - 1) / self.size;
        (windows(self.height), windows(self.width))
    }
}
