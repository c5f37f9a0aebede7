//! The decoder as a whole: token table, layers, last norm and head.

use mlx_rs::{Array, Dtype};

use super::{config::LanguageConfig, layer::DecoderLayer};
use crate::{
    backend::KvCache,
    contract::{Kind, Module, Pass, Site},
    error::Result,
    fault::{GraphFault, Planted},
    layers::{Embedding, Linear, Positions, RmsNorm, RotaryEmbedding},
    loading::Scope,
};

/// Token ids to logits, with or without a cache.
pub struct Decoder {
    dtype: Dtype,
    embed_tokens: Embedding,
    layers: Vec<DecoderLayer>,
    norm: RmsNorm,
    lm_head: Linear,
    rotary: RotaryEmbedding,
    /// The path of the whole of it: the model's own, or a module within it.
    whole: Site,
    /// How many of the last generated tokens are seen; none: all.
    window: Option<i32>,
    planted: Planted,
}

impl Decoder {
    /// Loads `language_model.model.*` and `language_model.lm_head`; PyTorch has them as `model.*` and `lm_head`. `dtype` is that of activations.
    pub fn load(root: &Scope, config: &LanguageConfig, dtype: Dtype) -> Self {
        let (hidden, vocabulary) = (config.hidden_size, config.vocab_size);
        let scope = root.enter("language_model.model", "model");
        let layer = |i| DecoderLayer::load(&scope.child(format!("layers.{i}")), config, i);
        Self {
            dtype,
            embed_tokens: Embedding::load(&scope.child("embed_tokens"), vocabulary, hidden),
            layers: (0..config.num_hidden_layers).map(layer).collect(),
            norm: RmsNorm::load(&scope.child("norm"), hidden, config.rms_norm_eps),
            lm_head: Linear::load(&root.enter("language_model.lm_head", "lm_head"), hidden, vocabulary, false),
            whole: scope.site(),
            window: config.sliding_window,
            rotary: RotaryEmbedding::new(scope.child("rotary_emb").site(), config.head_dim(), config.rope_theta, root.planted()),
            planted: root.planted(),
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
        let positions = self.positions(cache.as_deref(), embeddings)?;
        let is_module = self.whole.path() != "model";
        if is_module {
            pass.show(self.whole.path(), Kind::Input(0), || Ok(embeddings.clone()))?;
            self.rotary.show(embeddings, &positions, pass)?;
        }
        let mut x = embeddings.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            let layer_cache = cache.as_mut().and_then(|c| c.layer(index));
            x = layer.forward(&x, &positions, layer_cache, pass)?;
        }
        let skips = self.planted.has(GraphFault::FinalNormMissing);
        let x = if skips { x } else { self.norm.forward(&x, pass)? };
        if is_module {
            pass.show(self.whole.path(), Kind::Output, || Ok(x.clone()))?;
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
    fn positions(&self, cache: Option<&KvCache>, embeddings: &Array) -> Result<Positions> {
        let (sequences, tokens) = (embeddings.dim(0), embeddings.dim(1));
        let from_0 = self.planted.has(GraphFault::CachePositionsRestart);
        let mut ids = match cache.filter(|_| !from_0) {
            Some(cache) => cache.next_positions(tokens),
            None => (0..sequences).flat_map(|_| 0..tokens).collect(),
        };
        if self.planted.has(GraphFault::PositionsFromOne) {
            ids.iter_mut().for_each(|id| *id += 1);
        }
        let positions = self.rotary.positions_of_each(&ids, sequences);
        positions.seeing(cache.and_then(KvCache::mask)).of_dtype(self.dtype)
    }

    /// The token table, which comes before the image's encoders in a pass.
    pub fn token_table(&self) -> &dyn Module {
        &self.embed_tokens
    }

    /// Its other modules, in PyTorch's order.
    pub fn modules(&self) -> Vec<&dyn Module> {
        let layers = self.layers.iter().map(|layer| layer as &dyn Module);
        [&self.rotary as &dyn Module].into_iter().chain(layers).chain([&self.norm as &dyn Module, &self.lm_head]).collect()
    }
}
