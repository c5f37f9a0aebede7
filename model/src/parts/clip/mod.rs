//! CLIP-L, the semantic encoder, fed with SAM's features instead of its own patches (`VitModel` of `deepencoder.py`).
//!
//! ```text
//! SAM features [N, g, g, width] → rows; class token first → [N, g² + 1, width]
//!   + position table, resampled (bicubic, antialias, NCHW in PyTorch) when g is not the table's grid
//!   pre_layrnorm (the checkpoint's spelling)
//!   layers: x + self_attn(layer_norm1(x)); x + mlp(layer_norm2(x)), quick_gelu
//! ```
//! The checkpoint's own patch convolution is loaded and never used, as in the release.

pub mod config;
mod embeddings;
mod encoder;
mod layer;
mod tower;

pub use config::ClipConfig;
pub use encoder::ClipEncoder;
pub use tower::{ClipTower, both};
