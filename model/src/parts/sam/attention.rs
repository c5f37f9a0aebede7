//! SAM's attention: windows of patches, relative positions added to their scores (`Attention`, `window_partition` of the release's
//! `deepencoder.py`).
//!
//! ```text
//! x [B, h, w, C] ─ qkv → q, k, v [B, heads, h·w, d]
//!   bias[i, j] = q[i]·rel_pos_h[row(i) - row(j)] + q[i]·rel_pos_w[col(i) - col(j)]        (q unscaled)
//!   softmax(q kᵀ / √d + bias) v ─ proj → [B, h, w, C]
//! ```

use mlx_rs::Array;

use super::{config::SamConfig, positions::RelativePositions};
use crate::{
    backend::kernels,
    contract::{Mask, Module, Operation, Pass, Site, Step, one},
    error::Result,
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
        }
    }

    /// Applies attention within each of the B images or windows.
    ///
    /// # Errors
    /// When the width does not fit.
    pub fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || {
            let (batch, h, w, width) = (x.dim(0), x.dim(1), x.dim(2), x.dim(3));
            let qkv = self.qkv.forward(x, pass)?;
            let [q, k, v] = kernels::by_head(&qkv, [batch, h * w], [self.heads, self.head_dim])?;
            let positions = self.positions.of(&self.site, &q, (h, w), pass)?;
            let scale = (self.head_dim as f32).sqrt().recip();
            let mask = Mask::Made(&positions);
            let out = self.site.step(pass, Step::Attend { q: &q, k: &k, v: &v, scale, mask })?;
            let out = out.transpose_axes(&[0, 2, 1, 3])?.reshape(&[batch, h, w, width])?;
            self.proj.forward(&out, pass)
        })
    }
}

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
}
