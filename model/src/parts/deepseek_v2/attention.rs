//! Causal attention with rotary positions (`LlamaAttention`).

use mlx_rs::{Array, ops::indexing::TryIndexOp};

use super::config::LanguageConfig;
use crate::{
    backend::{
        LayerCache, Matrix,
        kernels::{self, Mask, causal_bias},
    },
    contract::{Module, Operation, Pass, Site, one},
    error::{Error, Result},
    fault::{GraphFault, Planted},
    layers::{Linear, Positions, RotaryEmbedding},
    loading::Scope,
};

/// Causal attention with rotary positions (`LlamaAttention`): \[1, T, hidden\] → the same.
pub struct Attention {
    site: Site,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    /// Queries, keys and values in one product, where weights are joined.
    qkv: Option<Matrix>,
    rotary_emb: RotaryEmbedding,
    heads: i32,
    kv_heads: i32,
    head_dim: i32,
    planted: Planted,
}

impl Attention {
    pub(super) fn load(scope: &Scope, config: &LanguageConfig) -> Self {
        let (hidden, head_dim) = (config.hidden_size, config.head_dim());
        let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
        let project = |name: &str, heads: i32| Linear::load(&scope.child(name), hidden, heads * head_dim, false);
        let (mut q_proj, mut k_proj, mut v_proj) =
            (project("q_proj", heads), project("k_proj", kv_heads), project("v_proj", kv_heads));
        Self {
            site: scope.site(),
            qkv: scope.fuse(&mut [q_proj.weight_mut(), k_proj.weight_mut(), v_proj.weight_mut()]),
            q_proj,
            k_proj,
            v_proj,
            o_proj: Linear::load(&scope.child("o_proj"), heads * head_dim, hidden, false),
            rotary_emb: RotaryEmbedding::new(
                scope.child("rotary_emb").site(),
                head_dim,
                config.rope_theta,
                scope.planted(),
            ),
            heads,
            kv_heads,
            head_dim,
            planted: scope.planted(),
        }
    }

    pub(super) fn forward(
        &self,
        x: &Array,
        positions: &Positions,
        cache: Option<&mut LayerCache>,
        pass: &Pass,
    ) -> Result<Array> {
        self.site.run(pass, &[x, positions.ids()], || {
            let (batch, tokens) = (x.dim(0), x.dim(1));
            let by_head = |y: Array, heads: i32| -> Result<Array> {
                if tokens == 1 {
                    // In memory it is the same, and a step has a dozen such.
                    return Ok(y.reshape(&[batch, heads, 1, self.head_dim])?);
                }
                Ok(y.reshape(&[batch, tokens, heads, self.head_dim])?.transpose_axes(&[0, 2, 1, 3])?)
            };
            let is_heard = [&self.q_proj, &self.k_proj, &self.v_proj].iter().any(|project| project.is_heard(pass));
            let (q, k, v) = match &self.qkv {
                Some(qkv) if !is_heard => {
                    let (queries, rotated) = (self.heads, self.heads + self.kv_heads);
                    let all = by_head(qkv.product(self.planted, x)?, rotated + self.kv_heads)?;
                    let turned = positions.rotate(&all.try_index((.., ..rotated))?)?;
                    (
                        turned.try_index((.., ..queries))?,
                        turned.try_index((.., queries..))?,
                        all.try_index((.., rotated..))?,
                    )
                }
                _ => {
                    let q = by_head(self.q_proj.forward(x, pass)?, self.heads)?;
                    let k = by_head(self.k_proj.forward(x, pass)?, self.kv_heads)?;
                    let v = by_head(self.v_proj.forward(x, pass)?, self.kv_heads)?;
                    let keys_only = self.planted.has(GraphFault::RopeOnKeysOnly);
                    (if keys_only { q } else { positions.rotate(&q)? }, positions.rotate(&k)?, v)
                }
            };
            self.rotary_emb.show(&v, positions, pass)?;
            let (k, v) = match cache {
                Some(cache) => cache.append(&k, &v, self.planted)?,
                None => (k, v),
            };
            let out = self.attend(&q, &k, &v, positions.mask())?;
            let width = self.heads * self.head_dim;
            let out = if tokens == 1 { out } else { out.transpose_axes(&[0, 2, 1, 3])? };
            let out = out.reshape(&[batch, tokens, width])?;
            self.o_proj.forward(&out, pass)
        })
    }

    /// Every token sees those before it and itself, or what `mask` says.
    fn attend(&self, q: &Array, k: &Array, v: &Array, mask: Option<&Array>) -> Result<Array> {
        let unscaled = self.planted.has(GraphFault::AttentionUnscaled);
        let scale = if unscaled { 1.0 } else { (self.head_dim as f32).sqrt().recip() };
        let (tokens, seen) = (q.dim(2), k.dim(2));
        if self.planted.has(GraphFault::MaskMissing) {
            return kernels::attention(self.planted, (q, k, v), scale, &Mask::None);
        }
        if self.planted.has(GraphFault::MaskSeesNext) {
            let bias = causal_bias(tokens, seen, 1, q.dtype())?;
            return kernels::attention(self.planted, (q, k, v), scale, &Mask::Bias(&bias));
        }
        if self.planted.has(GraphFault::MaskHidesFirst) {
            let bias = causal_bias(tokens, seen, 0, q.dtype())?.add(hide_first(tokens, seen, q.dtype())?)?;
            return kernels::attention(self.planted, (q, k, v), scale, &Mask::Bias(&bias));
        }
        if self.planted.has(GraphFault::HeadGroupsTiled) {
            let tile = |x: &Array| -> Result<Array> {
                let heads: Vec<i32> = (0..self.heads).map(|head| head % self.kv_heads).collect();
                Ok(x.take_axis(Array::from_slice(&heads, &[self.heads]), 1)?)
            };
            return kernels::attention(self.planted, (q, &tile(k)?, &tile(v)?), scale, &Mask::Causal);
        }
        // A token after all others sees everything: no mask to read.
        let mask = mask.map_or(if tokens == 1 { Mask::None } else { Mask::Causal }, Mask::Bias);
        kernels::attention(self.planted, (q, k, v), scale, &mask)
    }
}

impl Module for Attention {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        let positions = self.positions_of(&self.site, inputs)?;
        self.forward(one(&self.site, inputs)?, &positions, None, pass)
    }

    fn children(&self) -> Vec<&dyn Module> {
        vec![&self.q_proj, &self.k_proj, &self.v_proj, &self.rotary_emb, &self.o_proj]
    }

    fn operations(&self) -> Vec<Operation> {
        vec![Operation::Attention { head_dim: self.head_dim }]
    }
}

/// A planted fault's: the first token is hidden from all but itself.
fn hide_first(tokens: i32, seen: i32, dtype: mlx_rs::Dtype) -> Result<Array> {
    let start = seen - tokens;
    let hidden = |(t, s): (i32, i32)| if s == 0 && start + t > 0 { -1e9_f32 } else { 0.0 };
    let values: Vec<f32> = (0..tokens).flat_map(|t| (0..seen).map(move |s| (t, s))).map(hidden).collect();
    Ok(Array::from_slice(&values, &[tokens, seen]).as_dtype(dtype)?)
}

impl Attention {
    /// The positions PyTorch passed as second input of the module at `site`.
    pub(super) fn positions_of(&self, site: &Site, inputs: &[Array]) -> Result<Positions> {
        match inputs {
            [_, ids, ..] => self.rotary_emb.positions(ids),
            _ => Err(Error::input(site.path(), "hidden states and position ids", format!("{} inputs", inputs.len()))),
        }
    }
}
