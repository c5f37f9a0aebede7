//! One layer: full attention and an MLP.

use mlx_rs::{Array, ops};

use super::config::ClipConfig;
use crate::{
    backend::{Matrix, kernels},
    contract::{Mask, Module, Operation, Pass, Site, Step, one},
    error::Result,
    layers::{Activation, LayerNorm, Linear, Views},
    loading::{Class, Layout, Scope},
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

/// What makes queries, keys and values.
enum Projection {
    /// One layer.
    Joined(Linear),
    /// One each, as transformers has them.
    Apart(Box<[Linear; 3]>),
}

impl Projection {
    fn load(scope: &Scope, width: i32, layout: Layout) -> Self {
        let names = ["q_proj", "k_proj", "v_proj"];
        if scope.class() == Class::Release {
            let parts = (layout == Layout::Split).then_some(names);
            return Self::Joined(Linear::load_packed(&scope.child("qkv_proj"), parts, width, 3 * width));
        }
        if layout == Layout::Split {
            return Self::Apart(Box::new(names.map(|name| Linear::load(&scope.child(name), width, width, true))));
        }
        let packed = scope.child("qkv_proj");
        let [[q, k, v], [q_bias, k_bias, v_bias]] =
            [packed.thirds("weight", &[3 * width, width]), packed.thirds("bias", &[3 * width])];
        let part = |at: usize, weight, bias| Linear::with_bias(&scope.child(names[at]), Matrix::Floats(weight), bias);
        Self::Apart(Box::new([part(0, q, q_bias), part(1, k, k_bias), part(2, v, v_bias)]))
    }

    /// Queries, keys and values side by side: \[N, T, width\] → \[N, T, 3·width\].
    fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        match self {
            Self::Joined(all) => all.forward(x, pass),
            Self::Apart(each) => {
                let parts = each.iter().map(|part| part.forward(x, pass)).collect::<Result<Vec<_>>>()?;
                Ok(ops::concatenate(&parts, -1)?)
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
}

impl Attention {
    fn load(scope: &Scope, config: &ClipConfig, layout: Layout) -> Self {
        let (width, heads) = (config.width, config.heads);
        Self {
            site: scope.site(),
            project: Projection::load(scope, width, layout),
            out_proj: Linear::load(&scope.child("out_proj"), width, width, true),
            heads,
            head_dim: width / heads,
        }
    }

    fn forward(&self, x: &Array, views: &Views, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || {
            let qkv = self.project.forward(x, pass)?;
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
        self.project.modules().into_iter().chain([&self.out_proj as &dyn Module]).collect()
    }

    fn operations(&self) -> Vec<Operation> {
        vec![Operation::Attention { head_dim: self.head_dim }]
    }
}

/// fc2(quick_gelu(fc1(x))) (`NoTPFeedForward`); the activation is a function in the release and has no tap; in
/// transformers it is a module.
pub struct FeedForward {
    site: Site,
    fc1: Linear,
    fc2: Linear,
    activation_fn: Option<Activation>,
}

impl FeedForward {
    fn load(scope: &Scope, config: &ClipConfig) -> Self {
        let (width, inner) = (config.width, config.ffn_hidden_size);
        Self {
            site: scope.site(),
            fc1: Linear::load(&scope.child("fc1"), width, inner, true),
            fc2: Linear::load(&scope.child("fc2"), inner, width, true),
            activation_fn: (scope.class() == Class::Transformers)
                .then(|| Activation::new(&scope.child("activation_fn"), Operation::QuickGelu)),
        }
    }

    fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || {
            let inner = self.fc1.forward(x, pass)?;
            let inner = match &self.activation_fn {
                Some(module) => module.forward(&inner, pass)?,
                None => self.site.step(pass, Step::Activate { x: &inner, function: Operation::QuickGelu })?,
            };
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
        let activation = self.activation_fn.iter().map(|module| module as &dyn Module);
        [&self.fc1 as &dyn Module].into_iter().chain(activation).chain([&self.fc2 as &dyn Module]).collect()
    }

    fn operations(&self) -> Vec<Operation> {
        if self.activation_fn.is_some() { Vec::new() } else { vec![Operation::QuickGelu] }
    }
}
