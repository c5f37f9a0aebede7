//! The DeepSeek-V2 decoder as DeepSeek-OCR configures it: Llama's attention, dense first layers, then experts
//! (`DeepseekV2DecoderLayer` of `modeling_deepseekv2.py`, `LlamaAttention` of transformers 4.46.3, eager).
//!
//! ```text
//! x [1, T, hidden]
//!   x + self_attn(input_layernorm(x))            causal, rotary positions, grouped key/value heads
//!   x + mlp(post_attention_layernorm(x))         dense MLP, or router + experts + shared experts
//! ```

use mlx_rs::{
    Array,
    fast::{self, ScaledDotProductAttentionMask},
};

use crate::{
    cache::LayerCache,
    config::LanguageConfig,
    error::{Error, Result},
    layers::{Activation, Linear, RmsNorm, one},
    moe::Moe,
    rotary::{Positions, RotaryEmbedding},
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
            let attended = self.self_attn.forward(&self.input_layernorm.forward(x, taps)?, positions, cache, taps)?;
            let x = x.add(attended)?;
            let normed = self.post_attention_layernorm.forward(&x, taps)?;
            let mlp = match &self.mlp {
                FeedForward::Dense(mlp) => mlp.forward(&normed, taps)?,
                FeedForward::Experts(moe) => moe.forward(&normed, taps)?,
            };
            Ok(x.add(mlp)?)
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
    rotary_emb: RotaryEmbedding,
    heads: i32,
    kv_heads: i32,
    head_dim: i32,
}

impl Attention {
    fn load(scope: &Scope, config: &LanguageConfig) -> Self {
        let (hidden, head_dim) = (config.hidden_size, config.head_dim());
        let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
        let project = |name: &str, heads: i32| Linear::load(&scope.child(name), hidden, heads * head_dim, false);
        Self {
            site: scope.site(),
            q_proj: project("q_proj", heads),
            k_proj: project("k_proj", kv_heads),
            v_proj: project("v_proj", kv_heads),
            o_proj: Linear::load(&scope.child("o_proj"), heads * head_dim, hidden, false),
            rotary_emb: RotaryEmbedding::new(scope.child("rotary_emb").site(), head_dim, config.rope_theta),
            heads,
            kv_heads,
            head_dim,
        }
    }

    fn forward(&self, x: &Array, positions: &Positions, cache: Option<&mut LayerCache>, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[x, positions.ids()], || {
            let (batch, tokens) = (x.dim(0), x.dim(1));
            let by_head = |y: Array, heads: i32| -> Result<Array> {
                Ok(y.reshape(&[batch, tokens, heads, self.head_dim])?.transpose_axes(&[0, 2, 1, 3])?)
            };
            let q = by_head(self.q_proj.forward(x, taps)?, self.heads)?;
            let k = by_head(self.k_proj.forward(x, taps)?, self.kv_heads)?;
            let v = by_head(self.v_proj.forward(x, taps)?, self.kv_heads)?;
            self.rotary_emb.show(&v, positions, taps)?;
            let (q, k) = (positions.rotate(&q)?, positions.rotate(&k)?);
            let (k, v) = match cache {
                Some(cache) => cache.append(&k, &v)?,
                None => (k, v),
            };
            let scale = (self.head_dim as f32).sqrt().recip();
            let out = fast::scaled_dot_product_attention(q, k, v, scale, ScaledDotProductAttentionMask::Causal, None)?;
            let width = self.heads * self.head_dim;
            let out = out.transpose_axes(&[0, 2, 1, 3])?.reshape(&[batch, tokens, width])?;
            self.o_proj.forward(&out, taps)
        })
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
}

impl Mlp {
    /// Loads the three projections.
    pub fn load(scope: &Scope, hidden: i32, inner: i32) -> Self {
        let linear = |name: &str, input, output| Linear::load(&scope.child(name), input, output, false);
        Self::new(
            scope,
            linear("gate_proj", hidden, inner),
            linear("up_proj", hidden, inner),
            linear("down_proj", inner, hidden),
        )
    }

    /// Makes one of projections that are loaded already (an expert's, cut from a stack).
    pub(crate) fn new(scope: &Scope, gate_proj: Linear, up_proj: Linear, down_proj: Linear) -> Self {
        let act_fn = Activation::new(&scope.child("act_fn"), Operation::Silu);
        Self { site: scope.site(), gate_proj, up_proj, down_proj, act_fn }
    }

    /// Applies it.
    ///
    /// # Errors
    /// When the last axis is not `hidden`.
    pub fn forward(&self, x: &Array, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[x], || {
            let gate = self.act_fn.forward(&self.gate_proj.forward(x, taps)?, taps)?;
            self.down_proj.forward(&gate.multiply(self.up_proj.forward(x, taps)?)?, taps)
        })
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

impl RotaryEmbedding {
    /// The positions PyTorch passed as second input.
    fn positions_of(&self, site: &Site, inputs: &[Array]) -> Result<Positions> {
        match inputs {
            [_, ids, ..] => self.positions(ids),
            _ => Err(Error::input(site.path(), "hidden states and position ids", format!("{} inputs", inputs.len()))),
        }
    }
}
