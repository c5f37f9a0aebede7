//! How many elements a second one core quantizes and dequantizes: `cargo run --release -p mlxport-convert --example quantize_speed`.
//!
//! Each figure is the best of many short passes over the same 2¹⁶ made-up weights, which keeps other load out of it.

use std::error::Error;
use std::io::Write;
use std::time::Instant;

use mlxport_convert::quantize::{Mode, Quantization, dequantize, quantize};
use safetensors::Dtype;

const ELEMENTS: usize = 1 << 16;
const PASSES: usize = 200;

/// Weights like a trained layer's: a sum of four uniform numbers, about 0.02 wide.
fn weights(dtype: Dtype) -> Vec<u8> {
    let mut seed = 7_u64;
    let mut uniform = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let values = (0..ELEMENTS).map(|_| (uniform() + uniform() + uniform() + uniform()) * 0.035);
    match dtype {
        Dtype::F32 => values.flat_map(f32::to_le_bytes).collect(),
        Dtype::F16 => values.flat_map(|value| half::f16::from_f32(value).to_le_bytes()).collect(),
        _ => values.flat_map(|value| half::bf16::from_f32(value).to_le_bytes()).collect(),
    }
}

/// The best of all passes, in million elements a second.
fn best(mut pass: impl FnMut()) -> f64 {
    let rates = (0..PASSES).map(|_| {
        let start = Instant::now();
        pass();
        ELEMENTS as f64 / start.elapsed().as_secs_f64() / 1e6
    });
    rates.fold(0.0, f64::max)
}

fn measure(mode: Mode, bits: u32, group_size: u32) -> Result<String, String> {
    let q = Quantization::new(mode, Some(bits), Some(group_size))?;
    let mut lines = String::new();
    for dtype in [Dtype::BF16, Dtype::F16, Dtype::F32] {
        let (mut values, item) = (weights(dtype), dtype.bitsize() / 8);
        let groups = ELEMENTS / group_size as usize;
        let mut weight = vec![0; ELEMENTS * bits as usize / 8];
        let mut scales = vec![0; groups * if q.has_biases() { item } else { 1 }];
        let mut biases = vec![0; groups * if q.has_biases() { item } else { 0 }];
        let mut fine = true;
        let there = best(|| fine &= quantize(q, dtype, &values, &mut weight, &mut scales, &mut biases).is_ok());
        let back = best(|| dequantize(q, dtype, &weight, &scales, &biases, &mut values));
        let failed = if fine { "" } else { " (failed)" };
        lines += &format!(
            "{mode:>6} {bits}/{group_size:<3} {dtype:?}: {there:6.0} M/s quantized, {back:6.0} M/s back{failed}\n"
        );
    }
    Ok(lines)
}

fn main() -> Result<(), Box<dyn Error>> {
    let affine = [(2, 64), (3, 64), (4, 64), (5, 64), (6, 64), (8, 64), (4, 32), (4, 128)];
    let affine = affine.map(|(bits, group_size)| (Mode::Affine, bits, group_size));
    for (mode, bits, group_size) in
        affine.into_iter().chain([(Mode::Mxfp4, 4, 32), (Mode::Mxfp8, 8, 32), (Mode::Nvfp4, 4, 16)])
    {
        std::io::stdout().write_all(measure(mode, bits, group_size)?.as_bytes())?;
    }
    Ok(())
}
