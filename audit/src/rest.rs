//! What is left when neither counts nor rows explain a run: packed and unpacked again, a few directions added, scales of another
//! module, values near another tensor's, or simply other values.

use mlxport_convert::checkpoint::TensorSource;
use mlxport_convert::error::ConvertError;
use mlxport_convert::quantize::{Mode, Quantization};
use mlxport_convert::transforms::{Assembly, Scratch, View};
use safetensors::Dtype;

use crate::expect::Piece;
use crate::search::digest;
use crate::target::{Format, Target, widened};
use crate::verify::{Pair, packed, rounded, stored, values_of, windows};

/// Values that samples are compared on.
const SAMPLE: u64 = 1 << 15;

/// Which quantization a plain tensor has been through, if it has.
///
/// # Errors
/// Where a file cannot be read.
pub fn unpacked_from(pair: &Pair<'_>, target: &Target, piece: &Piece) -> Result<Option<Quantization>, ConvertError> {
    let Format::Plain(dtype) = target.format else { return Ok(None) };
    let row = target.row_len();
    if target.shape.len() < 2 || row < 16 || !mlxport_convert::dtype::is_float(dtype) {
        return Ok(None);
    }
    let count = (SAMPLE / row).max(1).min(piece.len / row) * row;
    let (s, m) = sample(pair, target, piece, count)?;
    for q in every_quantization() {
        if !row.is_multiple_of(u64::from(q.group_size())) {
            continue;
        }
        for values in [Dtype::F32, Dtype::BF16, Dtype::F16] {
            let format = Format::Packed { q, values };
            let Some(parts) = packed(format, stored(values, &s)) else { continue };
            let keys = vec![String::new(); parts.len()];
            let made = Target { name: String::new(), keys, shape: target.shape.clone(), format };
            let back = made.values(&parts, s.len());
            let same = back.iter().zip(&m).filter(|(back, m)| rounded(dtype, **back) == **m).count();
            if same * 50 >= m.len() * 49 {
                return Ok(Some(q));
            }
        }
    }
    Ok(few_levels(&s, &m, row))
}

/// Groups that take no more values than four bits can say, where the release's take more.
fn few_levels(s: &[f32], m: &[f32], row: u64) -> Option<Quantization> {
    let distinct = |values: &[f32]| {
        let mut bits: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
        bits.sort_unstable();
        bits.dedup();
        bits.len()
    };
    for (group, bits) in [(128, 4), (64, 4), (32, 3), (128, 5), (32, 2)] {
        if !row.is_multiple_of(group) {
            continue;
        }
        let few = |values: &[f32]| values.chunks(group as usize).all(|run| distinct(run) <= 1 << bits);
        if few(m) && !few(s) {
            return Quantization::new(Mode::Affine, Some(bits), u32::try_from(group).ok()).ok();
        }
    }
    None
}

fn every_quantization() -> Vec<Quantization> {
    let mut all = Vec::new();
    for bits in [4, 8, 6, 5, 3, 2] {
        for group in [64, 32, 128] {
            all.extend(Quantization::new(Mode::Affine, Some(bits), Some(group)).ok());
        }
    }
    all.extend(
        [Mode::Mxfp4, Mode::Mxfp8, Mode::Nvfp4].iter().filter_map(|&mode| Quantization::new(mode, None, None).ok()),
    );
    all
}

/// The first values of both sides.
fn sample(pair: &Pair<'_>, target: &Target, piece: &Piece, count: u64) -> Result<(Vec<f32>, Vec<f32>), ConvertError> {
    let parts = target.read(pair.mlx, piece.first, count)?;
    let mut raw = vec![0; count as usize * 4];
    piece.assembly.read(pair.release, Dtype::F32, 0, &mut raw, &mut Scratch::default())?;
    Ok((widened(Dtype::F32, &raw), target.values(&parts, count as usize)))
}

