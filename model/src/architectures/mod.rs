//! The families, one readable file each.

mod config;
pub mod deepseek_ocr;
mod inputs;

pub use config::Config;
