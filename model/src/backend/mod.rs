//! What is underneath: the device, MLX's kernels, weights as stored, keys and values. It knows no module and no model.

pub mod cache;
pub mod functions;
pub mod fused;
pub mod kernels;
pub mod lanes;
pub mod matrix;
pub mod param;
pub mod positions;
pub mod resample;
pub mod runtime;

pub use cache::{KvCache, LayerCache};
pub use matrix::{Matrix, Packed};
pub use param::Param;
pub use positions::Positions;
