//! The DeepSeek-V2 decoder as DeepSeek-OCR configures it: Llama's attention, dense first layers, then experts
//! (`DeepseekV2DecoderLayer` of `modeling_deepseekv2.py`, `LlamaAttention` of transformers 4.46.3, eager).
//!
//! ```text
//! x [1, T, hidden]
//!   x + self_attn(input_layernorm(x))            causal, rotary positions, grouped key/value heads
//!   x + mlp(post_attention_layernorm(x))         dense MLP, or router + experts + shared experts
//! ```

use mlx_rs::{Array, ops::indexing::TryIndexOp};

use crate::{
    activation::Activation,
    cache::LayerCache,
    config::LanguageConfig,
    error::{Error, Result},
    fault::{GraphFault, Planted},
    fused,
    kernels::{self, Mask, causal_bias, residual},
    layers::{Linear, RmsNorm, one},
    matrix::Matrix,
    moe::Moe,
    rotary::{Positions, RotaryEmbedding},
    runtime,
    tap::{Module, Operation, Site, Taps},
    weights::Scope,
};

/// One decoder layer: \[1, T, hidden\] → the same.
pub struct DecoderLayer {
    site: Site,
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: FeedForward,
    planted: Planted,
}

/// What follows attention.
enum FeedForward {
    Dense(Box<Mlp>),
    Experts(Box<Moe>),
}

impl DecoderLayer {
    /// Loads layer `index`.
    pub fn load(scope: &Scope, config: &LanguageConfig, index: i32) -> Self {
        let norm = |name: &str| RmsNorm::load(&scope.child(name), config.hidden_size, config.rms_norm_eps);
        let mlp = scope.child("mlp");
        Self {
            site: scope.site(),
            input_layernorm: norm("input_layernorm"),
            self_attn: Attention::load(&scope.child("self_attn"), config),
            post_attention_layernorm: norm("post_attention_layernorm"),
            mlp: if config.is_moe_layer(index) {
                FeedForward::Experts(Box::new(Moe::load(&mlp, config)))
            } else {
                FeedForward::Dense(Box::new(Mlp::load(&mlp, config.hidden_size, config.intermediate_size)))
            },
            planted: scope.planted(),
        }
    }

    /// Applies the layer; with a cache, `x` holds only the tokens that are new.
    ///
    /// # Errors
    /// When the width does not fit.
    pub fn forward(
        &self,
        x: &Array,
        positions: &Positions,
        cache: Option<&mut LayerCache>,
        taps: &Taps,
    ) -> Result<Array> {
        self.site.run(taps, &[x, positions.ids()], || {
            let normed = self.input_layernorm.forward(x, taps)?;
            let attended = self.self_attn.forward(&normed, positions, cache, taps)?;
            let from = if self.planted.has(GraphFault::DecoderResidualFromNorm) { &normed } else { x };
            let x = residual(self.planted, from, &attended)?;
            let normed = self.post_attention_layernorm.forward(&x, taps)?;
            let mlp = match &self.mlp {
                FeedForward::Dense(mlp) => mlp.forward(&normed, taps)?,
                FeedForward::Experts(moe) => moe.forward(&normed, taps)?,
            };
            residual(self.planted, &x, &mlp)
        })
    }
}

impl Module for DecoderLayer {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], taps: &Taps) -> Result<Array> {
        let positions = self.self_attn.rotary_emb.positions_of(&self.site, inputs)?;
        self.forward(one(&self.site, inputs)?, &positions, None, taps)
    }

    fn children(&self) -> Vec<&dyn Module> {
        let mlp: &dyn Module = match &self.mlp {
            FeedForward::Dense(mlp) => mlp.as_ref(),
            FeedForward::Experts(moe) => moe.as_ref(),
        };
        vec![&self.input_layernorm, &self.self_attn, &self.post_attention_layernorm, mlp]
    }
}

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
    fn load(scope: &Scope, config: &LanguageConfig) -> Self {
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

    fn forward(&self, x: &Array, positions: &Positions, cache: Option<&mut LayerCache>, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[x, positions.ids()], || {
            let (batch, tokens) = (x.dim(0), x.dim(1));
            let by_head = |y: Array, heads: i32| -> Result<Array> {
                if tokens == 1 {
                    // In memory it is the same, and a step has a dozen such.
                    return Ok(y.reshape(&[batch, heads, 1, self.head_dim])?);
                }
                Ok(y.reshape(&[batch, tokens, heads, self.head_dim])?.transpose_axes(&[0, 2, 1, 3])?)
            };
            let is_heard = [&self.q_proj, &self.k_proj, &self.v_proj].iter().any(|project| project.is_heard(taps));
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
                    let q = by_head(self.q_proj.forward(x, taps)?, self.heads)?;
                    let k = by_head(self.k_proj.forward(x, taps)?, self.kv_heads)?;
                    let v = by_head(self.v_proj.forward(x, taps)?, self.kv_heads)?;
                    let keys_only = self.planted.has(GraphFault::RopeOnKeysOnly);
                    (if keys_only { q } else { positions.rotate(&q)? }, positions.rotate(&k)?, v)
                }
            };
            self.rotary_emb.show(&v, positions, taps)?;
            let (k, v) = match cache {
                Some(cache) => cache.append(&k, &v, self.planted)?,
                None => (k, v),
            };
            let out = self.attend(&q, &k, &v, positions.mask())?;
            let width = self.heads * self.head_dim;
            let out = if tokens == 1 { out } else { out.transpose_axes(&[0, 2, 1, 3])? };
            let out = out.reshape(&[batch, tokens, width])?;
            self.o_proj.forward(&out, taps)
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

    fn call(&self, inputs: &[Array], taps: &Taps) -> Result<Array> {
        let positions = self.rotary_emb.positions_of(&self.site, inputs)?;
        self.forward(one(&self.site, inputs)?, &positions, None, taps)
    }

    fn children(&self) -> Vec<&dyn Module> {
        vec![&self.q_proj, &self.k_proj, &self.v_proj, &self.rotary_emb, &self.o_proj]
    }

    fn operations(&self) -> Vec<Operation> {
        vec![Operation::Attention { head_dim: self.head_dim }]
    }
}

