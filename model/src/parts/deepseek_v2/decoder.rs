//! The decoder as a whole: token table, layers, last norm and head.

use mlx_rs::{Array, Dtype};

use super::{config::LanguageConfig, layer::DecoderLayer};
use crate::{
    backend::{KvCache, Positions},
    contract::{Kind, Module, Pass, Site, Step},
    error::Result,
    layers::{Embedding, Linear, RmsNorm, RotaryEmbedding},
    loading::{Class, Scope},
};

/// Token ids to logits, with or without a cache.
pub struct Decoder {
    dtype: Dtype,
    embed_tokens: Embedding,
    layers: Vec<DecoderLayer>,
    norm: RmsNorm,
    lm_head: Linear,
    rotary: RotaryEmbedding,
    /// transformers has all but the head in a module of its own.
    whole: Option<Site>,
    /// How many of the tokens generated last are seen; none: all.
    window: Option<i32>,
}

impl Decoder {
    /// Loads `language_model.model.*` and `language_model.lm_head`; PyTorch has them as `model.*` and `lm_head`. `dtype` is that of activations.
    /// `window`: how many of the tokens generated last are seen besides the whole prompt; none: all.
    pub fn load(root: &Scope, config: &LanguageConfig, dtype: Dtype, window: Option<i32>) -> Self {
        let (hidden, vocabulary) = (config.hidden_size, config.vocab_size);
        let scope = root.enter("language_model.model", "model");
        let layer = |i| DecoderLayer::load(&scope.child(format!("layers.{i}")), config, i);
        Self {
            dtype,
            embed_tokens: Embedding::load(&scope.child("embed_tokens"), vocabulary, hidden),
            layers: (0..config.num_hidden_layers).map(layer).collect(),
            norm: RmsNorm::load(&scope.child("norm"), hidden, config.rms_norm_eps),
            lm_head: Linear::load(&root.enter("language_model.lm_head", "lm_head"), hidden, vocabulary, false),
            rotary: RotaryEmbedding::new(scope.child("rotary_emb").site(), config.head_dim(), config.rope_theta),
            whole: (root.class() == Class::Transformers).then(|| Site::new("model.language_model")),
            window,
        }
    }

    /// Rows of the token table: ids \[B, T\] → \[B, T, hidden\].
    ///
    /// # Errors
    /// MLX's. Ids must be below the vocabulary's size: MLX does not check.
    pub fn embed(&self, ids: &Array, pass: &Pass) -> Result<Array> {
        self.embed_tokens.forward(ids, self.dtype, pass)
    }

    /// All layers and the last norm: \[B, T, hidden\] → the same.
    ///
    /// # Errors
    /// When the width does not fit.
    pub fn hidden(&self, embeddings: &Array, mut cache: Option<&mut KvCache>, pass: &Pass) -> Result<Array> {
        let positions = self.positions(cache.as_deref(), embeddings, pass)?;
        if let Some(whole) = &self.whole {
            pass.show(whole.path(), Kind::Input(0), || Ok(embeddings.clone()))?;
            self.rotary.show(embeddings, &positions, pass)?;
        }
        let mut x = embeddings.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            let layer_cache = cache.as_mut().and_then(|c| c.layer(index));
            x = layer.forward(&x, &positions, layer_cache, pass)?;
        }
        let x = self.norm.forward(&x, pass)?;
        if let Some(whole) = &self.whole {
            pass.show(whole.path(), Kind::Output, || Ok(x.clone()))?;
        }
        pass.show("model", Kind::Output, || Ok(x.clone()))?;
        Ok(x)
    }

    /// \[B, T, hidden\] → logits \[B, T, vocab\], float32.
    ///
    /// # Errors
    /// When the width does not fit.
    pub fn head(&self, hidden: &Array, pass: &Pass) -> Result<Array> {
        let logits = self.lm_head.forward(hidden, pass)?.as_dtype(Dtype::Float32)?;
        pass.show("logits", Kind::Output, || Ok(logits.clone()))?;
        Ok(logits)
    }

    /// An empty cache of one sequence.
    pub fn new_cache(&self) -> KvCache {
        match self.window {
            Some(window) => KvCache::with_window(self.layers.len(), window),
            None => KvCache::new(self.layers.len()),
        }
    }

    /// Where the tokens of `embeddings` \[B, T, hidden\] stand, and what they see of `cache`.
    fn positions(&self, cache: Option<&KvCache>, embeddings: &Array, pass: &Pass) -> Result<Positions> {
        let (sequences, tokens) = (embeddings.dim(0), embeddings.dim(1));
        let ids = match cache {
            Some(cache) => cache.next_positions(tokens),
            None => (0..sequences).flat_map(|_| 0..tokens).collect(),
        };
        let ids = Array::from_slice(&ids, &[sequences, tokens]);
        let positions = self.rotary.positions(&pass.run("model", Step::Number { ids: &ids })?)?;
        positions.seeing(cache.and_then(KvCache::mask)).of_dtype(self.dtype)
    }

    /// The token table, which comes before the image's encoders in a pass.
    pub fn token_table(&self) -> &dyn Module {
        &self.embed_tokens
    }

    /// Its other modules, in PyTorch's order.
    pub fn modules(&self) -> Vec<&dyn Module> {
        let layers = self.layers.iter().map(|layer| layer as &dyn Module);
        let rotary = self.whole.iter().map(|_| &self.rotary as &dyn Module);
        rotary.chain(layers).chain([&self.norm as &dyn Module, &self.lm_head]).collect()
    }
}
