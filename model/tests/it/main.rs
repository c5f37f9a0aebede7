//! The model's operations against PyTorch's and MLX's own. One program, because each one links all of MLX.

mod operations;
mod quantize;
