//! Causal attention with rotary positions (`LlamaAttention`).

use mlx_rs::{Array, ops::indexing::TryIndexOp};

use super::config::LanguageConfig;
use crate::{
    backend::{LayerCache, Matrix, Positions},
    contract::{Mask, Module, Operation, Pass, Site, Step, one},
    error::{Error, Result},
    layers::{Linear, RotaryEmbedding},
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
            qkv: scope.join_matrices(&mut [q_proj.weight_mut(), k_proj.weight_mut(), v_proj.weight_mut()]),
            q_proj,
            k_proj,
            v_proj,
            o_proj: Linear::load(&scope.child("o_proj"), heads * head_dim, hidden, false),
            rotary_emb: RotaryEmbedding::new(scope.child("rotary_emb").site(), head_dim, config.rope_theta),
            heads,
            kv_heads,
            head_dim,
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
            let rotate = |x: &Array, queries: i32| self.site.step(pass, Step::Rotate { x, positions, queries });
            let (q, k, v) = match &self.qkv {
                Some(qkv) if pass.together() => {
                    let (queries, rotated) = (self.heads, self.heads + self.kv_heads);
                    let all = self.site.step_named(pass, "qkv", Step::Product { x, weight: qkv, bias: None })?;
                    let all = by_head(all, rotated + self.kv_heads)?;
                    let turned = rotate(&all.try_index((.., ..rotated))?, queries)?;
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
                    (rotate(&q, self.heads)?, rotate(&k, 0)?, v)
                }
            };
            self.rotary_emb.show(&v, positions, pass)?;
            let (k, v) = match cache {
                Some(cache) => cache.append(&k, &v)?,
                None => (k, v),
            };
            let scale = (self.head_dim as f32).sqrt().recip();
            // A token after all others sees everything: no mask to read.
            let mask = positions.mask().map_or(if tokens == 1 { Mask::None } else { Mask::Causal }, Mask::Bias);
            let out = self.site.step(pass, Step::Attend { q: &q, k: &k, v: &v, scale, mask })?;
            let width = self.heads * self.head_dim;
            let out = if tokens == 1 { out } else { out.transpose_axes(&[0, 2, 1, 3])? };
            let out = out.reshape(&[batch, tokens, width])?;
            self.o_proj.forward(&out, pass)
        })
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

impl Attention {
    /// The positions PyTorch passed as second input of the module at `site`.
    pub(super) fn positions_of(&self, site: &Site, inputs: &[Array]) -> Result<Positions> {
        match inputs {
            [_, ids, ..] => self.rotary_emb.positions(ids),
            _ => Err(Error::input(site.path(), "hidden states and position ids", format!("{} inputs", inputs.len()))),
        }
    }
}
