//! Models on MLX: a family for each file of [`architectures`], made of [`parts`], found by its `model_type` in the [`registry`].
//!
//! ```text
//! error ← backend ← contract ← steps ← loading ← layers ← parts ← architectures ← registry
//!                             steps ← decoding
//! ```
//!
//! A room knows only those before it. [`contract::Model`] is what everyone outside asks; names of fields and of taps are the checkpoint's.
//! Loading is strict and ours ([`loading`]): mlx-rs's own ignores unknown keys and leaves missing weights random.

pub mod architectures;
pub mod backend;
pub mod contract;
pub mod decoding;
pub mod error;
pub mod layers;
pub mod loading;
pub mod parts;
pub mod registry;
pub mod steps;

pub use backend::runtime;
pub use contract::{Facts, Image, Model, Pass, Prompt, TileGrid};
pub use error::{Error, Result};
pub use loading::LoadOptions;
pub use registry::load;
pub use steps::{Plain, Tuned};
