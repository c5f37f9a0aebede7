//! The model's sizes, read from a converted `config.json`.
//!
//! `mlxport convert` writes every field out, so nothing here has a hidden default: a missing field is an error that names
//! it. The values answer to the release's `DeepseekV2Config` (decoder) and to the constants of its `deepencoder.py` (SAM,
//! CLIP), which the converter makes explicit under `vision_config.width`.

mod checks;
mod packing;

use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use packing::Packing;

pub use crate::projectors::ProjectorConfig;

/// Everything that decides shapes and arithmetic of the model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Config {
    /// The decoder.
    pub language_config: LanguageConfig,
    /// The two image encoders.
    pub vision_config: VisionConfig,
    /// The map from image features to decoder width.
    pub projector_config: ProjectorConfig,
    /// How the checkpoint was written; absent in files of other converters.
    #[serde(default)]
    pub mlxport: Option<Provenance>,
    /// How weights are packed, as MLX tools write it.
    #[serde(default)]
    pub quantization: Packing,
}

/// What `mlxport convert` says of the files beside `config.json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Provenance {
    /// Which weights are packed and how they are named.
    pub layout: Layout,
    /// The recipe that made the files.
    #[serde(default)]
    pub recipe: Option<String>,
}

/// How attention projections are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// Packed `qkv`, as mlx-vlm names and loads them.
    #[default]
    MlxVlm,
    /// `q_proj`, `k_proj` and `v_proj` apart.
    Split,
}

/// Sizes of the DeepSeek-V2 decoder (`configuration_deepseek_v2.py`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct LanguageConfig {
    /// Entries of the token table and of the logits.
    pub vocab_size: i32,
    /// Width of the residual stream.
    pub hidden_size: i32,
    /// Inner width of the dense MLP.
    pub intermediate_size: i32,
    /// Inner width of one routed expert.
    pub moe_intermediate_size: i32,
    /// Decoder layers.
    pub num_hidden_layers: i32,
    /// Query heads.
    pub num_attention_heads: i32,
    /// Key and value heads; a divisor of `num_attention_heads`.
    pub num_key_value_heads: i32,
    /// Shared experts, computed as one MLP of `n × moe_intermediate_size`; `None` or 0: none.
    pub n_shared_experts: Option<i32>,
    /// Routed experts per MoE layer; `None`: every layer is dense.
    pub n_routed_experts: Option<i32>,
    /// Experts chosen per token.
    pub num_experts_per_tok: Option<i32>,
    /// Layers before this one are dense.
    pub first_k_dense_replace: i32,
    /// Every how many layers one is MoE.
    pub moe_layer_freq: i32,
    /// How experts are chosen.
    pub topk_method: TopkMethod,
    /// How router logits become scores.
    pub scoring_func: ScoringFunc,
    /// Whether the chosen experts' weights are scaled to sum to 1.
    pub norm_topk_prob: bool,
    /// Factor on the chosen experts' weights.
    pub routed_scaling_factor: f32,
    /// Groups of experts, for group-limited choice.
    pub n_group: Option<i32>,
    /// Groups a token may draw from.
    pub topk_group: Option<i32>,
    /// Epsilon of every RMSNorm.
    pub rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Positions the release was made for.
    pub max_position_embeddings: i32,
    /// The MLPs' activation: only `silu`.
    pub hidden_act: String,
    /// Scaled rotary positions: not supported.
    pub rope_scaling: Option<serde_json::Value>,
    /// Biases in attention: not supported.
    pub attention_bias: bool,
    /// Latent attention: not supported.
    pub use_mla: bool,
    /// An output head that is the token table: not supported.
    pub tie_word_embeddings: bool,
}

/// How the router picks experts (`MoEGate.forward`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopkMethod {
    /// The k best of all.
    Greedy,
    /// The k best within the `topk_group` groups whose best expert scores highest.
    GroupLimitedGreedy,
}

/// How router logits become scores (`MoEGate.forward`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoringFunc {
    /// Softmax over all experts.
    Softmax,
    /// Sigmoid of each.
    Sigmoid,
}

impl LanguageConfig {
    /// Width of one attention head.
    pub fn head_dim(&self) -> i32 {
        self.hidden_size / self.num_attention_heads
    }

