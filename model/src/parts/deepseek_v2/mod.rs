//! The DeepSeek-V2 decoder as DeepSeek-OCR configures it: Llama's attention, dense first layers, then experts
//! (`DeepseekV2DecoderLayer` of `modeling_deepseekv2.py`, `LlamaAttention` of transformers 4.46.3, eager).
//!
//! ```text
//! x [1, T, hidden]
//!   x + self_attn(input_layernorm(x))            causal, rotary positions, grouped key/value heads
//!   x + mlp(post_attention_layernorm(x))         dense MLP, or router + experts + shared experts
//! ```

mod attention;
pub mod config;
mod decoder;
mod experts;
mod gate;
mod layer;
mod mlp;
mod moe;

pub use attention::Attention;
pub use config::{LanguageConfig, TopkMethod};
pub use decoder::Decoder;
pub use experts::Experts;
pub use gate::MoeGate;
pub use layer::DecoderLayer;
pub use mlp::Mlp;
pub use moe::Moe;
