//! DeepSeek-OCR-2 (`DeepseekOcr2ForConditionalGeneration` of transformers).
//!
//! ```text
//! pixels ─ sam_model ─ qwen2_model (with its queries) ─ projector ─ rows (tiles in order, global, separator; no newlines)
//! ids ─ embed_tokens ─ rows in the image's places ─ layers ─ norm ─ lm_head → logits [1, T, vocab]
//! ```

use std::{collections::BTreeMap, path::Path, rc::Rc};

use mlx_rs::Array;

use super::{
    config_ocr2::{Config, Widths},
    inputs,
    names::TRANSFORMERS,
};
use crate::{
    backend::KvCache,
    contract::{Facts, Model, Module, Pass, Prompt, Reading, Recorded, System, TileGrid, by_path},
    error::Result,
    layers::Linear,
    loading::{Files, Layout, LoadOptions, Scope, Weights},
    parts::{deepseek_v2::Decoder, qwen2_encoder::QueryTower, rows::ImageRows, sam::SamEncoder},
};

/// The names that config.json may have for it, converted.
pub const MODEL_TYPES: [&str; 2] = ["deepseekocr_2", "deepseek_ocr2"];

/// The whole model.
struct DeepseekOcr2 {
    facts: Facts,
    tower: QueryTower,
    projector: Linear,
    rows: ImageRows,
    decoder: Decoder,
}

/// What config.json alone says.
///
/// # Errors
/// When it cannot be read or contradicts itself.
pub fn read_facts(dir: &Path, options: &LoadOptions) -> Result<Facts> {
    Ok(facts(&Config::load(dir, &options.edits.config)?, options))
}

/// Loads a converted model.
///
/// # Errors
/// When config or files cannot be read or do not fit each other; all violations are listed.
pub fn load(files: &Rc<Files>, options: LoadOptions) -> Result<Box<dyn Model>> {
    let config = Config::load(files.dir(), &options.edits.config)?;
    let facts = facts(&config, &options);
    let weights = Weights::named(files, config.quantization.clone(), options, TRANSFORMERS);
    let model = DeepseekOcr2::ask_for(&weights.root(), &config, facts);
    weights.finish()?;
    Ok(Box::new(model))
}

impl DeepseekOcr2 {
    /// Asks for every tensor; what is missing is noted and told by [`Weights::finish`].
    fn ask_for(root: &Scope, config: &Config, facts: Facts) -> Self {
        let Widths { encoder, sam } = &config.vision_config.width;
        let layout = config.mlxport.as_ref().map_or(Layout::default(), |provenance| provenance.layout);
        let sam = SamEncoder::load(&root.enter("sam_model", "model.sam_model"), sam, layout);
        let projector = root.enter("projector.layers", "model.projector.layers");
        Self {
            tower: QueryTower::load(&root.enter("vision_model.qwen2_encoder", "model.qwen2_model"), sam, encoder),
            projector: Linear::load(&projector, encoder.dim, facts.hidden, true),
            rows: ImageRows::load(root, facts.hidden, false),
            decoder: Decoder::load(root, &config.language_config, facts.dtype, None),
            facts,
        }
    }
}

impl Model for DeepseekOcr2 {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn modules(&self) -> BTreeMap<&str, &dyn Module> {
        let encoders = [self.decoder.token_table(), &self.tower, &self.projector];
        by_path(encoders.into_iter().chain(self.decoder.modules()))
    }

    fn new_cache(&self) -> KvCache {
        self.decoder.new_cache()
    }

    fn prompt(&self, recorded: &Recorded) -> Result<Prompt> {
        inputs::of_transformers(recorded, self.facts.reading.image_token)
    }

    fn features(&self, views: &[Array], pass: &Pass) -> Result<Vec<Array>> {
        let encode = |views: &[Array]| -> Result<Vec<Array>> {
            let found = self.tower.forward_all(views, pass)?;
            found.iter().map(|found| self.projector.forward(found, pass)).collect()
        };
        inputs::whole_view_first(views, self.facts.dtype, pass.together(), encode)
    }

    fn rows(&self, tiles: Option<&Array>, grid: TileGrid, whole: &Array, pass: &Pass) -> Result<Array> {
        self.rows.rows(tiles, grid, whole, pass)
    }

    fn embed(&self, ids: &Array, pass: &Pass) -> Result<Array> {
        self.decoder.embed(ids, pass)
    }

    fn hidden(&self, embeddings: &Array, cache: Option<&mut KvCache>, pass: &Pass) -> Result<Array> {
        self.decoder.hidden(embeddings, cache, pass)
    }

    fn head(&self, hidden: &Array, pass: &Pass) -> Result<Array> {
        self.decoder.head(hidden, pass)
    }
}

fn facts(config: &Config, options: &LoadOptions) -> Facts {
    let language = &config.language_config;
    Facts {
        model_type: MODEL_TYPES[0],
        name: "DeepSeek-OCR-2",
        dtype: options.dtype,
        vocabulary: language.vocab_size,
        hidden: language.hidden_size,
        context: language.max_position_embeddings,
        packed: config.quantization.usual(),
        layout: config.mlxport.as_ref().map_or(Layout::default(), |provenance| provenance.layout).name(),
        recipe: config.mlxport.as_ref().and_then(|provenance| provenance.recipe.clone()),
        whole: &super::WHOLE,
        alone: &super::ALONE,
        names: TRANSFORMERS.path,
        junction: super::JUNCTION,
        systems: &SYSTEMS,
        reading: Reading {
            tile_side: 768,
            tiles: (2, 6),
            whole_side: 1024,
            pixels_per_token: Some(64),
            has_newlines: false,
            rounds_as_transformers: true,
            resizes_as_torch: false,
            image_token: config.image_token_index,
            stop: &[1],
            prompt: "<image>\n<|grounding|>Convert the document to markdown.",
            prompt_of_several: None,
            no_repeat: None,
            several_without_tiles: false,
            keeps_special_tokens: false,
            other_token_counts: Vec::new(),
        },
    }
}

const SYSTEMS: [System; 5] = [
    System { name: "SAM", prefixes: &["model.vision_tower.sam_encoder"] },
    System { name: "encoder", prefixes: &["model.vision_tower.vision_encoder", "model.vision_tower"] },
    System { name: "projector", prefixes: &["model.multi_modal_projector"] },
    System { name: "decoder", prefixes: &["model.language_model", "model"] },
    System { name: "head", prefixes: &["lm_head", "logits"] },
];
