//! Everything end to end, on the binary. One program, because each one links all of MLX: `cargo test --test it decode::` runs a module.

mod bad_input;
mod bf16;
mod cases;
mod check;
mod compare;
mod decode;
mod demo;
mod families;
mod faults;
mod files;
mod hub;
mod interrupted;
mod lock;
mod ocr;
mod ocr_losses;
mod parity;
mod parts;
mod preprocess;
mod quantized;
mod quantized_releases;
mod read_library;
mod reports;
mod sampled;
mod serve;
mod shards;
mod support;