    /// Whether decoder layer `index` has experts (`DeepseekV2DecoderLayer.__init__`).
    pub fn is_moe_layer(&self, index: i32) -> bool {
        self.n_routed_experts.is_some() && index >= self.first_k_dense_replace && index % self.moe_layer_freq == 0
    }
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

/// Sizes of the CLIP encoder (`vit_model_cfg` of `deepencoder.py`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ClipConfig {
    /// Transformer layers.
    pub layers: i32,
    /// Width of the residual stream.
    pub width: i32,
    /// Attention heads.
    pub heads: i32,
    /// Inner width of the MLP.
    pub ffn_hidden_size: i32,
    /// Image edge, in pixels, that the position table was made for.
    pub image_size: i32,
    /// Patch edge in pixels.
    pub patch_size: i32,
    /// Epsilon of every LayerNorm: 1e-5.
    pub layer_norm_eps: f32,
}

impl ClipConfig {
    /// Rows of the position table: the class token and one per patch.
    pub fn num_positions(&self) -> i32 {
        let grid = self.image_size / self.patch_size;
        grid * grid + 1
    }
}

/// Sizes of the SAM encoder (`_build_sam` of `deepencoder.py`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct SamConfig {
    /// Transformer blocks.
    pub layers: i32,
    /// Width of the residual stream.
    pub width: i32,
    /// Attention heads.
    pub heads: i32,
    /// Image edge, in pixels, that the position tables were made for.
    pub image_size: i32,
    /// Patch edge in pixels.
    pub patch_size: i32,
    /// Edge of an attention window in patches.
    pub window_size: i32,
    /// Blocks that attend over the whole image.
    pub global_attn_indexes: Vec<i32>,
    /// Channels of the neck.
    pub neck_channels: i32,
    /// Channels after each of the two stride-2 convolutions.
    pub downsample_channels: [i32; 2],
    /// Inner width of the MLP, as a multiple of `width`.
    pub mlp_ratio: f64,
    /// Epsilon of every LayerNorm and LayerNorm2d: 1e-6.
    pub layer_norm_eps: f32,
}

impl SamConfig {
    /// Patches per edge that the position tables were made for.
    pub fn grid(&self) -> i32 {
        self.image_size / self.patch_size
    }

    /// Inner width of the MLP.
    pub fn mlp_dim(&self) -> i32 {
        (f64::from(self.width) * self.mlp_ratio) as i32
    }

    /// The window of block `index` in patches; `None` where it attends over the whole image.
    pub fn window(&self, index: i32) -> Option<i32> {
        (!self.global_attn_indexes.contains(&index) && self.window_size > 0).then_some(self.window_size)
    }
}

/// Why a `config.json` could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is not the JSON of a converted model.
    #[error("{path}: not the config.json of a converted model (run `mlxport convert` on the release first): {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Which field is missing or wrong.
        source: serde_json::Error,
    },
    /// Fields that contradict each other or that this model cannot use.
    #[error("{path}: {}", violations.join("; "))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Every violation.
        violations: Vec<String>,
    },
}

/// The names of the models that run here.
const MODEL_TYPES: [&str; 3] = ["deepseekocr", "DeepseekOCR", "deepseek_vl_v2"];

/// What to say of the config of a model that does not run here, before any of its fields is missed.
fn other_model(config: &serde_json::Value) -> Option<String> {
    let found = config.get("model_type")?.as_str().filter(|name| !MODEL_TYPES.contains(name))?;
    let known = MODEL_TYPES[0];
    Some(format!(
        "model_type {found}: expected {known}, which runs here; other models are judged by recordings of their own ports (mlxport compare)"
    ))
}

impl Config {
    /// Reads and checks `dir/config.json`.
    ///
    /// # Errors
    /// When the file cannot be read, lacks a field, or its fields contradict each other (all of them are listed).
    pub fn load(dir: &Path) -> Result<Self, ConfigError> {
        let path = dir.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        // As the converter reads it: Python writes numbers that JSON does not have. What is no JSON at all has serde's own words.
        let parsed = match mlxport_convert::json::parse(text.as_bytes()) {
            Ok(value) => {
                if let Some(other) = other_model(&value) {
                    return Err(ConfigError::Invalid { path, violations: vec![other] });
                }
                serde_json::from_value(value)
            }
            Err(_) => serde_json::from_str(&text),
        };
        let config: Self = parsed.map_err(|source| ConfigError::Parse { path: path.clone(), source })?;
        let violations = config.violations();
        if violations.is_empty() { Ok(config) } else { Err(ConfigError::Invalid { path, violations }) }
    }

    /// The layout of the weights beside this config.
    pub fn layout(&self) -> Layout {
        self.mlxport.as_ref().map_or(Layout::default(), |p| p.layout)
    }
}
