//! DeepSeek-OCR (`DeepseekOCRForCausalLM` of the release's `modeling_deepseekocr.py`).
//!
//! ```text
//! pixels ─ sam_model ─┬─ vision_model ─┐
//!                     └────────────────┴ concat ─ projector ─ rows (tiles, newlines, global, separator)
//! ids ─ embed_tokens ─ rows in the image's places ─ layers ─ norm ─ lm_head → logits [1, T, vocab]
//! ```

use std::{collections::BTreeMap, path::Path, rc::Rc};

use mlx_rs::Array;

use super::{Config, inputs};
use crate::{
    backend::KvCache,
    contract::{Facts, Junction, Model, Module, Pass, Prompt, Reading, Recorded, System, TileGrid, by_path},
    error::Result,
    loading::{Files, LoadOptions, Scope, Weights},
    parts::{
        clip::{self, ClipEncoder},
        deepseek_v2::Decoder,
        projector::MlpProjector,
        rows::ImageRows,
        sam::SamEncoder,
    },
};

/// The names that config.json may have for it: converted, and as released.
pub const MODEL_TYPES: [&str; 3] = ["deepseekocr", "DeepseekOCR", "deepseek_vl_v2"];

/// The whole model.
struct DeepseekOcr {
    facts: Facts,
    sam_model: SamEncoder,
    vision_model: ClipEncoder,
    projector: MlpProjector,
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
    let weights = Weights::new(files, config.quantization.clone(), options);
    let model = DeepseekOcr::ask_for(&weights.root(), &config, facts);
    weights.finish()?;
    Ok(Box::new(model))
}

impl DeepseekOcr {
    /// Asks for every tensor; what is missing is noted and told by [`Weights::finish`].
    fn ask_for(root: &Scope, config: &Config, facts: Facts) -> Self {
        let (vision, layout) = (&config.vision_config.width, config.layout());
        let system = |name: &str| root.enter(name, &format!("model.{name}"));
        Self {
            sam_model: SamEncoder::load(&system("sam_model"), &vision.sam, layout),
            vision_model: ClipEncoder::load(&system("vision_model"), &vision.clip, layout),
            projector: MlpProjector::load(&system("projector"), &config.projector_config, layout),
            rows: ImageRows::load(root, facts.hidden, true),
            decoder: Decoder::load(root, &config.language_config, facts.dtype, None),
            facts,
        }
    }
}

impl Model for DeepseekOcr {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn modules(&self) -> BTreeMap<&str, &dyn Module> {
        let encoders = [self.decoder.token_table(), &self.sam_model, &self.vision_model, &self.projector];
        by_path(encoders.into_iter().chain(self.decoder.modules()))
    }

    fn new_cache(&self) -> KvCache {
        self.decoder.new_cache()
    }

    fn prompt(&self, recorded: &Recorded) -> Result<Prompt> {
        inputs::of_the_release(recorded)
    }

    fn features(&self, views: &[Array], pass: &Pass) -> Result<Vec<Array>> {
        let encode = |views: &[Array]| -> Result<Vec<Array>> {
            let sam = self.sam_model.forward_all(views, pass)?;
            let clip = self.vision_model.forward_all(views, &sam, pass)?;
            sam.iter()
                .zip(&clip)
                .map(|(sam, seen)| self.projector.forward(&clip::both(sam, seen, pass)?, pass))
                .collect()
        };
        let views = views.iter().map(|view| view.as_dtype(self.facts.dtype)).collect::<Result<Vec<_>, _>>()?;
        if pass.together() {
            return encode(&views);
        }
        Ok(views.chunks(1).map(encode).collect::<Result<Vec<_>>>()?.concat())
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
        name: "DeepSeek-OCR",
        dtype: options.dtype,
        vocabulary: language.vocab_size,
        hidden: language.hidden_size,
        context: language.max_position_embeddings,
        packed: config.quantization.usual(),
        layout: config.layout().name(),
        recipe: config.mlxport.as_ref().and_then(|provenance| provenance.recipe.clone()),
        whole: &["model", "logits"],
        alone: &[],
        names: str::to_owned,
        junction: Junction {
            point: "model.layers.0.input_layernorm",
            features: "model.projector",
            whole_first: false,
            encoded: "model.projector",
            positions: "model.layers.0",
            embeddings: "model.embed_tokens",
        },
        systems: &SYSTEMS,
        reading: Reading {
            tile_side: 640,
            tiles: (2, 9),
            whole_side: 1024,
            pixels_per_token: Some(64),
            has_newlines: true,
            rounds_as_transformers: false,
            resizes_as_torch: false,
            image_token: 128_815,
            stop: &[1],
            prompt: "<image>\n<|grounding|>Convert the document to markdown.",
            prompt_of_several: None,
            no_repeat: None,
            several_without_tiles: false,
            keeps_special_tokens: false,
            other_token_counts: config.projector_config.changes_token_count(),
        },
    }
}

const SYSTEMS: [System; 5] = [
    System { name: "SAM", prefixes: &["model.sam_model"] },
    System { name: "CLIP", prefixes: &["model.vision_model"] },
    System { name: "projector", prefixes: &["model.projector", "model.image_newline", "model.view_seperator"] },
    System { name: "decoder", prefixes: &["model.embed_tokens", "model.layers", "model.norm", "model"] },
    System { name: "head", prefixes: &["lm_head", "logits"] },
];
