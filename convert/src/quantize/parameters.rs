//! Which quantizations there are, and the shapes and dtypes of what they make.

use std::fmt;
use std::str::FromStr;

use safetensors::Dtype;
use serde::Serialize;

/// How a group of weights becomes codes; named as MLX names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Integers on an even grid, `code × scale + bias`.
    #[default]
    Affine,
    /// E2M1 under a power of two (E8M0) per 32.
    Mxfp4,
    /// E4M3 under a power of two (E8M0) per 32.
    Mxfp8,
    /// E2M1 under an E4M3 scale per 16, without the tensor-wide scale that MLX can add.
    Nvfp4,
}

impl Mode {
    const ALL: [Self; 4] = [Self::Affine, Self::Mxfp4, Self::Mxfp8, Self::Nvfp4];

    /// Bits and group sizes it can have; the default is the first.
    fn choices(self) -> (&'static [u32], &'static [u32]) {
        match self {
            Self::Affine => (&[4, 2, 3, 5, 6, 8], &[64, 32, 128]),
            Self::Mxfp4 => (&[4], &[32]),
            Self::Mxfp8 => (&[8], &[32]),
            Self::Nvfp4 => (&[4], &[16]),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Affine => "affine",
            Self::Mxfp4 => "mxfp4",
            Self::Mxfp8 => "mxfp8",
            Self::Nvfp4 => "nvfp4",
        })
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|mode| mode.to_string() == text);
        known.ok_or_else(|| format!("`{text}` is no quantization mode: expected affine, mxfp4, mxfp8 or nvfp4"))
    }
}

/// A mode with bits and group size that MLX has for it. Serialized as MLX tools write it into `config.json`:
/// `{"group_size": 64, "bits": 4, "mode": "affine"}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Quantization {
    group_size: u32,
    bits: u32,
    mode: Mode,
}

impl Quantization {
    /// What is not given is MLX's default: affine 4 bits in groups of 64, mxfp4 4/32, mxfp8 8/32, nvfp4 4/16.
    ///
    /// # Errors
    /// Bits or a group size that MLX does not have for this mode, with those it has; both at once where both are wrong.
    pub fn new(mode: Mode, bits: Option<u32>, group_size: Option<u32>) -> Result<Self, String> {
        let (all_bits, groups) = mode.choices();
        let (bits, group_size) = (bits.unwrap_or(all_bits[0]), group_size.unwrap_or(groups[0]));
        let mut wrong = Vec::new();
        if !all_bits.contains(&bits) {
            wrong.push(format!("{mode} quantization has {} bits, not {bits}", listed(all_bits)));
        }
        if !groups.contains(&group_size) {
            wrong.push(format!("{mode} quantization has groups of {}, not of {group_size}", listed(groups)));
        }
        if wrong.is_empty() { Ok(Self { group_size, bits, mode }) } else { Err(wrong.join("; ")) }
    }

    /// How groups become codes.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Bits per code.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// Elements along the last axis that share a scale.
    pub fn group_size(&self) -> u32 {
        self.group_size
    }

    /// Whether groups have a bias too (affine only).
    pub fn has_biases(&self) -> bool {
        self.mode == Mode::Affine
    }

    /// The shape of the packed codes, in `uint32` words, for weights of `shape`.
    ///
    /// # Errors
    /// Why such weights cannot be quantized: fewer than two axes, no elements, or a last axis that is not whole groups.
    pub fn weight_shape(&self, shape: &[u64]) -> Result<Vec<u64>, String> {
        let group_size = u64::from(self.group_size);
        match shape {
            [] | [_] => Err(format!("only matrices are quantized (two axes or more); it has {}", shape.len())),
            _ if shape.contains(&0) => Err(format!("shape {shape:?} has no elements")),
            [outer @ .., last] if last.is_multiple_of(group_size) => {
                let words_per_group = group_size * u64::from(self.bits) / 32;
                Ok(outer.iter().copied().chain([last / group_size * words_per_group]).collect())
            }
            _ => Err(format!("the last axis of {shape:?} is not a multiple of the group size {group_size}")),
        }
    }

    /// The shape of the scales, and of the biases where there are any: one per group of the last axis.
    pub fn scales_shape(&self, shape: &[u64]) -> Vec<u64> {
        let mut scales = shape.to_vec();
        if let Some(last) = scales.last_mut() {
            *last /= u64::from(self.group_size);
        }
        scales
    }

    /// The dtype of the scales of weights stored as `source`: affine keeps it, the others have one byte (E8M0 or E4M3).
    pub fn scales_dtype(&self, source: Dtype) -> Dtype {
        if self.has_biases() { source } else { Dtype::U8 }
    }
}

/// `2, 4 or 8`, smallest first.
fn listed(numbers: &[u32]) -> String {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    let texts: Vec<String> = sorted.iter().map(u32::to_string).collect();
    match texts.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}
