//! What decides which faults can be planted in a model, and which of them a recording can show.

use mlxport_model::{
    Facts, Prompt,
    contract::{Junction, Module},
    loading::config,
    parts::{
        clip::ClipConfig, deepseek_v2::LanguageConfig, projector::ProjectorConfig, qwen2_encoder::Qwen2Config,
        sam::SamConfig,
    },
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Result;

/// Sizes of the model's parts and of what it is fed. A part that a model does not have is none.
#[derive(Debug, Clone)]
pub(super) struct ModelShape {
    /// config.json.
    pub(super) config: Value,
    pub(super) language: Option<LanguageConfig>,
    pub(super) sam: Option<SamConfig>,
    pub(super) clip: Option<ClipConfig>,
    pub(super) encoder: Option<Qwen2Config>,
    pub(super) projector: Option<ProjectorConfig>,
    /// Patches per side of every view, tiles first.
    pub(super) sam_grids: Vec<i32>,
    /// Tiles across and down; none without tiles.
    pub(super) tiles: Option<(i32, i32)>,
    pub(super) is_split: bool,
    /// Tokens of the prompt.
    pub(super) prompt_len: usize,
    /// Whether the recording has outputs from inside the decoder's attention.
    pub(super) attention_is_recorded: bool,
    pub(super) has_newlines: bool,
    /// Where image features meet embeddings, and what is seen first.
    pub(super) junction: Junction,
    /// From released module paths, which the catalogue is written with, to those of the class that was recorded.
    pub(super) names: fn(&str) -> String,
}

impl ModelShape {
    /// # Errors
    /// When config.json cannot be read.
    pub(super) fn read(
        dir: &std::path::Path,
        model: &Facts,
        modules: &std::collections::BTreeMap<&str, &dyn Module>,
        prompt: &Prompt,
    ) -> Result<Self> {
        let config: Value = config::read(dir, &[]).map_err(mlxport_model::Error::from)?;
        let has = |path: &str| modules.contains_key((model.names)(path).as_str());
        let sam: Option<SamConfig> = part(&config, SAM).filter(|_| has("model.sam_model"));
        let patch = sam.as_ref().map_or(1, |sam| sam.patch_size).max(1);
        let views = prompt.image.iter().flat_map(|image| image.tiles.iter().chain([&image.global]));
        let sam_grids = views.map(|view| view.dim(1) / patch).collect();
        let tiles = prompt.image.as_ref().filter(|image| image.tiles.is_some());
        Ok(Self {
            language: part(&config, "/language_config"),
            clip: part(&config, CLIP).filter(|_| has("model.vision_model.pre_layrnorm")),
            encoder: part(&config, ENCODER),
            projector: part(&config, "/projector_config"),
            sam,
            sam_grids,
            tiles: tiles.map(|image| (image.grid.across, image.grid.down)),
            is_split: model.layout == "split",
            prompt_len: prompt.input_ids.len(),
            attention_is_recorded: true,
            has_newlines: model.reading.has_newlines,
            junction: model.junction,
            names: model.names,
            config,
        })
    }

    /// Patches per side after SAM's two convolutions of stride 2.
    pub(super) fn clip_grids(&self) -> Vec<i32> {
        let halved = |edge: i32| (edge - 1) / 2 + 1;
        self.sam_grids.iter().map(|&grid| halved(halved(grid))).collect()
    }

    pub(super) fn sam_table_is_resampled(&self) -> bool {
        self.sam.as_ref().is_some_and(|sam| self.sam_grids.iter().any(|&grid| grid != sam.grid()))
    }

    pub(super) fn clip_table_is_resampled(&self) -> bool {
        let positions = self.clip.as_ref().map_or(0, ClipConfig::num_positions);
        self.clip_grids().iter().any(|&grid| grid * grid + 1 != positions)
    }

    /// Whether every view resamples CLIP's table of 2 × 2 places to one, whose value is then the mean.
    pub(super) fn clip_takes_the_mean(&self) -> bool {
        let is_of_four = self.clip.as_ref().is_some_and(|clip| clip.num_positions() == 5);
        is_of_four && self.clip_grids().iter().all(|&grid| grid == 1)
    }

    /// The first block with windows (or without, for `false`).
    pub(super) fn sam_block(&self, windowed: bool) -> Option<i32> {
        let sam = self.sam.as_ref()?;
        (0..sam.layers).find(|&block| sam.window(block).is_some() == windowed)
    }

    /// Windows per side and whether they need padding, the most of any view; none without windowed blocks.
    pub(super) fn windows(&self) -> Option<(i32, bool)> {
        let size = self.sam.as_ref()?.window(self.sam_block(true)?)?;
        let count = self.sam_grids.iter().map(|&grid| (grid + size - 1) / size).max()?;
        Some((count, self.sam_grids.iter().any(|&grid| grid % size != 0)))
    }

    /// The first decoder layer with experts.
    pub(super) fn moe_layer(&self) -> Option<i32> {
        let language = self.language.as_ref()?;
        (0..language.num_hidden_layers).find(|&layer| language.is_moe_layer(layer))
    }

    /// How many experts a router chooses for each token; 0 without a decoder.
    pub(super) fn chosen_experts(&self) -> i32 {
        self.language.as_ref().map_or(0, |language| language.num_experts_per_tok.unwrap_or(1))
    }

    /// The first decoder layer without.
    pub(super) fn dense_layer(&self) -> Option<i32> {
        let language = self.language.as_ref()?;
        (0..language.num_hidden_layers).find(|&layer| !language.is_moe_layer(layer))
    }

    pub(super) fn has_groups(&self) -> bool {
        self.language.as_ref().is_some_and(|language| language.num_attention_heads != language.num_key_value_heads)
    }
}

/// Where config.json has the image encoders' sizes.
pub(super) const SAM: &str = "/vision_config/width/sam_vit_b";
pub(super) const CLIP: &str = "/vision_config/width/clip-l-14-224";
pub(super) const ENCODER: &str = "/vision_config/width/qwen2-0-5b";

fn part<C: DeserializeOwned>(config: &Value, pointer: &str) -> Option<C> {
    serde_json::from_value(config.pointer(pointer)?.clone()).ok()
}
