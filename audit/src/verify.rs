//! Whether a run of an MLX target is, bit for bit, what the release's values become: stored, rounded or packed.

use std::cell::RefCell;

use mlxport_convert::checkpoint::Checkpoint;
use mlxport_convert::dtype::is_float;
use mlxport_convert::error::ConvertError;
use mlxport_convert::quantize::quantize;
use mlxport_convert::transforms::{Assembly, Scratch, View};
use rayon::prelude::*;
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

/// Buffers of one thread, kept from window to window: the system clears fresh ones page by page, which takes longer than reading.
#[derive(Default)]
struct Buffers {
    /// What the MLX side holds.
    found: Vec<Vec<u8>>,
    /// The release's values in the target's dtype.
    values: Vec<u8>,
    /// The same, packed.
    wanted: Vec<Vec<u8>>,
    scratch: Scratch,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// Values in a window that is compared and forgotten: all of its buffers lie in a core's own cache.
const CACHED_WINDOW: u64 = 1 << 16;

impl Pair<'_> {
    /// Whether a piece holds, with `shift` added to every value. All of the pool's threads take part.
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
        // Turned axes are read in runs, which are the longer the more rows there are.
        let in_order = piece.assembly.interleave == 1 && piece.assembly.views.iter().all(View::is_contiguous);
        let window = if in_order { self.window.min(CACHED_WINDOW) } else { self.window };
        every_window(piece.len, window, |at, count, buffers| {
            target.read_into(self.mlx, piece.first + at, count, &mut buffers.found)?;
            let Buffers { found, values, wanted, scratch } = buffers;
            if !self.values_into(target.format, &piece.assembly, at, count, shift, values, scratch)? {
                return Ok(false);
            }
            match target.format {
                Format::Plain(_) => Ok(found.len() == 1 && &found[0] == values),
                Format::Packed { .. } => Ok(pack_into(target.format, values, wanted) && found == wanted),
            }
        })
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
        let mut values = Vec::new();
        let can = self.values_into(format, assembly, at, count, shift, &mut values, scratch)?;
        Ok(if can { packed(format, values) } else { None })
    }

    /// Fills `values` with a run of the release's values in the format's dtype; false where they cannot be.
    #[allow(clippy::too_many_arguments, reason = "what is read, as what, and two buffers")]
    fn values_into(
        &self,
        format: Format,
        assembly: &Assembly,
        at: u64,
        count: u64,
        shift: f32,
        values: &mut Vec<u8>,
        scratch: &mut Scratch,
    ) -> Result<bool, ConvertError> {
        let dtype = values_of(format);
        let stored = assembly.views.first().map_or(dtype, |view| view.dtype);
        if stored != dtype && !(convertible(stored) && is_float(dtype)) {
            return Ok(false);
        }
        values.resize(count as usize * dtype.bitsize() / 8, 0);
        let summed = (shift != 0.0).then(|| assembly.clone().plus(shift as i32));
        match summed.as_ref().unwrap_or(assembly).read(self.release, dtype, at, values, scratch) {
            Err(ConvertError::Overflow { .. }) => Ok(false),
            other => other.map(|()| true),
        }
    }

    fn holds_raw(&self, target: &Target, raw: &[Assembly]) -> Result<bool, ConvertError> {
        if raw.len() != target.keys.len() || raw.iter().any(Assembly::is_empty) {
            return Ok(false);
        }
        let total = target.len();
        every_window(total, self.window, |at, count, buffers| {
            let Buffers { found, values, scratch, .. } = buffers;
            target.read_into(self.mlx, at, count, found)?;
            for (part, assembly) in found.iter().zip(raw) {
                // Bytes before this window: the part's bytes are proportional to the values.
                let first = at * assembly.len() / total;
                if first + part.len() as u64 > assembly.len() {
                    return Ok(false);
                }
                values.resize(part.len(), 0);
                assembly.read(self.release, Dtype::U8, first, values, scratch)?;
                if values != part {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }
}

/// Whether every window of `len` values holds; in parallel, and no longer than to the first that does not.
fn every_window(
    len: u64,
    window: u64,
    holds: impl Fn(u64, u64, &mut Buffers) -> Result<bool, ConvertError> + Sync,
) -> Result<bool, ConvertError> {
    let one = |at: u64| {
        let first = at * window;
        match BUFFERS.with_borrow_mut(|buffers| holds(first, window.min(len - first), buffers)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(None),
            Err(error) => Err(Some(error)),
        }
    };
    let count = len.div_ceil(window);
    // What does not hold mostly fails at once: nobody else begins before that is known.
    let first = if count > 0 { one(0) } else { Ok(()) };
    match first.and_then(|()| (1..count).into_par_iter().try_for_each(one)) {
        Ok(()) => Ok(true),
        Err(None) => Ok(false),
        Err(Some(error)) => Err(error),
    }
}

/// Whether a stored dtype can be read as a float.
pub fn convertible(dtype: Dtype) -> bool {
    is_float(dtype) || matches!(dtype, Dtype::F64 | Dtype::F8_E4M3 | Dtype::F8_E5M2)
}

/// Values (little-endian, of the format's dtype) in a format; `None` where they cannot be packed.
pub fn packed(format: Format, values: Vec<u8>) -> Option<Vec<Vec<u8>>> {
    if let Format::Plain(_) = format {
        return Some(vec![values]);
    }
    let mut parts = Vec::new();
    pack_into(format, &values, &mut parts).then_some(parts)
}

/// Fills `parts` with the codes, scales and biases of values; false where they cannot be packed.
fn pack_into(format: Format, values: &[u8], parts: &mut Vec<Vec<u8>>) -> bool {
    let Format::Packed { q, values: dtype } = format else { return false };
    let count = values.len() * 8 / dtype.bitsize();
    let groups = count / q.group_size() as usize;
    let (scale, bias) = if q.has_biases() { (dtype.bitsize() / 8, dtype.bitsize() / 8) } else { (1, 0) };
    parts.resize(if q.has_biases() { 3 } else { 2 }, Vec::new());
    parts[0].resize(count * q.bits() as usize / 8, 0);
    parts[1].resize(groups * scale, 0);
    let (made, biases) = parts.split_at_mut(2);
    let [weight, scales] = made else { return false };
    let mut none = Vec::new();
    let biases = biases.first_mut().unwrap_or(&mut none);
    biases.resize(groups * bias, 0);
    quantize(q, dtype, values, weight, scales, biases).is_ok()
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
