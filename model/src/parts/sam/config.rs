//! SAM's sizes (`_build_sam` of `deepencoder.py`).

use serde::Deserialize;

use crate::loading::config::{LARGEST_COUNT, LARGEST_WIDTH, beyond, divides};

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
    /// Inner width of the MLP, as a multiple of `width`; 4 where neither is said.
    #[serde(default = "four")]
    pub mlp_ratio: f64,
    /// The same as a number, where the config has it so.
    #[serde(default)]
    pub mlp_dim: Option<i32>,
    /// Epsilon of every LayerNorm and LayerNorm2d: 1e-6.
    pub layer_norm_eps: f32,
}

fn four() -> f64 {
    4.0
}

impl SamConfig {
    /// Patches per edge that the position tables were made for.
    pub fn grid(&self) -> i32 {
        self.image_size / self.patch_size
    }

    /// Inner width of the MLP.
    pub fn mlp_dim(&self) -> i32 {
        self.mlp_dim.unwrap_or((f64::from(self.width) * self.mlp_ratio) as i32)
    }

    /// The window of block `index` in patches; `None` where it attends over the whole image.
    pub fn window(&self, index: i32) -> Option<i32> {
        (!self.global_attn_indexes.contains(&index) && self.window_size > 0).then_some(self.window_size)
    }
}

impl SamConfig {
    /// What cannot be.
    pub fn violations(&self) -> Vec<String> {
        let sizes = [
            ("layers", self.layers, LARGEST_COUNT),
            ("width", self.width, LARGEST_WIDTH),
            ("heads", self.heads, LARGEST_COUNT),
            ("image_size", self.image_size, LARGEST_COUNT),
            ("patch_size", self.patch_size, LARGEST_COUNT),
            ("window_size", self.window_size.max(1), LARGEST_COUNT),
            ("mlp_dim", self.mlp_dim.unwrap_or(1), LARGEST_WIDTH),
            ("neck_channels", self.neck_channels, LARGEST_WIDTH),
            ("downsample_channels[0]", self.downsample_channels[0], LARGEST_WIDTH),
            ("downsample_channels[1]", self.downsample_channels[1], LARGEST_WIDTH),
        ];
        let mut out = beyond("sam_vit_b", &sizes);
        if !divides(self.heads, self.width) {
            out.push("sam_vit_b: heads must divide width".into());
        }
        out
    }
}
