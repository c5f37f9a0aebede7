//! One decoder layer (`DeepseekV2DecoderLayer`).

use mlx_rs::Array;

use super::{attention::Attention, config::LanguageConfig, mlp::Mlp, moe::Moe};
use crate::{
    backend::{LayerCache, Positions},
    contract::{Module, Pass, Site, Step, one},
    error::Result,
    layers::RmsNorm,
    loading::Scope,
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
        pass: &Pass,
    ) -> Result<Array> {
        self.site.run(pass, &[x, positions.ids()], || {
            let normed = self.input_layernorm.forward(x, pass)?;
            let attended = self.self_attn.forward(&normed, positions, cache, pass)?;
            let add = |name: &'static str, x: &Array, y: &Array, normed: &Array| {
                self.site.step_named(pass, name, Step::Add { x, y, normed: Some(normed) })
            };
            let x = add("attention", x, &attended, &normed)?;
            let normed = self.post_attention_layernorm.forward(&x, pass)?;
            let mlp = match &self.mlp {
                FeedForward::Dense(mlp) => mlp.forward(&normed, pass)?,
                FeedForward::Experts(moe) => moe.forward(&normed, pass)?,
            };
            add("mlp", &x, &mlp, &normed)
        })
    }
}

impl Module for DecoderLayer {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        let positions = self.self_attn.positions_of(&self.site, inputs)?;
        self.forward(one(&self.site, inputs)?, &positions, None, pass)
    }

    fn children(&self) -> Vec<&dyn Module> {
        let mlp: &dyn Module = match &self.mlp {
            FeedForward::Dense(mlp) => mlp.as_ref(),
            FeedForward::Experts(moe) => moe.as_ref(),
        };
        vec![&self.input_layernorm, &self.self_attn, &self.post_attention_layernorm, mlp]
    }
}