/// down_proj(silu(gate_proj(x)) · up_proj(x)) (`DeepseekV2MLP`): \[…, hidden\] → the same.
pub struct Mlp {
    site: Site,
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
    act_fn: Activation,
    /// Gate and up in one product, where weights are joined.
    gate_up: Option<Matrix>,
    planted: Planted,
}

impl Mlp {
    /// Loads the three projections.
    pub fn load(scope: &Scope, hidden: i32, inner: i32) -> Self {
        let linear = |name: &str, input, output| Linear::load(&scope.child(name), input, output, false);
        let (mut gate, mut up) = (linear("gate_proj", hidden, inner), linear("up_proj", hidden, inner));
        let gate_up = scope.fuse(&mut [gate.weight_mut(), up.weight_mut()]);
        Self { gate_up, ..Self::new(scope, gate, up, linear("down_proj", inner, hidden)) }
    }

    /// Makes one of projections that are loaded already (an expert's, cut from a stack).
    pub(crate) fn new(scope: &Scope, gate_proj: Linear, up_proj: Linear, down_proj: Linear) -> Self {
        let planted = scope.planted();
        let gelu = scope.planted().has(GraphFault::GeluForSilu);
        let function = if gelu { Operation::Gelu } else { Operation::Silu };
        let act_fn = Activation::new(&scope.child("act_fn"), function);
        Self { site: scope.site(), gate_proj, up_proj, down_proj, act_fn, gate_up: None, planted }
    }

    /// Applies it.
    ///
    /// # Errors
    /// When the last axis is not `hidden`.
    pub fn forward(&self, x: &Array, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[x], || {
            let is_heard = self.gate_proj.is_heard(taps) || self.up_proj.is_heard(taps);
            if let (Some(gate_up), false) = (&self.gate_up, is_heard) {
                return self.down_proj.forward(&gated(&self.act_fn, &gate_up.product(self.planted, x)?, taps)?, taps);
            }
            let gate = self.act_fn.forward(&self.gate_proj.forward(x, taps)?, taps)?;
            self.down_proj.forward(&gate.multiply(self.up_proj.forward(x, taps)?)?, taps)
        })
    }
}

impl Mlp {
    /// The function between its projections.
    pub(crate) fn act_fn(&self) -> &Activation {
        &self.act_fn
    }
}

impl Module for Mlp {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], taps: &Taps) -> Result<Array> {
        self.forward(one(&self.site, inputs)?, taps)
    }

    fn children(&self) -> Vec<&dyn Module> {
        vec![&self.gate_proj, &self.act_fn, &self.up_proj, &self.down_proj]
    }
}

/// act(gate) · up, of both side by side: \[…, 2·inner\] → \[…, inner\].
pub(crate) fn gated(act_fn: &Activation, both: &Array, taps: &Taps) -> Result<Array> {
    let inner = both.dim(-1) / 2;
    let part = |range: std::ops::Range<i32>| both.try_index((mlx_rs::ops::indexing::Ellipsis, range));
    let (gate, up) = (part(0..inner)?, part(inner..2 * inner)?);
    if runtime::is_gpu() && act_fn.is_plain_silu(taps) {
        return fused::gated(&gate, &up);
    }
    Ok(act_fn.forward(&gate, taps)?.multiply(up)?)
}

/// A planted fault's: the first token is hidden from all but itself.
fn hide_first(tokens: i32, seen: i32, dtype: mlx_rs::Dtype) -> Result<Array> {
    let start = seen - tokens;
    let hidden = |(t, s): (i32, i32)| if s == 0 && start + t > 0 { -1e9_f32 } else { 0.0 };
    let values: Vec<f32> = (0..tokens).flat_map(|t| (0..seen).map(move |s| (t, s))).map(hidden).collect();
    Ok(Array::from_slice(&values, &[tokens, seen]).as_dtype(dtype)?)
}

impl RotaryEmbedding {
    /// The positions PyTorch passed as second input.
    fn positions_of(&self, site: &Site, inputs: &[Array]) -> Result<Positions> {
        match inputs {
            [_, ids, ..] => self.positions(ids),
            _ => Err(Error::input(site.path(), "hidden states and position ids", format!("{} inputs", inputs.len()))),
        }
    }
}
