//! From images and a prompt to a model's inputs, value for value as the release's own code makes them. Never sees MLX.
//!
//! The release leaves its pixels to Pillow, so Pillow decides: its fixed-point bicubic filter ([`resample`]), its `pad`
//! ([`views`]) and its conversions to RGB ([`page`]).

pub mod conversation;
mod drawing;
mod error;
pub mod file;
pub mod formats;
pub mod geometry;
pub mod grounding;
#[cfg(feature = "prompts")]
pub mod inputs;
pub mod layouts;
pub mod page;
#[cfg(feature = "pdf")]
pub mod pdf;
#[cfg(feature = "prompts")]
pub mod prompt;
pub mod resample;
pub mod views;

pub use conversation::{IMAGE_TOKEN, Task, Template};
pub use error::OcrError;
pub use file::{Decoded, Decoding, ImageFile};
#[cfg(feature = "prompts")]
pub use inputs::{Inputs, prepare};
pub use page::{Page, open, read};
#[cfg(feature = "prompts")]
pub use prompt::{IMAGE_TOKEN_ID, Prompter, Streamed};
pub use views::{Cut, Mode, TILE, Views, views, views_of};
