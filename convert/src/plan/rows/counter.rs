//! Whole numbers beside the weights, which no model computes with.

use safetensors::Dtype;

use crate::checkpoint::TensorInfo;

/// Why a counter is left out.
pub const COUNTER: &str = "a whole number by itself, outside every module, which no row claims";

/// Whether a tensor is one whole number outside every module (`version`, `n_averaged`): nothing that a model computes with.
pub(super) fn is_counter(key: &str, info: &TensorInfo) -> bool {
    let is_whole = matches!(info.dtype, Dtype::I64 | Dtype::I32 | Dtype::I16 | Dtype::I8 | Dtype::U8 | Dtype::BOOL);
    is_whole && info.shape.is_empty() && !key.contains('.')
}
