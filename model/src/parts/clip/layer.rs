//! One layer: full attention and an MLP.

use mlx_rs::{Array, ops};

use super::config::{ClipClass, ClipConfig};
use crate::{
    backend::{
        Matrix,
        kernels::{self, Mask, residual},
    },
    contract::{Module, Operation, Pass, Site, one},
    error::Result,
    fault::{GraphFault, Planted},
    layers::{Activation, LayerNorm, Linear, Views, activate, other_activations},
    loading::{Layout, Scope},
};

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
    pub(super) fn load(scope: &Scope, config: &ClipConfig, layout: Layout) -> Self {
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

    pub(super) fn forward(&self, x: &Array, views: &Views, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || {
            let attended = self.self_attn.forward(&self.layer_norm1.forward(x, pass)?, views, pass)?;
            let x = residual(self.planted, x, &attended)?;
            residual(self.planted, &x, &self.mlp.forward(&self.layer_norm2.forward(&x, pass)?, pass)?)
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

/// What makes queries, keys and values.
enum Projection {
    /// One layer.
    Joined(Linear),
    /// One each, as transformers has them.
    Apart([Linear; 3]),
}

impl Projection {
    fn load(scope: &Scope, config: &ClipConfig, layout: Layout) -> Self {
        let width = config.width;
        let names = ["q_proj", "k_proj", "v_proj"];
        match (config.class, layout) {
            (ClipClass::Release, _) => {
                let parts = (layout == Layout::Split).then_some(names);
                Self::Joined(Linear::load_packed(&scope.child("qkv_proj"), parts, width, 3 * width))
            }
            (ClipClass::Transformers, Layout::Split) => {
                Self::Apart(names.map(|name| Linear::load(&scope.child(name), width, width, true)))
            }
            (ClipClass::Transformers, Layout::MlxVlm) => {
                let packed = scope.child("qkv_proj");
                let weights = packed.thirds("weight", &[3 * width, width]);
                let mut parts = weights.into_iter().zip(packed.thirds("bias", &[3 * width]));
                Self::Apart(names.map(|name| {
                    let (weight, bias) = parts.next().unwrap_or_else(|| (packed.nothing(), packed.nothing()));
                    Linear::with_bias(&scope.child(name), Matrix::Floats(weight), bias)
                }))
            }
        }
    }

    /// Queries, keys and values side by side: \[N, T, width\] → \[N, T, 3·width\].
    fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        match self {
            Self::Joined(all) => all.forward(x, pass),
            Self::Apart(each) => {
                let parts = each.iter().map(|part| part.forward(x, pass)).collect::<Result<Vec<_>>>()?;
                Ok(ops::concatenate(&parts, 2)?)
            }
        }
    }

    fn modules(&self) -> Vec<&dyn Module> {
        match self {
            Self::Joined(all) => vec![all],
            Self::Apart(each) => each.iter().map(|part| part as &dyn Module).collect(),
        }
    }
}

/// Full attention over the sequence (`NoTPAttention`): \[N, T, width\] → the same.
pub struct Attention {
    site: Site,
    project: Projection,
    out_proj: Linear,
    heads: i32,
    head_dim: i32,
    planted: Planted,
}

impl Attention {
    fn load(scope: &Scope, config: &ClipConfig, layout: Layout) -> Self {
        let (width, heads) = (config.width, config.heads);
        Self {
            site: scope.site(),
            project: Projection::load(scope, config, layout),
            out_proj: Linear::load(&scope.child("out_proj"), width, width, true),
            heads,
            head_dim: width / heads,
            planted: scope.planted(),
        }
    }

    fn forward(&self, x: &Array, views: &Views, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || {
            let qkv = self.project.forward(x, pass)?;
            self.out_proj.forward(&views.each(&qkv, |qkv| self.attend(qkv))?, pass)
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

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        let x = one(&self.site, inputs)?;
        self.forward(x, &Views::single(x), pass)
    }

    fn children(&self) -> Vec<&dyn Module> {
        self.project.modules().into_iter().chain([&self.out_proj as &dyn Module]).collect()
    }

    fn operations(&self) -> Vec<Operation> {
        vec![Operation::Attention { head_dim: self.head_dim }]
    }
}

/// fc2(quick_gelu(fc1(x))) (`NoTPFeedForward`); the activation is a function in the release and has no tap, in transformers it is a module.
pub struct FeedForward {
    site: Site,
    fc1: Linear,
    fc2: Linear,
    activation: Operation,
    activation_fn: Option<Activation>,
    planted: Planted,
}

impl FeedForward {
    fn load(scope: &Scope, config: &ClipConfig) -> Self {
        let planted = scope.planted();
        let (width, inner) = (config.width, config.ffn_hidden_size);
        let activation = if planted.has(GraphFault::ClipExactGelu) {
            Operation::Gelu
        } else if planted.has(GraphFault::ClipTanhGelu) {
            Operation::GeluTanh
        } else {
            Operation::QuickGelu
        };
        let is_module = config.class == ClipClass::Transformers;
        Self {
            site: scope.site(),
            fc1: Linear::load(&scope.child("fc1"), width, inner, true),
            fc2: Linear::load(&scope.child("fc2"), inner, width, true),
            activation,
            activation_fn: is_module.then(|| Activation::new(&scope.child("activation_fn"), activation)),
            planted,
        }
    }

    fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || {
            let inner = self.fc1.forward(x, pass)?;
            let active = match &self.activation_fn {
                Some(module) => module.forward(&inner, pass)?,
                None => activate(self.planted, self.activation, &inner)?,
            };
            self.fc2.forward(&active, pass)
        })
    }

    fn forward_with(&self, x: &Array, activation: Operation) -> Result<Array> {
        let none = Pass::plain();
        self.fc2.forward(&activate(self.planted, activation, &self.fc1.forward(x, &none)?)?, &none)
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
        let activation = self.activation_fn.iter().map(|module| module as &dyn Module);
        [&self.fc1 as &dyn Module].into_iter().chain(activation).chain([&self.fc2 as &dyn Module]).collect()
    }

    fn operations(&self) -> Vec<Operation> {
        if self.activation_fn.is_some() { Vec::new() } else { vec![self.activation] }
    }

    fn alternatives(&self, inputs: &[Array]) -> Result<Vec<(String, Array)>> {
        let x = one(&self.site, inputs)?;
        other_activations(self.activation, |activation| self.forward_with(x, activation))
    }
}
