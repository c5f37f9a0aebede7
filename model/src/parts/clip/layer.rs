//! One layer: full attention and an MLP.

use mlx_rs::Array;

use super::config::ClipConfig;
use crate::{
    backend::kernels,
    contract::{Mask, Module, Operation, Pass, Site, Step, one},
    error::Result,
    layers::{LayerNorm, Linear, Views},
    loading::{Layout, Scope},
};

/// One layer (`NoTPTransformerBlock`).
pub struct TransformerBlock {
    site: Site,
    layer_norm1: LayerNorm,
    self_attn: Attention,
    layer_norm2: LayerNorm,
    mlp: FeedForward,
}

impl TransformerBlock {
    pub(super) fn load(scope: &Scope, config: &ClipConfig, layout: Layout) -> Self {
        let norm = |name: &str| LayerNorm::load(&scope.child(name), config.width, config.layer_norm_eps);
        Self {
            site: scope.site(),
            layer_norm1: norm("layer_norm1"),
            self_attn: Attention::load(&scope.child("self_attn"), config, layout),
            layer_norm2: norm("layer_norm2"),
            mlp: FeedForward::load(&scope.child("mlp"), config),
        }
    }

    pub(super) fn forward(&self, x: &Array, views: &Views, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || {
            let add = |name: &'static str, x: &Array, y: &Array, normed: &Array| {
                self.site.step_named(pass, name, Step::Add { x, y, normed: Some(normed) })
            };
            let normed = self.layer_norm1.forward(x, pass)?;
            let x = add("attention", x, &self.self_attn.forward(&normed, views, pass)?, &normed)?;
            let normed = self.layer_norm2.forward(&x, pass)?;
            add("mlp", &x, &self.mlp.forward(&normed, pass)?, &normed)
        })
    }
}

impl Module for TransformerBlock {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        let x = one(&self.site, inputs)?;
        self.forward(x, &Views::single(x), pass)
    }

    fn children(&self) -> Vec<&dyn Module> {
        vec![&self.layer_norm1, &self.self_attn, &self.layer_norm2, &self.mlp]
    }
}

/// Full attention over the sequence (`NoTPAttention`): \[N, T, width\] → the same.
pub struct Attention {
    site: Site,
    qkv_proj: Linear,
    out_proj: Linear,
    heads: i32,
    head_dim: i32,
}

impl Attention {
    fn load(scope: &Scope, config: &ClipConfig, layout: Layout) -> Self {
        let (width, heads) = (config.width, config.heads);
        let parts = (layout == Layout::Split).then_some(["q_proj", "k_proj", "v_proj"]);
        Self {
            site: scope.site(),
            qkv_proj: Linear::load_packed(&scope.child("qkv_proj"), parts, width, 3 * width),
            out_proj: Linear::load(&scope.child("out_proj"), width, width, true),
            heads,
            head_dim: width / heads,
        }
    }

    fn forward(&self, x: &Array, views: &Views, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || {
            let qkv = self.qkv_proj.forward(x, pass)?;
            self.out_proj.forward(&views.each(&qkv, |qkv| self.attend(qkv, pass))?, pass)
        })
    }

    /// Queries, keys and values side by side: \[N, T, 3·width\] → \[N, T, width\].
    fn attend(&self, qkv: &Array, pass: &Pass) -> Result<Array> {
        let (batch, tokens, width) = (qkv.dim(0), qkv.dim(1), self.heads * self.head_dim);
        let [q, k, v] = kernels::by_head(qkv, [batch, tokens], [self.heads, self.head_dim])?;
        let scale = (self.head_dim as f32).sqrt().recip();
        let out = self.site.step(pass, Step::Attend { q: &q, k: &k, v: &v, scale, mask: Mask::None })?;
        Ok(out.transpose_axes(&[0, 2, 1, 3])?.reshape(&[batch, tokens, width])?)
    }
}

impl Module for Attention {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        let x = one(&self.site, inputs)?;
        self.forward(x, &Views::single(x), pass)
    }

    fn children(&self) -> Vec<&dyn Module> {
        vec![&self.qkv_proj, &self.out_proj]
    }

    fn operations(&self) -> Vec<Operation> {
        vec![Operation::Attention { head_dim: self.head_dim }]
    }
}

/// fc2(quick_gelu(fc1(x))) (`NoTPFeedForward`); the activation is a function in PyTorch and has no tap.
pub struct FeedForward {
    site: Site,
    fc1: Linear,
    fc2: Linear,
}

impl FeedForward {
    fn load(scope: &Scope, config: &ClipConfig) -> Self {
        let (width, inner) = (config.width, config.ffn_hidden_size);
        Self {
            site: scope.site(),
            fc1: Linear::load(&scope.child("fc1"), width, inner, true),
            fc2: Linear::load(&scope.child("fc2"), inner, width, true),
        }
    }

    fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || {
            let inner = self.fc1.forward(x, pass)?;
            let inner = self.site.step(pass, Step::Activate { x: &inner, function: Operation::QuickGelu })?;
            self.fc2.forward(&inner, pass)
        })
    }
}

impl Module for FeedForward {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        self.forward(one(&self.site, inputs)?, pass)
    }

    fn children(&self) -> Vec<&dyn Module> {
        vec![&self.fc1, &self.fc2]
    }

    fn operations(&self) -> Vec<Operation> {
        vec![Operation::QuickGelu]
    }
}