/// How many directions hold what was added to a matrix, where they are few: a merged LoRA. `None` where they are not.
///
/// # Errors
/// Where a file cannot be read.
pub fn added_rank(pair: &Pair<'_>, target: &Target, piece: &Piece) -> Result<Option<usize>, ConvertError> {
    let width = target.row_len();
    let height = piece.len / width;
    if target.shape.len() < 2 || height < 16 || width < 16 || height > 1 << 18 {
        return Ok(None);
    }
    for rank in [2, 4, 8, 16, 32, 64] {
        if rank as u64 * 4 > height.min(width) {
            break;
        }
        let columns = rank + 2;
        let mut basis = vec![vec![0.0_f64; height as usize]; columns];
        each_row(pair, target, piece, |row, difference| {
            for (at, vector) in basis.iter_mut().enumerate() {
                vector[row] = difference.iter().enumerate().map(|(i, d)| d * noise(i, at)).sum();
            }
        })?;
        orthonormal(&mut basis);
        let mut inside = vec![vec![0.0_f64; width as usize]; columns];
        let mut all = 0.0;
        each_row(pair, target, piece, |row, difference| {
            all += difference.iter().map(|d| d * d).sum::<f64>();
            for (sums, vector) in inside.iter_mut().zip(&basis) {
                sums.iter_mut().zip(difference).for_each(|(sum, d)| *sum += vector[row] * d);
            }
        })?;
        let kept: f64 = inside.iter().flatten().map(|value| value * value).sum();
        if all > 0.0 && kept > 0.9 * all {
            return Ok(Some(rank));
        }
    }
    Ok(None)
}

fn each_row(
    pair: &Pair<'_>,
    target: &Target,
    piece: &Piece,
    mut visit: impl FnMut(usize, &[f64]),
) -> Result<(), ConvertError> {
    let width = target.row_len();
    let window = (pair.window / width).max(1) * width;
    let mut scratch = Scratch::default();
    for (at, count) in windows(piece.len, window) {
        let parts = target.read(pair.mlx, piece.first + at, count)?;
        let found = target.values(&parts, count as usize);
        let mut raw = vec![0; count as usize * 4];
        piece.assembly.read(pair.release, Dtype::F32, at, &mut raw, &mut scratch)?;
        let values = widened(Dtype::F32, &raw);
        let pairs = found.chunks(width as usize).zip(values.chunks(width as usize));
        for (row, (found, values)) in pairs.enumerate() {
            let difference: Vec<f64> = found.iter().zip(values).map(|(m, s)| f64::from(*m) - f64::from(*s)).collect();
            visit((at / width) as usize + row, &difference);
        }
    }
    Ok(())
}

/// A number between −1 and 1 that looks random, the same in every run.
fn noise(row: usize, column: usize) -> f64 {
    let mut x = (row as u64) << 20 ^ (column as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ x >> 31) as f64 / u64::MAX as f64 * 2.0 - 1.0
}

/// Gram and Schmidt, twice for rounding's sake.
fn orthonormal(basis: &mut [Vec<f64>]) {
    for at in 0..basis.len() {
        for _ in 0..2 {
            for before in 0..at {
                let (head, tail) = basis.split_at_mut(at);
                let dot: f64 = head[before].iter().zip(&tail[0]).map(|(a, b)| a * b).sum();
                tail[0].iter_mut().zip(&head[before]).for_each(|(value, other)| *value -= dot * other);
            }
        }
        let norm = basis[at].iter().map(|value| value * value).sum::<f64>().sqrt();
        basis[at].iter_mut().for_each(|value| *value = if norm > 1e-30 { *value / norm } else { 0.0 });
    }
}

/// Digests of a packed run's codes and of its scales and biases: those that are there, and those MLX would make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Halves {
    /// Codes and scales as they are.
    pub is: ([u8; 16], [u8; 16]),
    /// Codes and scales as they should be.
    pub wanted: ([u8; 16], [u8; 16]),
    /// Whether the scales are those that should be there, moved along by one group.
    pub rolled: bool,
}

