//! The transformer: layers and the last norm.

use mlx_rs::Array;

use super::{
    attention::{Attention, image_tokens, seen},
    config::Qwen2Config,
};
use crate::{
    backend::Positions,
    contract::{Module, Pass, Site, Step, one},
    error::Result,
    layers::{RmsNorm, RotaryEmbedding},
    loading::Scope,
    parts::deepseek_v2::Mlp,
};

/// The transformer over image tokens and queries: \[N, T, dim\] → the same.
pub struct Qwen2Encoder {
    site: Site,
    rotary_emb: RotaryEmbedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
}

impl Qwen2Encoder {
    /// Loads the encoder's weights.
    pub fn load(scope: &Scope, config: &Qwen2Config) -> Self {
        let layer = |index: i32| Layer::load(&scope.child(format!("layers.{index}")), config);
        Self {
            site: scope.site(),
            rotary_emb: RotaryEmbedding::new(scope.child("rotary_emb").site(), config.head_dim(), config.rope_theta),
            layers: (0..config.layers).map(layer).collect(),
            norm: RmsNorm::load(&scope.child("norm"), config.dim, config.rms_norm_eps),
        }
    }

    /// Image tokens and the queries of their bank behind them.
    ///
    /// # Errors
    /// When no bank fits, or the width does not.
    pub fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || {
            let tokens = x.dim(1);
            let ids = Array::from_slice(&(0..tokens).collect::<Vec<_>>(), &[1, tokens]);
            let ids = self.site.step(pass, Step::Number { ids: &ids })?;
            let positions = self.rotary_emb.positions(&ids)?.of_dtype(x.dtype())?;
            self.rotary_emb.show(x, &positions, pass)?;
            let seen = seen(tokens, image_tokens(tokens)?)?;
            let run = |x: Array, layer: &Layer| layer.forward(&x, &positions, &seen, pass);
            self.norm.forward(&self.layers.iter().try_fold(x.clone(), run)?, pass)
        })
    }
}

impl Module for Qwen2Encoder {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        self.forward(one(&self.site, inputs)?, pass)
    }

    fn children(&self) -> Vec<&dyn Module> {
        let layers = self.layers.iter().map(|layer| layer as &dyn Module);
        [&self.rotary_emb as &dyn Module].into_iter().chain(layers).chain([&self.norm as &dyn Module]).collect()
    }
}

/// One layer (`DeepseekOcr2VisionEncoderLayer`).
pub struct Layer {
    site: Site,
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: Mlp,
}

impl Layer {
    fn load(scope: &Scope, config: &Qwen2Config) -> Self {
        let norm = |name: &str| RmsNorm::load(&scope.child(name), config.dim, config.rms_norm_eps);
        Self {
            site: scope.site(),
            input_layernorm: norm("input_layernorm"),
            self_attn: Attention::load(&scope.child("self_attn"), config),
            post_attention_layernorm: norm("post_attention_layernorm"),
            mlp: Mlp::load(&scope.child("mlp"), config.dim, config.intermediate_size),
        }
    }

    fn forward(&self, x: &Array, positions: &Positions, seen: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x, positions.ids()], || {
            let add = |name: &'static str, x: &Array, y: &Array, normed: &Array| {
                self.site.step_named(pass, name, Step::Add { x, y, normed: Some(normed) })
            };
            let normed = self.input_layernorm.forward(x, pass)?;
            let x = add("attention", x, &self.self_attn.forward(&normed, positions, seen, pass)?, &normed)?;
            let normed = self.post_attention_layernorm.forward(&x, pass)?;
            add("mlp", &x, &self.mlp.forward(&normed, pass)?, &normed)
        })
    }
}

impl Module for Layer {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        let (positions, seen) = self.self_attn.given(&self.site, inputs)?;
        self.forward(one(&self.site, inputs)?, &positions, &seen, pass)
    }

    fn children(&self) -> Vec<&dyn Module> {
        vec![&self.input_layernorm, &self.self_attn, &self.post_attention_layernorm, &self.mlp]
    }
}
