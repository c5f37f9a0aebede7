//! Factors per channel: what AWQ and its kin move from one tensor into the next. Where every factor comes back, the function is kept.

use mlxport_convert::error::ConvertError;
use mlxport_convert::transforms::Scratch;
use safetensors::Dtype;

use crate::expect::Piece;
use crate::target::{Format, Target, widened};
use crate::verify::{Pair, windows};

/// A tensor as the release's, times a factor per row and per column.
#[derive(Debug, Clone)]
pub struct Fold {
    /// One per row (of a vector: one).
    pub rows: Vec<f64>,
    /// One per column.
    pub columns: Vec<f64>,
}

/// Passes in which rows and columns are fitted in turn.
const TURNS: usize = 3;

/// The factors of a piece; `None` where no factors explain it. `ideal` is the relative error that MLX's own quantizer makes.
///
/// # Errors
/// Where a file cannot be read.
pub fn fold(pair: &Pair<'_>, target: &Target, piece: &Piece, ideal: f64) -> Result<Option<Fold>, ConvertError> {
    let width = if target.shape.len() < 2 { piece.len } else { target.row_len() };
    let height = piece.len / width.max(1);
    if width == 0 || height > 1 << 20 || piece.raw.is_some() || !pairable(target) {
        return Ok(None);
    }
    let (mut rows, mut columns) = (vec![1.0; height as usize], vec![1.0; width as usize]);
    let turns = if height > 1 { TURNS } else { 1 };
    for _ in 0..turns {
        let mut sums = vec![(0.0, 0.0); width as usize];
        each(pair, target, piece, width, |row, column, s, m| {
            let s = s * rows[row];
            sums[column].0 += s * m;
            sums[column].1 += s * s;
        })?;
        settle(&mut columns, &sums);
        if height > 1 {
            let mut sums = vec![(0.0, 0.0); height as usize];
            each(pair, target, piece, width, |row, column, s, m| {
                let s = s * columns[column];
                sums[row].0 += s * m;
                sums[row].1 += s * s;
            })?;
            settle(&mut rows, &sums);
        }
    }
    let middle = median(&rows);
    if middle != 0.0 {
        rows.iter_mut().for_each(|row| *row /= middle);
        columns.iter_mut().for_each(|column| *column *= middle);
    }
    let (mut left, mut all) = (0.0, 0.0);
    each(pair, target, piece, width, |row, column, s, m| {
        left += (m - s * rows[row] * columns[column]).powi(2);
        all += m * m;
    })?;
    let relative = if all > 0.0 { (left / all).sqrt() } else { 1.0 };
    let unit = match target.format {
        Format::Plain(Dtype::BF16) => 4e-3,
        Format::Plain(Dtype::F16) => 5e-4,
        Format::Plain(_) => 1e-5,
        Format::Packed { .. } => 1.7 * ideal,
    };
    Ok((relative <= unit).then_some(Fold { rows, columns }))
}

fn pairable(target: &Target) -> bool {
    match target.format {
        Format::Plain(dtype) => mlxport_convert::dtype::is_float(dtype),
        Format::Packed { .. } => true,
    }
}

fn settle(factors: &mut [f64], sums: &[(f64, f64)]) {
    for (factor, (product, square)) in factors.iter_mut().zip(sums) {
        *factor = if *square > 0.0 { product / square } else { 1.0 };
    }
}

/// Every pair of values: row, column, the release's, the one here.
fn each(
    pair: &Pair<'_>,
    target: &Target,
    piece: &Piece,
    width: u64,
    mut visit: impl FnMut(usize, usize, f64, f64),
) -> Result<(), ConvertError> {
    let mut scratch = Scratch::default();
    for (at, count) in windows(piece.len, pair.window) {
        let parts = target.read(pair.mlx, piece.first + at, count)?;
        let found = target.values(&parts, count as usize);
        let mut raw = vec![0; count as usize * 4];
        piece.assembly.read(pair.release, Dtype::F32, at, &mut raw, &mut scratch)?;
        for ((index, s), m) in (at..).zip(widened(Dtype::F32, &raw)).zip(found) {
            visit((index / width) as usize, (index % width) as usize, f64::from(s), f64::from(m));
        }
    }
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(1.0)
}

/// Whether factors differ from one another by more than the error of four-bit codes makes fitted ones differ.
pub fn changes(factors: &[f64]) -> bool {
    let middle = median(factors);
    let square: f64 = factors.iter().map(|factor| (factor / middle - 1.0).powi(2)).sum();
    middle == 0.0 || (square / factors.len().max(1) as f64).sqrt() > 0.05
}

/// Whether each factor of one is undone by the other's.
pub fn undo(one: &[f64], other: &[f64]) -> bool {
    if one.len() != other.len() || one.is_empty() {
        return false;
    }
    // Up to a common factor, which fitting leaves open between rows and columns.
    let products: Vec<f64> = one.iter().zip(other).map(|(a, b)| a * b).collect();
    let middle = median(&products);
    let even = products.iter().filter(|product| (**product / middle - 1.0).abs() < 0.06).count();
    middle > 0.0 && even * 20 >= products.len() * 19
}
