//! The whole model (`DeepseekOCRForCausalLM` of the release's `modeling_deepseekocr.py`).
//!
//! ```text
//! pixels ─ sam_model ─┬─ vision_model ─┐
//!                     └────────────────┴ concat ─ projector ─ rows (tiles, newlines, global, separator)
//! ids ─ embed_tokens ─ rows in the image's places ─ layers ─ norm ─ lm_head → logits [1, T, vocab]
//! ```

use std::{collections::BTreeMap, path::Path};

use mlx_rs::{Array, Dtype, ops, ops::indexing::TryIndexOp};

use crate::{
    cache::KvCache,
    clip::ClipEncoder,
    config::Config,
    decoder::DecoderLayer,
    error::{Error, Result},
    fault::{Fault, GraphFault, Planted, Variant},
    gather::{Gather, axis_of_images, axis_of_tokens, chunks},
    image::{Assembly, Image, merge},
    layers::{Embedding, Linear, RmsNorm},
    projector::MlpProjector,
    rotary::{Positions, RotaryEmbedding},
    runtime::Place,
    sam::SamEncoder,
    tap::{Kind, Module, Site, Taps},
    weights::{Scope, Weights},
};

/// The whole model.
pub struct DeepseekOcr {
    config: Config,
    dtype: Dtype,
    sam_model: SamEncoder,
    vision_model: ClipEncoder,
    projector: MlpProjector,
    assembly: Assembly,
    embed_tokens: Embedding,
    layers: Vec<DecoderLayer>,
    norm: RmsNorm,
    lm_head: Linear,
    rotary: RotaryEmbedding,
    planted: Planted,
}

/// How a model is loaded.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// The dtype of activations: `Float32` or `Bfloat16`. Weights keep theirs and are widened when used.
    pub dtype: Dtype,
    /// Whether what every token meets (all but the routed experts) is widened once and stays so: twice the memory of that part.
    pub keeps_widened: bool,
    /// A fault to plant; none for the model as released.
    pub fault: Option<Fault>,
    /// Another correct way to compute the same, if one is asked for.
    pub variant: Option<Variant>,
    /// PyTorch paths of the modules that will be run; only their weights are read. None: all.
    pub only: Option<Vec<String>>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { dtype: Dtype::Float32, keeps_widened: false, fault: None, variant: None, only: None }
    }
}

impl LoadOptions {
    /// What text is made in, where nothing is said: bfloat16 as released on a GPU, float32 on a CPU, which has a BLAS for that and none for bfloat16
    /// (one prompt's products there: 205 and 6 GFLOP/s).
    #[must_use]
    pub fn usual(place: Place) -> Self {
        match place {
            Place::Cpu => Self::float32(),
            Place::Gpu => Self::bfloat16(),
        }
    }

    /// Text in float32. What is widened for each token is waited for at each token.
    #[must_use]
    pub fn float32() -> Self {
        Self { keeps_widened: true, ..Self::default() }
    }

    /// As released: activations in bfloat16.
    #[must_use]
    pub fn bfloat16() -> Self {
        Self { dtype: Dtype::Bfloat16, ..Self::default() }
    }
}

/// What one prefill is given.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// Token ids, all below the vocabulary's size.
    pub input_ids: Vec<i32>,
    /// Which tokens stand for image features.
    pub images_seq_mask: Vec<bool>,
    /// The picture, if there is one.
    pub image: Option<Image>,
}

impl DeepseekOcr {
    /// Loads a converted model, strictly: every tensor of the files is used, every tensor of the model is there, with the
    /// shape that `config.json` demands.
    ///
    /// # Errors
    /// When config or files cannot be read or do not fit each other; all violations are listed.
    pub fn load(dir: &Path, options: LoadOptions) -> Result<Self> {
        let mut config = Config::load(dir)?;
        if let Some(Fault::Config(edit)) = &options.fault {
            edit(&mut config);
        }
        let dtype = options.dtype;
        let weights = Weights::open(dir, config.quantization.clone(), options)?;
        let model = Self::ask_for(&weights.root(), config, dtype);
        weights.finish()?;
        Ok(model)
    }

