//! What a person asks of a conversion.

use std::path::PathBuf;

use crate::dtype::DtypeChoice;
use crate::recipe::packing::Wish;

/// What to convert, and into what.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// A checkpoint directory, or one `.safetensors`, `.bin`, `.pt` or `.pth` file.
    pub source: PathBuf,
    /// A built-in recipe's name or a recipe file; `None` takes the built-in one that fits the config.
    pub recipe: Option<String>,
    /// A layout of the recipe; `None` takes its first.
    pub layout: Option<String>,
    /// What float tensors become.
    pub dtype: DtypeChoice,
    /// How weights are packed; `None` leaves them as they are.
    pub quantize: Option<Wish>,
    /// Make float weights of a quantized release or MLX directory.
    pub dequantize: bool,
    /// Keep a quantized release's codes, in MLX's packing.
    pub keep_quantized: bool,
    /// Which dict of a PyTorch file is the state dict, dotted where it is in another (`a.b`); `None` takes the one there is.
    pub state_dict: Option<String>,
    /// What every key begins with and the recipe's keys do not; `None` takes off what all keys carry where the recipe then fits.
    pub strip_prefix: Option<String>,
}
