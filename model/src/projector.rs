//! The projector: image features to decoder width (`MlpProjector` of `deepencoder.py`, type `linear`).

use mlx_rs::Array;

use crate::{
    config::ProjectorConfig,
    error::Result,
    layers::{Linear, one},
    tap::{Module, Site, Taps},
    weights::Scope,
};

/// \[N, T, input_dim\] → \[N, T, n_embed\].
pub struct MlpProjector {
    site: Site,
    layers: Linear,
}

impl MlpProjector {
    /// Loads the projector's weights.
    pub fn load(scope: &Scope, config: &ProjectorConfig) -> Self {
        Self {
            site: scope.site(),
            layers: Linear::load(&scope.child("layers"), config.input_dim, config.n_embed, true),
        }
    }

    /// Applies it.
    ///
    /// # Errors
    /// When the last axis is not `input_dim`.
    pub fn forward(&self, x: &Array, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[x], || self.layers.forward(x, taps))
    }
}

impl Module for MlpProjector {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], taps: &Taps) -> Result<Array> {
        self.forward(one(&self.site, inputs)?, taps)
    }

    fn children(&self) -> Vec<&dyn Module> {
        vec![&self.layers]
    }
}
