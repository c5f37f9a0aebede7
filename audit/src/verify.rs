//! Whether a run of an MLX target is, bit for bit, what the release's values become: stored, rounded or packed.

use mlxport_convert::checkpoint::Checkpoint;
use mlxport_convert::dtype::is_float;
use mlxport_convert::error::ConvertError;
use mlxport_convert::quantize::quantize;
use mlxport_convert::transforms::{Assembly, Scratch};
use safetensors::Dtype;

use crate::expect::Piece;
use crate::target::{Format, Target};

/// Both sides, and how much is read at a time.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// The MLX side.
    pub mlx: &'a Checkpoint,
    /// The release.
    pub release: &'a Checkpoint,
    /// Values in a window; a multiple of 128.
    pub window: u64,
}

/// A window of a piece: where it begins in the piece, and how many values.
pub fn windows(piece_len: u64, window: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..piece_len).step_by(window.max(1) as usize).map(move |at| (at, window.min(piece_len - at)))
}

/// What packed values were rounded to before.
pub fn values_of(format: Format) -> Dtype {
    match format {
        Format::Plain(dtype) => dtype,
        Format::Packed { values, .. } => values,
    }
}

impl Pair<'_> {
    /// Whether a piece holds, with `shift` added to every value.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn holds(&self, target: &Target, piece: &Piece, shift: f32) -> Result<bool, ConvertError> {
        if let Some(raw) = &piece.raw {
            return self.holds_raw(target, raw);
        }
        if piece.assembly.len() != piece.len {
            return Ok(false);
        }
        let mut scratch = Scratch::default();
        for (at, count) in windows(piece.len, self.window) {
            let parts = target.read(self.mlx, piece.first + at, count)?;
            let Some(wanted) = self.wanted(target.format, &piece.assembly, at, count, shift, &mut scratch)? else {
                return Ok(false);
            };
            if parts != wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The bytes that a run of the release's values becomes in this format; `None` where it cannot.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn wanted(
        &self,
        format: Format,
        assembly: &Assembly,
        at: u64,
        count: u64,
        shift: f32,
        scratch: &mut Scratch,
    ) -> Result<Option<Vec<Vec<u8>>>, ConvertError> {
        let dtype = values_of(format);
        let stored = assembly.views.first().map_or(dtype, |view| view.dtype);
        if stored != dtype && !(convertible(stored) && is_float(dtype)) {
            return Ok(None);
        }
        let mut values = vec![0; count as usize * dtype.bitsize() / 8];
        let summed = (shift != 0.0).then(|| assembly.clone().plus(shift as i32));
        match summed.as_ref().unwrap_or(assembly).read(self.release, dtype, at, &mut values, scratch) {
            Err(ConvertError::Overflow { .. }) => return Ok(None),
            other => other?,
        }
        Ok(packed(format, values))
    }

    fn holds_raw(&self, target: &Target, raw: &[Assembly]) -> Result<bool, ConvertError> {
        let mut scratch = Scratch::default();
        if raw.len() != target.keys.len() {
            return Ok(false);
        }
        let total = target.len();
        for (at, count) in windows(total, self.window) {
            let parts = target.read(self.mlx, at, count)?;
            for (part, assembly) in parts.iter().zip(raw) {
                // Bytes before this window: the part's bytes are proportional to the values.
                let first = at * assembly.len() / total;
                if first + part.len() as u64 > assembly.len() {
                    return Ok(false);
                }
                let mut bytes = vec![0; part.len()];
                assembly.read(self.release, Dtype::U8, first, &mut bytes, &mut scratch)?;
                if &bytes != part {
                    return Ok(false);
                }
            }
        }
        Ok(raw.iter().all(|assembly| !assembly.is_empty()))
    }
}

/// Whether a stored dtype can be read as a float.
pub fn convertible(dtype: Dtype) -> bool {
    is_float(dtype) || matches!(dtype, Dtype::F64 | Dtype::F8_E4M3 | Dtype::F8_E5M2)
}

/// Values (little-endian, of the format's dtype) in a format; `None` where they cannot be packed.
pub fn packed(format: Format, values: Vec<u8>) -> Option<Vec<Vec<u8>>> {
    let Format::Packed { q, values: dtype } = format else { return Some(vec![values]) };
    let count = values.len() * 8 / dtype.bitsize();
    let groups = count / q.group_size() as usize;
    let (scale, bias) = if q.has_biases() { (dtype.bitsize() / 8, dtype.bitsize() / 8) } else { (1, 0) };
    let mut weight = vec![0; count * q.bits() as usize / 8];
    let (mut scales, mut biases) = (vec![0; groups * scale], vec![0; groups * bias]);
    quantize(q, dtype, &values, &mut weight, &mut scales, &mut biases).ok()?;
    let mut parts = vec![weight, scales];
    if q.has_biases() {
        parts.push(biases);
    }
    Some(parts)
}

/// A number as a dtype would hold it.
pub fn rounded(dtype: Dtype, value: f32) -> f32 {
    match dtype {
        Dtype::F16 => half::f16::from_f32(value).to_f32(),
        Dtype::BF16 => half::bf16::from_f32(value).to_f32(),
        _ => value,
    }
}

/// Writes a number as a dtype, little endian.
pub fn store(dtype: Dtype, value: f32, out: &mut [u8]) {
    match dtype {
        Dtype::F16 => out.copy_from_slice(&half::f16::from_f32(value).to_le_bytes()),
        Dtype::BF16 => out.copy_from_slice(&half::bf16::from_f32(value).to_le_bytes()),
        _ => out.copy_from_slice(&value.to_le_bytes()),
    }
}

/// Numbers as bytes of a dtype.
pub fn stored(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    let size = dtype.bitsize() / 8;
    let mut out = vec![0; values.len() * size];
    for (value, out) in values.iter().zip(out.chunks_exact_mut(size)) {
        store(dtype, *value, out);
    }
    out
}
