//! The encoder as a whole, and its stack of layers.

use mlx_rs::Array;

use super::{
    config::ClipConfig,
    embeddings::{Embeddings, given, two},
    layer::TransformerBlock,
};
use crate::{
    contract::{Module, Pass, Site, TorchLayout, one},
    error::Result,
    layers::{LayerNorm, Views},
    loading::{Class, Layout, Scope},
};

/// The encoder: (pixels \[N, S, S, 3\], SAM features \[N, g, g, width\]) → \[N, g² + 1, width\].
pub struct ClipEncoder {
    site: Site,
    embeddings: Embeddings,
    pre_layrnorm: LayerNorm,
    transformer: Transformer,
    class: Class,
}

impl ClipEncoder {
    /// Loads the encoder's weights.
    pub fn load(scope: &Scope, config: &ClipConfig, layout: Layout) -> Self {
        Self {
            site: scope.site().with_layouts(TorchLayout::Nchw, TorchLayout::Same),
            embeddings: Embeddings::load(&scope.child("embeddings"), config),
            pre_layrnorm: LayerNorm::load(&scope.child("pre_layrnorm"), config.width, config.layer_norm_eps),
            transformer: Transformer::load(&scope.child("transformer"), config, layout),
            class: scope.class(),
        }
    }

    /// Encodes a batch. The pixels are only shown to listeners: the release passes them along and does not use them.
    ///
    /// # Errors
    /// When the features do not fit the width.
    pub fn forward(&self, pixels: &Array, features: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, given(self.class, &[pixels, features]), || {
            let x = self.embeddings.forward(pixels, features, pass)?;
            self.encode(&x, &Views::single(&x), pass)
        })
    }

    /// Encodes batches of different sizes together, from pixels and features of each.
    ///
    /// # Errors
    /// As [`ClipEncoder::forward`].
    pub fn forward_all(&self, pixels: &[Array], features: &[Array], pass: &Pass) -> Result<Vec<Array>> {
        if let ([pixels], [features]) = (pixels, features) {
            return Ok(vec![self.forward(pixels, features, pass)?]);
        }
        let embed = |(pixels, features)| self.embeddings.forward(pixels, features, pass);
        let (views, x) = Views::join(&pixels.iter().zip(features).map(embed).collect::<Result<Vec<_>>>()?)?;
        views.apart(&self.encode(&x, &views, pass)?)
    }

    fn encode(&self, x: &Array, views: &Views, pass: &Pass) -> Result<Array> {
        self.transformer.forward(&self.pre_layrnorm.forward(x, pass)?, views, pass)
    }
}

impl Module for ClipEncoder {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        self.site.isolated(inputs, |x| {
            let (pixels, features) = two(&self.site, self.class, x)?;
            self.forward(pixels, features, pass)
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

    fn forward(&self, x: &Array, views: &Views, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || self.layers.iter().try_fold(x.clone(), |x, layer| layer.forward(&x, views, pass)))
    }
}

impl Module for Transformer {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        let x = one(&self.site, inputs)?;
        self.forward(x, &Views::single(x), pass)
    }

    fn children(&self) -> Vec<&dyn Module> {
        self.layers.iter().map(|l| l as &dyn Module).collect()
    }
}
