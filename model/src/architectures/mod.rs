//! The families, one readable file each.

mod config;
mod config_ocr2;
pub mod deepseek_ocr;
pub mod deepseek_ocr2;
mod inputs;
mod names;
pub mod unlimited_ocr;

pub use config::Config;

use crate::contract::Junction;

/// Points that a pass of transformers' classes shows and no module returns.
const WHOLE: [&str; 3] = ["model", "model.language_model", "logits"];

/// What transformers' classes have that a whole pass cannot be compared at.
const ALONE: [(&str, &str); 1] = [(
    ".mlp.experts.act_fn",
    "the rows of each expert in an order of PyTorch's own: compared alone, and as the experts' sum",
)];

/// Where image features meet embeddings in transformers' classes.
const JUNCTION: Junction = Junction {
    // It is given the embeddings for their dtype, before any layer is.
    point: "model.language_model.rotary_emb",
    features: "model.multi_modal_projector",
    whole_first: true,
    encoded: "model.vision_tower",
    positions: "model.language_model.rotary_emb",
    embeddings: "model.language_model.embed_tokens",
};
