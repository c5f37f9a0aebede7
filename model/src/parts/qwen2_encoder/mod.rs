//! The second encoder of DeepSeek-OCR-2: a Qwen2-shaped transformer over SAM's features and learned queries (`DeepseekOcr2VisionEncoder` and
//! `DeepseekOcr2VisionModel` of transformers).
//!
//! ```text
//! pixels [N, S, S, 3] ─ SAM → [N, g, g, dim] → image tokens [N, n, dim], queries [N, m, dim] behind them
//!   n ≤ 144: 144 queries, else 256
//!   layers: x + self_attn(input_layernorm(x)); x + mlp(post_attention_layernorm(x))
//!     image tokens see each other and no query; a query sees all image tokens, the queries before it, and itself
//!     rotary positions 0, 1, 2, … over all of them; biases on queries, keys and values; grouped heads
//!   norm; only the queries' rows come out → [N, m, dim]
//! ```

mod attention;
pub mod config;
mod encoder;
mod tower;

pub use config::Qwen2Config;
pub use encoder::Qwen2Encoder;
pub use tower::QueryTower;