    /// Asks for every tensor; what is missing is noted and told by [`Weights::finish`].
    fn ask_for(root: &Scope, config: Config, dtype: Dtype) -> Self {
        let (language, vision) = (&config.language_config, &config.vision_config.width);
        let layout = config.layout();
        let (hidden, vocabulary) = (language.hidden_size, language.vocab_size);
        let system = |name: &str| root.enter(name, &format!("model.{name}"));
        let decoder = root.enter("language_model.model", "model");
        let layer = |i| DecoderLayer::load(&decoder.child(format!("layers.{i}")), language, i);
        Self {
            sam_model: SamEncoder::load(&system("sam_model"), &vision.sam, layout),
            vision_model: ClipEncoder::load(&system("vision_model"), &vision.clip, layout),
            projector: MlpProjector::load(&system("projector"), &config.projector_config, layout),
            assembly: Assembly::load(root, language),
            embed_tokens: Embedding::load(&decoder.child("embed_tokens"), vocabulary, hidden),
            layers: (0..language.num_hidden_layers).map(layer).collect(),
            norm: RmsNorm::load(&decoder.child("norm"), hidden, language.rms_norm_eps),
            lm_head: Linear::load(&root.enter("language_model.lm_head", "lm_head"), hidden, vocabulary, false),
            rotary: RotaryEmbedding::new(Site::new("rotary"), language.head_dim(), language.rope_theta, root.planted()),
            planted: root.planted(),
            dtype,
            config: config.clone(),
        }
    }

    /// The sizes it was loaded with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The dtype of its activations.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// An empty cache for [`Self::decode`].
    pub fn new_cache(&self) -> KvCache {
        KvCache::new(self.layers.len())
    }

    /// Logits \[1, T, vocab\], float32, of a whole prompt; fills `cache` where one is given.
    ///
    /// # Errors
    /// When prompt and model do not fit.
    pub fn forward(&self, prompt: &Prompt, cache: Option<&mut KvCache>, taps: &Taps) -> Result<Array> {
        self.decoder(&self.inputs_embeds(prompt, &[], taps)?, cache, taps)
    }

    /// Logits \[1, 1, vocab\], float32, of a prompt's last token; fills `cache`, `chunk` tokens at a time. What the head makes of
    /// the other tokens is not computed: at the release's vocabulary it is half a megabyte per token.
    ///
    /// # Errors
    /// When prompt and model do not fit.
    pub fn prefill(&self, prompt: &Prompt, cache: &mut KvCache, chunk: Option<i32>) -> Result<Array> {
        self.prefill_with(prompt, &[], cache, chunk)
    }

    /// As [`Self::prefill`], where more pictures follow `prompt.image`: each fills the next of the mask's places, in order
    /// (`_pixel_values_to_embedding` of the release's `deepseek_ocr.py`, picture by picture).
    ///
    /// # Errors
    /// When prompt, pictures and model do not fit.
    pub fn prefill_with(
        &self,
        prompt: &Prompt,
        more: &[Image],
        cache: &mut KvCache,
        chunk: Option<i32>,
    ) -> Result<Array> {
        let taps = Taps::none();
        let embeddings = self.inputs_embeds(prompt, more, &taps)?;
        let tokens = embeddings.dim(1);
        let mut last = None;
        for (start, end) in chunks(tokens, chunk.unwrap_or(tokens).max(1)) {
            let part = embeddings.try_index((.., start..end))?;
            last = Some(self.read(&part, cache)?);
        }
        self.last_logits(&last.unwrap_or(embeddings))
    }

    /// What the layers make of a part of the decoder's input \[1, T, hidden\] that follows what `cache` holds: the same shape.
    pub(crate) fn read(&self, part: &Array, cache: &mut KvCache) -> Result<Array> {
        self.hidden(part, Some(cache), &Taps::none())
    }

    /// Logits \[1, 1, vocab\], float32, of the last of \[1, T, hidden\].
    pub(crate) fn last_logits(&self, hidden: &Array) -> Result<Array> {
        self.head(&hidden.try_index((.., -1..))?, &Taps::none())
    }

    /// A picture as rows of the decoder's input, \[n, hidden\]: what stands in the places of its image tokens.
    ///
    /// # Errors
    /// When tiles and grid do not fit each other.
    pub fn image_rows(&self, image: &Image) -> Result<Array> {
        let (tiles, global) = self.encode(image, &Taps::none())?;
        self.assembly.rows(tiles.as_ref(), image.grid, &global)
    }

