//! Weights that are a pure function of a tensor's name: any element can be recomputed anywhere.
//!
//! Element `i` of tensor `name`: SplitMix64 seeded with the first eight bytes of SHA-256(name), its top 24 bits made a float32 in [-1, 1),
//! scaled and offset by the tensor's family, rounded to bfloat16 (nearest even).

use half::bf16;
use sha2::{Digest, Sha256};

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// One tensor's weights.
pub struct Weights {
    seed: u64,
    scale: f32,
    offset: f32,
    is_position: bool,
}

impl Weights {
    pub fn of(name: &str, shape: &[u64]) -> Self {
        let digest = Sha256::digest(name.as_bytes());
        let seed = u64::from_le_bytes(digest[..8].try_into().expect("eight bytes"));
        let (scale, offset) = scale_offset(name, shape);
        Self { seed, scale, offset, is_position: name.ends_with("position_ids") }
    }

    /// Element `index` as float32, before it is rounded.
    pub fn value(&self, index: u64) -> f32 {
        let z = self.seed.wrapping_add((index + 1).wrapping_mul(GOLDEN));
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let z = z ^ (z >> 31);
        let unit = (z >> 40) as f32 * (-23_f32).exp2() - 1.0;
        self.offset + self.scale * unit
    }

    /// Element `index` as stored.
    pub fn bf16(&self, index: u64) -> bf16 {
        assert!(!self.is_position, "position ids are not weights");
        bf16::from_f32(self.value(index))
    }
}

fn scale_offset(name: &str, shape: &[u64]) -> (f32, f32) {
    if shape.len() == 1 {
        return (0.1, if name.ends_with("weight") { 1.0 } else { 0.0 });
    }
    if name.ends_with("rel_pos_h") || name.ends_with("rel_pos_w") {
        return (0.2, 0.0);
    }
    if name.ends_with("pos_embed") || name.ends_with("position_embedding.weight") {
        return (0.3, 0.0);
    }
    if name.ends_with("mlp.gate.weight") {
        return (3_f64.sqrt() as f32 * 0.6, 0.0);
    }
    if name.ends_with("embed_tokens.weight") {
        return (1.0, 0.0);
    }
    let fan_in: u64 = shape[1..].iter().product();
    ((3.0 / fan_in as f64).sqrt() as f32, 0.0)
}
