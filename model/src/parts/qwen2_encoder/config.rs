//! The encoder's sizes (`DeepseekOcr2VisionEncoderConfig`; the release's code fixes them).

use serde::Deserialize;

use crate::loading::config::{LARGEST_COUNT, LARGEST_WIDTH, beyond, divides};

/// Up to so many image tokens the smaller bank of queries is taken; and it holds as many.
pub const SMALL_BANK: i32 = 144;
/// Queries of the larger bank.
pub const LARGE_BANK: i32 = 256;

/// Sizes of the Qwen2-shaped encoder.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Qwen2Config {
    /// Width of the residual stream, and of SAM's features.
    pub dim: i32,
    /// Transformer layers.
    pub layers: i32,
    /// Query heads.
    pub heads: i32,
    /// Key and value heads; a divisor of `heads`.
    pub kv_heads: i32,
    /// Inner width of the MLP.
    pub intermediate_size: i32,
    /// Epsilon of every RMSNorm.
    pub rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
}

impl Qwen2Config {
    /// Width of one attention head.
    pub fn head_dim(&self) -> i32 {
        self.dim / self.heads
    }

    /// What cannot be.
    pub fn violations(&self) -> Vec<String> {
        let sizes = [
            ("dim", self.dim, LARGEST_WIDTH),
            ("layers", self.layers, LARGEST_COUNT),
            ("heads", self.heads, LARGEST_COUNT),
            ("kv_heads", self.kv_heads, LARGEST_COUNT),
            ("intermediate_size", self.intermediate_size, LARGEST_WIDTH),
        ];
        let mut out = beyond("qwen2-0-5b", &sizes);
        let rules = [
            (divides(self.heads, self.dim), "heads must divide dim"),
            (self.heads < 1 || self.head_dim() % 2 == 0, "dim / heads must be even: positions rotate pairs"),
            (divides(self.kv_heads, self.heads), "kv_heads must divide heads"),
        ];
        out.extend(rules.into_iter().filter(|(holds, _)| !holds).map(|(_, text)| format!("qwen2-0-5b: {text}")));
        out
    }
}
