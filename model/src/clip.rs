//! CLIP-L, the semantic encoder, fed with SAM's features instead of its own patches (`VitModel` of `deepencoder.py`).
//!
//! ```text
//! SAM features [N, g, g, width] → rows; class token first → [N, g² + 1, width]
//!   + position table, resampled (bicubic, antialias, NCHW in PyTorch) when g is not the table's grid
//!   pre_layrnorm (the checkpoint's spelling)
//!   layers: x + self_attn(layer_norm1(x)); x + mlp(layer_norm2(x)), quick_gelu
//! ```
//! The checkpoint's own patch convolution is loaded and never used, as in the release.

use mlx_rs::Array;

use crate::{
    activation::{activate, other_activations},
    clip_embeddings::{Embeddings, two},
    config::{ClipConfig, Layout},
    error::Result,
    fault::{GraphFault, Planted},
    kernels::{self, Mask, residual},
    layers::{LayerNorm, Linear, one},
    tap::{Module, Operation, Site, Taps, TorchLayout},
    views::Views,
    weights::Scope,
};

/// The encoder: (pixels \[N, S, S, 3\], SAM features \[N, g, g, width\]) → \[N, g² + 1, width\].
pub struct ClipEncoder {
    site: Site,
    embeddings: Embeddings,
    pre_layrnorm: LayerNorm,
    transformer: Transformer,
    planted: Planted,
}

impl ClipEncoder {
    /// Loads the encoder's weights.
    pub fn load(scope: &Scope, config: &ClipConfig, layout: Layout) -> Self {
        Self {
            site: scope.site().with_layouts(TorchLayout::Nchw, TorchLayout::Same),
            embeddings: Embeddings::load(&scope.child("embeddings"), config),
            pre_layrnorm: LayerNorm::load(&scope.child("pre_layrnorm"), config.width, config.layer_norm_eps),
            transformer: Transformer::load(&scope.child("transformer"), config, layout),
            planted: scope.planted(),
        }
    }

    /// Encodes a batch. The pixels are only shown to listeners: the release passes them along and does not use them.
    ///
    /// # Errors
    /// When the features do not fit the width.
    pub fn forward(&self, pixels: &Array, features: &Array, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[pixels, features], || {
            let x = self.embeddings.forward(pixels, features, taps)?;
            self.encode(&x, &Views::single(&x), taps)
        })
    }

    /// Encodes batches of different sizes together, from pixels and features of each.
    ///
    /// # Errors
    /// As [`ClipEncoder::forward`].
    pub(crate) fn forward_all(&self, pixels: &[Array], features: &[Array]) -> Result<Vec<Array>> {
        let taps = Taps::none();
        let embed = |(pixels, features)| self.embeddings.forward(pixels, features, &taps);
        let (views, x) = Views::join(&pixels.iter().zip(features).map(embed).collect::<Result<Vec<_>>>()?)?;
        views.apart(&self.encode(&x, &views, &taps)?)
    }

    fn encode(&self, x: &Array, views: &Views, taps: &Taps) -> Result<Array> {
        if self.planted.has(GraphFault::PreNormMissing) {
            return self.transformer.forward(x, views, taps);
        }
        self.transformer.forward(&self.pre_layrnorm.forward(x, taps)?, views, taps)
    }
}

impl Module for ClipEncoder {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], taps: &Taps) -> Result<Array> {
        self.site.isolated(inputs, |x| {
            let (pixels, features) = two(&self.site, x)?;
            self.forward(pixels, features, taps)
        })
    }

    fn children(&self) -> Vec<&dyn Module> {
        vec![&self.embeddings, &self.pre_layrnorm, &self.transformer]
    }
}

/// The stack of layers (`NoTPTransformer`): \[N, T, width\] → the same.
pub struct Transformer {
    site: Site,
    layers: Vec<TransformerBlock>,
}

impl Transformer {
    fn load(scope: &Scope, config: &ClipConfig, layout: Layout) -> Self {
        let layer = |i| TransformerBlock::load(&scope.child(format!("layers.{i}")), config, layout);
        Self { site: scope.site(), layers: (0..config.layers).map(layer).collect() }
    }

    fn forward(&self, x: &Array, views: &Views, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[x], || self.layers.iter().try_fold(x.clone(), |x, layer| layer.forward(&x, views, taps)))
    }
}

impl Module for Transformer {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], taps: &Taps) -> Result<Array> {
        let x = one(&self.site, inputs)?;
        self.forward(x, &Views::single(x), taps)
    }

    fn children(&self) -> Vec<&dyn Module> {
        self.layers.iter().map(|l| l as &dyn Module).collect()
    }
}