/// The digests of a packed piece; `None` where the values cannot be packed, or are too many to hold.
///
/// # Errors
/// Where a file cannot be read.
pub fn halves(pair: &Pair<'_>, target: &Target, piece: &Piece) -> Result<Option<Halves>, ConvertError> {
    if piece.len > 1 << 26 || piece.raw.is_some() || !target.is_packed() {
        return Ok(None);
    }
    let mut scratch = Scratch::default();
    let (mut is, mut wanted) = (vec![Vec::new(); target.keys.len()], vec![Vec::new(); target.keys.len()]);
    for (at, count) in windows(piece.len, pair.window) {
        let parts = target.read(pair.mlx, piece.first + at, count)?;
        let made = pair.wanted(target.format, &piece.assembly, at, count, 0.0, &mut scratch)?;
        let Some(made) = made else { return Ok(None) };
        is.iter_mut().zip(parts).for_each(|(all, part)| all.extend(part));
        wanted.iter_mut().zip(made).for_each(|(all, part)| all.extend(part));
    }
    let size = match target.format {
        Format::Packed { q, values } if q.has_biases() => values.bitsize() / 8,
        _ => 1,
    };
    let of = |parts: &[Vec<u8>]| {
        let scales: Vec<&[u8]> = parts[1..].iter().map(Vec::as_slice).collect();
        (digest(&[&parts[0]]), digest(&scales))
    };
    let rolled = (1..is.len()).any(|at| is[at] != wanted[at] && moved_along(&is[at], &wanted[at], size));
    Ok(Some(Halves { is: of(&is), wanted: of(&wanted), rolled }))
}

/// Whether most entries are their neighbour's.
fn moved_along(is: &[u8], wanted: &[u8], size: usize) -> bool {
    let (is, wanted): (Vec<&[u8]>, Vec<&[u8]>) = (is.chunks(size).collect(), wanted.chunks(size).collect());
    let same = |shift: usize| is[shift..].iter().zip(&wanted).filter(|(a, b)| a == b).count();
    let back = |shift: usize| is.iter().zip(&wanted[shift..]).filter(|(a, b)| a == b).count();
    is.len() > 3 && same(1).max(back(1)) * 10 >= (is.len() - 1) * 4 && is != wanted
}

/// The release's tensor, or view of one, whose values are nearest, where they are near: its key, whether it is turned, the correlation.
///
/// # Errors
/// Where a file cannot be read.
pub fn nearest(
    pair: &Pair<'_>,
    target: &Target,
    first: u64,
    len: u64,
) -> Result<Option<(String, bool, f64)>, ConvertError> {
    let row = target.row_len().min(len);
    if len < 64 || values_of(target.format).bitsize() < 16 {
        return Ok(None);
    }
    let count = (SAMPLE / row).max(1).min(len / row) * row;
    let parts = target.read(pair.mlx, first, count)?;
    let found = target.values(&parts, count as usize);
    let mut best: Option<(String, bool, f64)> = None;
    let mut scratch = Scratch::default();
    for (key, info) in pair.release.tensors() {
        if !crate::verify::convertible(info.dtype) || info.shape.iter().product::<u64>() != len {
            continue;
        }
        let view = View::stored(key, info.dtype, &info.shape, &info.strides);
        let rank = info.shape.len();
        let mut views = vec![(false, view.clone())];
        if rank >= 2 {
            let order: Vec<usize> = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
            views.push((true, view.permuted(&order)));
        }
        for (turned, view) in views {
            if view.axes.last().is_some_and(|axis| axis.len != row) {
                continue;
            }
            let mut raw = vec![0; count as usize * 4];
            Assembly::of(view).read(pair.release, Dtype::F32, 0, &mut raw, &mut scratch)?;
            let near = correlation(&widened(Dtype::F32, &raw), &found);
            if near > best.as_ref().map_or(0.9, |best| best.2) {
                best = Some((key.clone(), turned, near));
            }
        }
    }
    Ok(best)
}

/// The correlation of two runs of values.
pub fn correlation(one: &[f32], other: &[f32]) -> f64 {
    let n = one.len().max(1) as f64;
    let mean = |values: &[f32]| values.iter().map(|value| f64::from(*value)).sum::<f64>() / n;
    let (a, b) = (mean(one), mean(other));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in one.iter().zip(other) {
        let (x, y) = (f64::from(*x) - a, f64::from(*y) - b);
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    if aa > 0.0 && bb > 0.0 { ab / (aa * bb).sqrt() } else { 0.0 }
}