    /// The decoder's input \[1, T, hidden\]: the tokens' embeddings, image features in their places.
    fn inputs_embeds(&self, prompt: &Prompt, more: &[Image], taps: &Taps) -> Result<Array> {
        if !more.is_empty() {
            let each = prompt.image.iter().chain(more).map(|image| self.image_rows(image));
            return self.embeddings_with(prompt, &each.collect::<Result<Vec<_>>>()?);
        }
        let embeddings = self.embed(&prompt.input_ids, taps)?;
        let Some(image) = &prompt.image else { return Ok(embeddings) };
        let (tiles, global) = self.encode(image, taps)?;
        self.place(&embeddings, tiles.as_ref(), image, &global, &prompt.images_seq_mask)
    }

    /// The decoder's input \[1, T, hidden\], where the prompt's pictures are there as rows (see [`Self::image_rows`]), in order.
    pub(crate) fn embeddings_with(&self, prompt: &Prompt, rows: &[Array]) -> Result<Array> {
        let embeddings = self.embed(&prompt.input_ids, &Taps::none())?;
        if rows.is_empty() {
            return Ok(embeddings);
        }
        merge(&embeddings, &ops::concatenate(rows, 0)?, &prompt.images_seq_mask)
    }

    /// Logits \[1, n, vocab\], float32, of `ids` that follow what `cache` holds.
    ///
    /// # Errors
    /// When an id is not in the vocabulary.
    pub fn decode(&self, ids: &[i32], cache: &mut KvCache) -> Result<Array> {
        let taps = Taps::none();
        self.decoder(&self.embed(ids, &taps)?, Some(cache), &taps)
    }

    /// Logits \[B, 1, vocab\], float32, of the tokens `ids` \[B, 1\], one more of every sequence of `cache`.
    pub(crate) fn next(&self, ids: &Array, cache: &mut KvCache) -> Result<Array> {
        let taps = Taps::none();
        self.layers(&self.embed_tokens.forward(ids, self.dtype, &taps)?, Some(cache), &taps)
    }

    /// Rows of the token table, \[1, T, hidden\].
    fn embed(&self, ids: &[i32], taps: &Taps) -> Result<Array> {
        let vocabulary = self.config.language_config.vocab_size;
        if let Some(id) = ids.iter().find(|&&id| !(0..vocabulary).contains(&id)) {
            return Err(Error::input("input_ids", format!("ids below {vocabulary}"), format!("{id}")));
        }
        if ids.is_empty() {
            return Err(Error::input("input_ids", "at least one token", "none"));
        }
        self.embed_tokens.forward(&Array::from_slice(ids, &[1, ids.len() as i32]), self.dtype, taps)
    }

    /// Projected features of the tiles \[P, t², hidden\], if any, and of the global view \[1, g², hidden\], in the release's
    /// order: tiles first.
    fn encode(&self, image: &Image, taps: &Taps) -> Result<(Option<Array>, Array)> {
        let tiles = match &image.tiles {
            Some(tiles) if self.planted.by(Variant::TilesOneByOne) => {
                let each = ops::split_equal(tiles, tiles.dim(0), 0)?.into_iter();
                Some(Gather::new(taps).run(each, (0, axis_of_images), |tile, taps| self.encode_views(tile, taps))?)
            }
            // Side by side, as there is no one to tell them apart for.
            Some(tiles) if taps.is_none() && self.planted.is_empty() => {
                let [tiles, global] = [tiles, &image.global].map(|view| view.as_dtype(self.dtype));
                let mut both = self.encode_together(&[tiles?, global?])?;
                return Ok((Some(both.remove(0)), both.remove(0)));
            }
            Some(tiles) => Some(self.encode_views(tiles, taps)?),
            None => None,
        };
        Ok((tiles, self.encode_views(&image.global, taps)?))
    }

    /// Batches of views of different sizes, \[N, S, S, 3\] each → \[N, (S/64)², hidden\] each.
    fn encode_together(&self, pixels: &[Array]) -> Result<Vec<Array>> {
        let sam = self.sam_model.forward_all(pixels)?;
        let clip = self.vision_model.forward_all(pixels, &sam)?;
        let taps = Taps::none();
        sam.iter().zip(&clip).map(|(sam, clip)| self.projector.forward(&self.features(sam, clip)?, &taps)).collect()
    }