/// One layer (`NoTPTransformerBlock`).
pub struct TransformerBlock {
    site: Site,
    layer_norm1: LayerNorm,
    self_attn: Attention,
    layer_norm2: LayerNorm,
    mlp: FeedForward,
    planted: Planted,
}

impl TransformerBlock {
    fn load(scope: &Scope, config: &ClipConfig, layout: Layout) -> Self {
        let norm = |name: &str| LayerNorm::load(&scope.child(name), config.width, config.layer_norm_eps);
        Self {
            site: scope.site(),
            layer_norm1: norm("layer_norm1"),
            self_attn: Attention::load(&scope.child("self_attn"), config, layout),
            layer_norm2: norm("layer_norm2"),
            mlp: FeedForward::load(&scope.child("mlp"), config),
            planted: scope.planted(),
        }
    }

    fn forward(&self, x: &Array, views: &Views, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[x], || {
            let attended = self.self_attn.forward(&self.layer_norm1.forward(x, taps)?, views, taps)?;
            let x = residual(self.planted, x, &attended)?;
            residual(self.planted, &x, &self.mlp.forward(&self.layer_norm2.forward(&x, taps)?, taps)?)
        })
    }
}

impl Module for TransformerBlock {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], taps: &Taps) -> Result<Array> {
        let x = one(&self.site, inputs)?;
        self.forward(x, &Views::single(x), taps)
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
    planted: Planted,
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
            planted: scope.planted(),
        }
    }

    fn forward(&self, x: &Array, views: &Views, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[x], || {
            let qkv = self.qkv_proj.forward(x, taps)?;
            self.out_proj.forward(&views.each(&qkv, |qkv| self.attend(qkv))?, taps)
        })
    }

    /// Queries, keys and values side by side: \[N, T, 3·width\] → \[N, T, width\].
    fn attend(&self, qkv: &Array) -> Result<Array> {
        let (batch, tokens, width) = (qkv.dim(0), qkv.dim(1), self.heads * self.head_dim);
        let [q, k, v] = kernels::by_head(qkv, [batch, tokens], [self.heads, self.head_dim])?;
        let by_width = self.planted.has(GraphFault::ClipScaleByWidth);
        let scale = (if by_width { width } else { self.head_dim } as f32).sqrt().recip();
        let out = kernels::attention(self.planted, (&q, &k, &v), scale, &Mask::None)?;
        Ok(out.transpose_axes(&[0, 2, 1, 3])?.reshape(&[batch, tokens, width])?)
    }
}

impl Module for Attention {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], taps: &Taps) -> Result<Array> {
        let x = one(&self.site, inputs)?;
        self.forward(x, &Views::single(x), taps)
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
    activation: Operation,
    planted: Planted,
}

impl FeedForward {
    fn load(scope: &Scope, config: &ClipConfig) -> Self {
        let planted = scope.planted();
        let (width, inner) = (config.width, config.ffn_hidden_size);
        Self {
            site: scope.site(),
            fc1: Linear::load(&scope.child("fc1"), width, inner, true),
            fc2: Linear::load(&scope.child("fc2"), inner, width, true),
            activation: if planted.has(GraphFault::ClipExactGelu) {
                Operation::Gelu
            } else if planted.has(GraphFault::ClipTanhGelu) {
                Operation::GeluTanh
            } else {
                Operation::QuickGelu
            },
            planted,
        }
    }

    fn forward(&self, x: &Array, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[x], || {
            let inner = self.fc1.forward(x, taps)?;
            self.fc2.forward(&activate(self.planted, self.activation, &inner)?, taps)
        })
    }

    fn forward_with(&self, x: &Array, activation: Operation) -> Result<Array> {
        let none = Taps::none();
        self.fc2.forward(&activate(self.planted, activation, &self.fc1.forward(x, &none)?)?, &none)
    }
}

impl Module for FeedForward {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], taps: &Taps) -> Result<Array> {
        self.forward(one(&self.site, inputs)?, taps)
    }

    fn children(&self) -> Vec<&dyn Module> {
        vec![&self.fc1, &self.fc2]
    }

    fn operations(&self) -> Vec<Operation> {
        vec![self.activation]
    }

    fn alternatives(&self, inputs: &[Array]) -> Result<Vec<(String, Array)>> {
        let x = one(&self.site, inputs)?;
        other_activations(self.activation, |activation| self.forward_with(x, activation))
    }
}
