//! The layers every part is made of. Names of fields are the checkpoint's; activations are channels-last.

mod activation;
mod conv;
mod embedding;
mod linear;
mod norms;
mod rotary;
mod views;

pub use activation::Activation;
pub use conv::{Conv2d, ConvShape};
pub use embedding::Embedding;
pub use linear::Linear;
pub use norms::{LayerNorm, RmsNorm};
pub use rotary::RotaryEmbedding;
pub(crate) use views::{Views, side_by_side};