    /// \[N, S, S, 3\] → \[N, (S/64)², hidden\].
    fn encode_views(&self, pixels: &Array, taps: &Taps) -> Result<Array> {
        let pixels = pixels.as_dtype(self.dtype)?;
        let sam = self.sam_model.forward(&pixels, taps)?;
        let clip = self.vision_model.forward(&pixels, &sam, taps)?;
        self.projector.forward(&self.features(&sam, &clip)?, taps)
    }

    /// What both encoders say of each place, CLIP's first: \[N, g, g, a\] and \[N, g² + 1, b\] → \[N, g², b + a\].
    fn features(&self, sam: &Array, clip: &Array) -> Result<Array> {
        let rows = sam.reshape(&[sam.dim(0), sam.dim(1) * sam.dim(2), sam.dim(3)])?;
        let kept = self.planted.has(GraphFault::ClassRowKept);
        let clip = if kept { clip.try_index((.., ..clip.dim(1) - 1))? } else { clip.try_index((.., 1..))? };
        let sam_first = self.planted.has(GraphFault::ProjectorSamFirst);
        Ok(ops::concatenate(&if sam_first { [rows, clip] } else { [clip, rows] }, 2)?)
    }

    /// Puts projected features in the image's places of the embeddings: the decoder's input \[1, T, hidden\].
    ///
    /// # Errors
    /// When tiles, grid and mask do not fit each other.
    pub fn place(
        &self,
        embeddings: &Array,
        tiles: Option<&Array>,
        image: &Image,
        global: &Array,
        mask: &[bool],
    ) -> Result<Array> {
        merge(embeddings, &self.assembly.rows(tiles, image.grid, global)?, mask)
    }

    fn decoder(&self, embeddings: &Array, cache: Option<&mut KvCache>, taps: &Taps) -> Result<Array> {
        let tokens = embeddings.dim(1);
        let chunk = match self.planted.variant() {
            Some(Variant::PrefillInChunks) => 7,
            Some(Variant::PrefillInHalves) => (tokens + 1) / 2,
            Some(Variant::PrefillByToken) => 1,
            _ => return self.layers(embeddings, cache, taps),
        };
        let mut own = self.new_cache();
        let cache = cache.unwrap_or(&mut own);
        let parts = chunks(tokens, chunk).map(|(start, end)| embeddings.try_index((.., start..end)));
        let parts = parts.collect::<std::result::Result<Vec<_>, _>>()?.into_iter();
        Gather::new(taps).run(parts, (1, axis_of_tokens), |part, taps| self.layers(part, Some(&mut *cache), taps))
    }

    fn layers(&self, embeddings: &Array, cache: Option<&mut KvCache>, taps: &Taps) -> Result<Array> {
        self.head(&self.hidden(embeddings, cache, taps)?, taps)
    }

    /// \[1, T, hidden\] → logits \[1, T, vocab\], float32.
    fn head(&self, x: &Array, taps: &Taps) -> Result<Array> {
        let logits = self.lm_head.forward(x, taps)?.as_dtype(Dtype::Float32)?;
        taps.show("logits", Kind::Output, || Ok(logits.clone()))?;
        Ok(logits)
    }

    /// All layers and the last norm: \[1, T, hidden\] → the same.
    fn hidden(&self, embeddings: &Array, mut cache: Option<&mut KvCache>, taps: &Taps) -> Result<Array> {
        let positions = self.positions(cache.as_deref(), embeddings)?;
        let mut x = embeddings.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            let layer_cache = cache.as_mut().and_then(|c| c.layer(index));
            x = layer.forward(&x, &positions, layer_cache, taps)?;
        }
        let skips = self.planted.has(GraphFault::FinalNormMissing);
        let x = if skips { x } else { self.norm.forward(&x, taps)? };
        taps.show("model", Kind::Output, || Ok(x.clone()))?;
        Ok(x)
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

    /// Every module that can be run on its own, by PyTorch path.
    pub fn modules(&self) -> BTreeMap<&str, &dyn Module> {
        fn add<'a>(module: &'a dyn Module, all: &mut BTreeMap<&'a str, &'a dyn Module>) {
            all.insert(module.site().path(), module);
            module.children().into_iter().for_each(|child| add(child, all));
        }
        let mut all = BTreeMap::new();
        for module in [&self.embed_tokens as &dyn Module, &self.sam_model, &self.vision_model, &self.projector] {
            add(module, &mut all);
        }
        self.layers.iter().for_each(|layer| add(layer, &mut all));
        add(&self.norm, &mut all);
        add(&self.lm_head, &mut all);
        all
    }
}
