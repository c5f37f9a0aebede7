//! SAM ViT-B, the high-resolution encoder (`ImageEncoderViT` of the release's `deepencoder.py`).
//!
//! ```text
//! pixels [N, S, S, 3] ─ patch_embed ─ + pos_embed → [N, g, g, width]            g = S / 16
//!   blocks: x + attn(norm1(x)), in windows of 14×14 or over the whole image; x + mlp(norm2(x))
//!   neck: 1×1 conv, LayerNorm2d, 3×3 conv, LayerNorm2d → [N, g, g, 256]
//!   net_2, net_3: 3×3 convs of stride 2            → [N, g/4, g/4, 1024]
//! ```
//! Everything is channels-last here; PyTorch keeps channels first up to `patch_embed` and from `neck` on.

mod attention;
mod block;
pub mod config;
mod encoder;
mod neck;
mod positions;

pub use config::SamConfig;
pub use encoder::SamEncoder;
