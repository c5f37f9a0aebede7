//! DeepSeek-OCR's config.json, as `mlxport convert` writes it: the decoder's sizes and those of the image encoders, which the release has as
//! constants of its `deepencoder.py`.

use std::path::Path;

use serde::Deserialize;

use crate::{
    loading::{ConfigEdit, ConfigError, Layout, Packing, Provenance, config, config::LARGEST_COUNT},
    parts::{clip::ClipConfig, deepseek_v2::LanguageConfig, projector::ProjectorConfig, sam::SamConfig},
};

/// Everything that decides shapes and arithmetic of the model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Config {
    /// The decoder.
    pub language_config: LanguageConfig,
    /// The two image encoders.
    pub vision_config: VisionConfig,
    /// The map from image features to decoder width.
    pub projector_config: ProjectorConfig,
    /// The token that stands for an image feature, where the config says it.
    #[serde(default)]
    pub image_token_index: Option<i32>,
    /// How the checkpoint was written; absent in files of other converters.
    #[serde(default)]
    pub mlxport: Option<Provenance>,
    /// How weights are packed, as MLX tools write it.
    #[serde(default)]
    pub quantization: Packing,
}

/// The image encoders, under the names the release gives them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct VisionConfig {
    /// Sizes by encoder.
    pub width: VisionWidths,
}

/// Sizes of the two encoders.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct VisionWidths {
    /// CLIP-L.
    #[serde(rename = "clip-l-14-224")]
    pub clip: ClipConfig,
    /// SAM ViT-B.
    #[serde(rename = "sam_vit_b")]
    pub sam: SamConfig,
}

impl Config {
    /// Reads and checks `dir/config.json`, changed by `edits`.
    ///
    /// # Errors
    /// When the file cannot be read, lacks a field, or its fields contradict each other (all of them are listed).
    pub fn load(dir: &Path, edits: &[ConfigEdit]) -> Result<Self, ConfigError> {
        let config: Self = config::read(dir, edits)?;
        let violations = config.violations();
        if violations.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::Invalid { path: dir.join("config.json"), violations })
        }
    }

    /// The same of a model whose decoder has a window (Unlimited-OCR).
    ///
    /// # Errors
    /// As [`Config::load`], and when the window is missing or empty.
    pub fn load_windowed(dir: &Path, edits: &[ConfigEdit]) -> Result<Self, ConfigError> {
        let config = Self::load(dir, edits)?;
        match config.language_config.sliding_window {
            Some(window) if (1..=LARGEST_COUNT * 16).contains(&window) => Ok(config),
            other => {
                let found = other.map_or("none".into(), |window| window.to_string());
                let violations =
                    vec![format!("language_config: sliding_window = {found}: expected a number of tokens")];
                Err(ConfigError::Invalid { path: dir.join("config.json"), violations })
            }
        }
    }

    /// The layout of the weights beside this config.
    pub fn layout(&self) -> Layout {
        self.mlxport.as_ref().map_or(Layout::default(), |p| p.layout)
    }
}

impl Config {
    /// Every contradiction between the fields.
    fn violations(&self) -> Vec<String> {
        let (language, VisionWidths { clip, sam }) = (&self.language_config, &self.vision_config.width);
        let features = clip.width.saturating_add(sam.downsample_channels[1]);
        let projector = self.projector_config.violations(features, language.hidden_size);
        let all =
            [language.violations(), clip.violations(), sam.violations(), projector, self.quantization.violations()];
        all.concat()
    }
}

#[cfg(test)]
mod tests;
