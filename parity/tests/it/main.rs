//! Whole small models, with cache and without. One program, because each one links all of MLX.

mod cache;
mod engine;
mod tuned;
mod window;
