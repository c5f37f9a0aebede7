//! The projector: image features to decoder width (`MlpProjector` of `deepencoder.py`), in the types that a whole model can have.
//!
//! ```text
//! x ─ token_pooling? (squares of 4) ─┬─ linear, mlp_gelu ────────────────────────────────────── layers
//!                                    ├─ (normlayer_)downsample_mlp_gelu: squares side by side ─ layers
//!                                    └─ hybrid_split_feature_mlp_gelu: cut, high_up_proj | low_up_proj ─ layers
//! ```
//!
//! The release has `linear`. Three things of the builder cannot stand in a whole model, which gives one input: `low_high_hybrid_split_mlp_gelu`,
//! `low_high_split_mlp_gelu` and `conv_fusion_high_low_features` take two. They run alone, in [`alone`].

pub mod alone;
pub mod config;
pub mod unfold;
mod whole;

pub use alone::Projector;
pub use config::{ProjectorConfig, ProjectorType, Widths};
pub use whole::MlpProjector;
