//! Unlimited-OCR (`UnlimitedOcrForConditionalGeneration` of transformers).
//!
//! ```text
//! pixels ─ sam_model ─┬─ vision_model ─┐
//!                     └────────────────┴ concat ─ projector ─ rows (tiles, newlines, global, separator)
//! ids ─ embed_tokens ─ rows in the image's places ─ layers ─ norm ─ lm_head → logits [1, T, vocab]
//!   each generated token sees the whole prompt and the last `sliding_window` generated tokens, itself among them; positions keep counting
//! ```

use std::{collections::BTreeMap, path::Path, rc::Rc};

use mlx_rs::Array;

use super::{Config, inputs, names::TRANSFORMERS};
use crate::{
    backend::KvCache,
    contract::{Facts, Model, Module, Pass, Prompt, Reading, Recorded, System, TileGrid, UsualRule, by_path},
    error::Result,
    layers::Linear,
    loading::{Files, LoadOptions, Scope, Weights},
    parts::{
        clip::{ClipEncoder, ClipTower},
        deepseek_v2::Decoder,
        rows::ImageRows,
        sam::SamEncoder,
    },
};

/// The name that config.json has for it, converted.
pub const MODEL_TYPES: [&str; 1] = ["unlimited_ocr"];

/// The whole model.
struct UnlimitedOcr {
    facts: Facts,
    tower: ClipTower,
    projector: Linear,
    rows: ImageRows,
    decoder: Decoder,
}

/// What config.json alone says.
///
/// # Errors
/// When it cannot be read or contradicts itself.
pub fn read_facts(dir: &Path, options: &LoadOptions) -> Result<Facts> {
    Ok(facts(&Config::load_windowed(dir, &options.edits.config)?, options))
}

/// Loads a converted model.
///
/// # Errors
/// When config or files cannot be read or do not fit each other; all violations are listed.
pub fn load(files: &Rc<Files>, options: LoadOptions) -> Result<Box<dyn Model>> {
    let config = Config::load_windowed(files.dir(), &options.edits.config)?;
    let facts = facts(&config, &options);
    let weights = Weights::named(files, config.quantization.clone(), options, TRANSFORMERS);
    let model = UnlimitedOcr::ask_for(&weights.root(), &config, facts);
    weights.finish()?;
    Ok(Box::new(model))
}

impl UnlimitedOcr {
    /// Asks for every tensor; what is missing is noted and told by [`Weights::finish`].
    fn ask_for(root: &Scope, config: &Config, facts: Facts) -> Self {
        let (vision, language, layout) = (&config.vision_config.width, &config.language_config, config.layout());
        let system = |name: &str| root.enter(name, &format!("model.{name}"));
        let sam = SamEncoder::load(&system("sam_model"), &vision.sam, layout);
        let clip = ClipEncoder::load(&system("vision_model"), &vision.clip, layout);
        let features = vision.clip.width + vision.sam.downsample_channels[1];
        Self {
            tower: ClipTower::new(&root.enter("", "model.features"), sam, clip),
            projector: Linear::load(&system("projector.layers"), features, facts.hidden, true),
            rows: ImageRows::load(root, facts.hidden, true),
            decoder: Decoder::load(root, language, facts.dtype, language.sliding_window),
            facts,
        }
    }
}

impl Model for UnlimitedOcr {
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
            let seen = self.tower.forward_all(views, pass)?;
            seen.iter().map(|seen| self.projector.forward(seen, pass)).collect()
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
        name: "Unlimited-OCR",
        dtype: options.dtype,
        vocabulary: language.vocab_size,
        hidden: language.hidden_size,
        context: language.max_position_embeddings,
        packed: config.quantization.usual(),
        layout: config.layout().name(),
        recipe: config.mlxport.as_ref().and_then(|provenance| provenance.recipe.clone()),
        whole: &super::WHOLE,
        alone: &super::ALONE,
        names: TRANSFORMERS.path,
        junction: super::JUNCTION,
        systems: &SYSTEMS,
        reading: Reading {
            tile_side: 640,
            tiles: (2, 32),
            whole_side: 1024,
            pixels_per_token: Some(64),
            has_newlines: true,
            rounds_as_transformers: true,
            resizes_as_torch: true,
            image_token: config.image_token_index.unwrap_or(IMAGE_TOKEN),
            stop: &[1],
            prompt: "<image>document parsing.",
            prompt_of_several: Some("Multi page parsing."),
            no_repeat: Some(UsualRule { size: 35, window: 128, window_of_several: 1024, counts_prompt: true }),
            several_without_tiles: true,
            keeps_special_tokens: true,
            other_token_counts: Vec::new(),
        },
    }
}

/// The release's `<image>`.
const IMAGE_TOKEN: i32 = 128_815;

const SYSTEMS: [System; 5] = [
    System { name: "SAM", prefixes: &["model.vision_tower.sam_encoder"] },
    System { name: "CLIP", prefixes: &["model.vision_tower.vision_encoder", "model.vision_tower"] },
    System { name: "projector", prefixes: &["model.multi_modal_projector"] },
    System { name: "decoder", prefixes: &["model.language_model", "model"] },
    System { name: "head", prefixes: &["lm_head", "logits"] },
];
