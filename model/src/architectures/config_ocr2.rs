//! DeepSeek-OCR-2's config.json, as `mlxport convert` writes it.

use std::path::Path;

use serde::Deserialize;

use crate::{
    loading::{ConfigEdit, ConfigError, Packing, Provenance, config},
    parts::{deepseek_v2::LanguageConfig, qwen2_encoder::Qwen2Config, sam::SamConfig},
};

/// Its config.json, as `mlxport convert` writes it.
#[derive(Debug, Deserialize)]
pub(super) struct Config {
    pub(super) language_config: LanguageConfig,
    pub(super) vision_config: VisionConfig,
    pub(super) image_token_index: i32,
    pub(super) mlxport: Option<Provenance>,
    #[serde(default)]
    pub(super) quantization: Packing,
}

#[derive(Debug, Deserialize)]
pub(super) struct VisionConfig {
    pub(super) width: Widths,
}

#[derive(Debug, Deserialize)]
pub(super) struct Widths {
    #[serde(rename = "qwen2-0-5b")]
    pub(super) encoder: Qwen2Config,
    #[serde(rename = "sam_vit_b")]
    pub(super) sam: SamConfig,
}

impl Config {
    /// Reads and checks `dir/config.json`, changed by `edits`.
    pub(super) fn load(dir: &Path, edits: &[ConfigEdit]) -> Result<Self, ConfigError> {
        let config: Self = config::read(dir, edits)?;
        let Widths { encoder, sam } = &config.vision_config.width;
        let parts = [config.language_config.violations(), encoder.violations(), sam.violations()];
        let mut violations = [parts.concat(), config.quantization.violations()].concat();
        if sam.downsample_channels[1] != encoder.dim {
            violations.push(format!("sam_vit_b: downsample_channels[1] must be the encoder's dim, {}", encoder.dim));
        }
        if violations.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::Invalid { path: dir.join("config.json"), violations })
        }
    }
}
