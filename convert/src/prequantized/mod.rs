//! Releases that are quantized already: recognized from config and keys, and read as the float weights their packed numbers stand for.
//!
//! ```text
//! declared   what config.json (or quantize_config.json beside it) says: method, bits, groups, which modules are left out
//! recognize  keys and config together: every quantized weight with its parts, or why it cannot be read
//! grid       one code a weight, a scale for each block: FP8, int8, and MLX's shape of scales
//! rows       codes packed along the rows: compressed-tensors' pack-quantized
//! columns    codes packed down the columns (GPTQ) or across them (AWQ)
//! block      codes, scales and zero points of a few rows and columns: what the three above fill
//! decode     a block becomes numbers: (code − zero) × scale, rounded as the reference rounds
//! lookup     the same with one table for each scale, where that is less work
//! source     a `TensorSource` with float weights in the place of packed ones, made while they are read
//! repack     the same codes as MLX's affine words, scales and biases
//! ```
//!
//! Everything after this sees ordinary float weights: recipes, stacks, transposes, `--dtype` and `--quantize` need not know. Nothing is
//! unpacked whole: a read of some rows unpacks those rows.
//!
//! # What it answers to
//!
//! - FP8: `Fp8Dequantize` in transformers' integrations/finegrained_fp8.py: the product in float32, rounded to the model's dtype.
//! - compressed-tensors: `PackedQuantizationCompressor` and `NaiveQuantizationCompressor` with `_dequantize`: in the scale's dtype.
//! - GPTQ: auto-gptq's `QuantLinear` (`qlinear_cuda_old`, the arithmetic without a kernel): `scales * (weight - zeros)` in the scales' dtype,
//!   a stored zero point being one less than the zero point (`gptq`, not `gptq_v2`).
//! - AWQ: autoawq's `dequantize_gemm`: `(weight - zeros) * scales` in the scales' dtype.

mod block;
mod columns;
mod declared;
mod decode;
mod grid;
mod lookup;
mod packed;
mod parts;
mod recognize;
mod repack;
mod repacked;
mod rows;
mod source;

pub use declared::{Declared, Method, remove_sections};
pub use packed::{Form, Packed};
pub use recognize::{Recognized, recognize};
pub use repack::{repack, stored_parts};
pub use source::Opened;
