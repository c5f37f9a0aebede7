//! SAM, the queries and the encoder over both (`DeepseekOcr2VisionModel`).

use mlx_rs::{Array, ops};

use super::{
    Qwen2Encoder,
    config::{LARGE_BANK, Qwen2Config, SMALL_BANK},
};
use crate::{
    backend::Param,
    contract::{Module, Pass, Site, Step, TorchLayout, one},
    error::Result,
    loading::Scope,
    parts::sam::SamEncoder,
};

/// From pixels \[N, S, S, 3\] to what the queries found, \[N, 144 or 256, dim\].
pub struct QueryTower {
    site: Site,
    sam_model: SamEncoder,
    query_768: Param,
    query_1024: Param,
    encoder: Qwen2Encoder,
}

impl QueryTower {
    /// Loads queries and encoder; SAM is loaded already.
    pub fn load(scope: &Scope, sam_model: SamEncoder, config: &Qwen2Config) -> Self {
        Self {
            site: scope.site().with_layouts(TorchLayout::Nchw, TorchLayout::Same),
            sam_model,
            query_768: scope.param("query_768", &[SMALL_BANK, config.dim]),
            query_1024: scope.param("query_1024", &[LARGE_BANK, config.dim]),
            encoder: Qwen2Encoder::load(&scope.enter("", "model.model"), config),
        }
    }

    /// What the queries find in batches of views of different sizes.
    ///
    /// # Errors
    /// When views and encoders do not fit.
    pub fn forward_all(&self, views: &[Array], pass: &Pass) -> Result<Vec<Array>> {
        if let [pixels] = views {
            return Ok(vec![self.forward(pixels, pass)?]);
        }
        let features = self.sam_model.forward_all(views, pass)?;
        features.iter().map(|features| self.found(features, pass)).collect()
    }

    fn forward(&self, pixels: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[pixels], || self.found(&self.sam_model.forward(pixels, pass)?, pass))
    }

    /// SAM's features \[N, g, g, dim\] → \[N, queries, dim\].
    fn found(&self, features: &Array, pass: &Pass) -> Result<Array> {
        let images = self.site.step(pass, Step::Flatten { x: features })?;
        let (batch, count) = (images.dim(0), images.dim(1));
        let bank = if count <= SMALL_BANK { &self.query_768 } else { &self.query_1024 }.to(images.dtype())?;
        let queries = ops::broadcast_to(bank.expand_dims(0)?, &[batch, bank.dim(0), bank.dim(1)])?;
        let x = self.site.step_named(pass, "queries", Step::Join { parts: &[images, queries], axis: 1 })?;
        let x = self.encoder.forward(&x, pass)?;
        self.site.step(pass, Step::Take { x: &x, start: count, end: x.dim(1) })
    }
}

impl Module for QueryTower {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        self.site.isolated(inputs, |x| self.forward(one(&self.site, x)?, pass))
    }

    fn children(&self) -> Vec<&dyn Module> {
        vec![&self.sam_model, &self.encoder]
    }
}
