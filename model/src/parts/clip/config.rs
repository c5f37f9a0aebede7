//! CLIP's sizes (`vit_model_cfg` of `deepencoder.py`).

use serde::Deserialize;

use crate::loading::config::{LARGEST_COUNT, LARGEST_WIDTH, beyond, divides};

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
    /// Whose modules are answered to.
    #[serde(skip)]
    pub class: ClipClass,
}

/// Whose modules are answered to: they compute the same, cut differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClipClass {
    /// The release's: given pixels besides features, one projection for queries, keys and values, the activation a function.
    #[default]
    Release,
    /// transformers' (`modeling_unlimited_ocr.py`): given features, three projections, the activation a module, and the position table a
    /// module's output only where it is not resampled.
    Transformers,
}

impl ClipConfig {
    /// Rows of the position table: the class token and one per patch.
    pub fn num_positions(&self) -> i32 {
        let grid = self.image_size / self.patch_size;
        grid * grid + 1
    }
}

impl ClipConfig {
    /// What cannot be.
    pub fn violations(&self) -> Vec<String> {
        let sizes = [
            ("layers", self.layers, LARGEST_COUNT),
            ("width", self.width, LARGEST_WIDTH),
            ("heads", self.heads, LARGEST_COUNT),
            ("ffn_hidden_size", self.ffn_hidden_size, LARGEST_WIDTH),
            ("image_size", self.image_size, LARGEST_COUNT),
            ("patch_size", self.patch_size, LARGEST_COUNT),
        ];
        let mut out = beyond("clip-l-14-224", &sizes);
        if !divides(self.heads, self.width) {
            out.push("clip-l-14-224: heads must divide width".into());
        }
        out
    }
}
