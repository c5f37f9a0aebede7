//! The parts that models are made of, each opening with its dataflow in shapes and the upstream code it answers to.

pub mod clip;
pub mod deepseek_v2;
pub mod projector;
pub mod qwen2_encoder;
pub mod rows;
pub mod sam;
