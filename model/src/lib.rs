//! DeepSeek-OCR on MLX, one file per system.
//!
//! [`DeepseekOcr`] is the whole; `sam`, `clip`, `projector`, `image`, `decoder` and `moe` are its parts, each opening with its
//! dataflow in shapes and the upstream code it answers to. Names of fields and of taps are the checkpoint's. Loading is
//! strict and ours (`weights`): mlx-rs's own ignores unknown keys and leaves missing weights random.

pub mod activation;
pub mod cache;
pub mod clip;
mod clip_embeddings;
pub mod config;
pub mod conv;
pub mod decoder;
pub mod decoding;
pub mod error;
pub mod fault;
mod fused;
mod gather;
pub mod image;
mod kernels;
mod lanes;
pub mod layers;
pub mod matrix;
pub mod moe;
pub mod ocr;
pub mod projector;
pub mod projectors;
pub mod resample;
pub mod rotary;
pub mod runtime;
pub mod sam;
pub mod sam_attention;
mod sam_positions;
pub mod tap;
pub mod unfold;
mod views;
pub mod weights;

pub use error::{Error, Result};
pub use ocr::{DeepseekOcr, LoadOptions, Prompt};
