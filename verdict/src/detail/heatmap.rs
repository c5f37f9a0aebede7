//! Where the error lies: |candidate − reference| over the two axes that tell most, pooled to at most 32 × 32 cells.
//!
//! An axis tells much where the squared error is spread unevenly along it. Measured in nats against an even spread: 0 where
//! every index of the axis has the same share, ln(length) where one has it all.

use serde::{Deserialize, Serialize};

use crate::nonfinite;

/// The most cells along an axis.
pub const MAX_SIDE: usize = 32;

/// |candidate − reference| over two axes, the largest of each cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heatmap {
    /// The axes, rows then columns; one where the tensor has only one axis longer than 1 (then there is one row).
    pub axes: Vec<usize>,
    /// The largest |candidate − reference|; NaN where there is one that is not finite.
    #[serde(with = "nonfinite")]
    pub max: f64,
    /// One text per row, two hexadecimal digits per cell: the largest of the cell in 255ths of `max`, rounded up. What is not
    /// finite is `ff`.
    pub rows: Vec<String>,
    /// The cell of the worst element: row, column.
    pub worst: [usize; 2],
}

impl Heatmap {
    /// The heatmap of `error(index)` over a row-major tensor of `shape`; none where there is only one element.
    pub(super) fn of(shape: &[usize], count: usize, error: impl Fn(usize) -> f64) -> Option<Self> {
        if count < 2 || shape.iter().try_fold(1_usize, |n, &axis| n.checked_mul(axis)) != Some(count) {
            return None;
        }
        let axes = telling(shape, count, &error);
        let (rows, columns) = match axes[..] {
            [row, column] => (cells(shape[row]), cells(shape[column])),
            [column] => (1, cells(shape[column])),
            _ => return None,
        };
        let (mut grid, mut max, mut worst) = (vec![0.0_f64; rows * columns], 0.0_f64, [0, 0]);
        let mut seen_nonfinite = false;
        let cell_of = cell_finder(shape, &axes);
        for at in 0..count {
            let value = error(at);
            let (row, column) = cell_of(at);
            let cell = &mut grid[row * columns + column];
            if !value.is_finite() {
                *cell = f64::INFINITY;
                if !seen_nonfinite {
                    (seen_nonfinite, worst) = (true, [row, column]);
                }
                continue;
            }
            *cell = cell.max(value);
            if value > max {
                max = value;
                if !seen_nonfinite {
                    worst = [row, column];
                }
            }
        }
        let level = |value: &f64| if *value > 0.0 { (value / max * 255.0).ceil().clamp(1.0, 255.0) as u8 } else { 0 };
        let rows = grid.chunks(columns).map(|row| row.iter().map(|v| format!("{:02x}", level(v))).collect()).collect();
        Some(Self { axes, max: if seen_nonfinite { f64::NAN } else { max }, rows, worst })
    }

    /// The levels, row by row; nothing where a text is no row.
    #[must_use]
    pub fn levels(&self) -> Option<Vec<Vec<u8>>> {
        let row = |text: &String| -> Option<Vec<u8>> {
            let digits: Option<Vec<u8>> =
                text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
            let pairs = digits?;
            (pairs.len().is_multiple_of(2)).then(|| pairs.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect())
        };
        self.rows.iter().map(row).collect()
    }

    pub(super) fn violations(&self, shape: &[usize]) -> Option<String> {
        let side = |axis: &usize| shape.get(*axis).copied().map(cells);
        let expected = match &self.axes[..] {
            [row, column] if row < column => side(row).zip(side(column)),
            [column] => side(column).map(|columns| (1, columns)),
            _ => None,
        };
        let sound = expected.is_some_and(|(rows, columns)| {
            let levels = self.levels().filter(|levels| levels.iter().all(|row| row.len() == columns));
            levels.is_some_and(|levels| levels.len() == rows) && self.worst[0] < rows && self.worst[1] < columns
        });
        (!sound).then(|| format!("a heatmap over axes {:?} that does not fit shape {shape:?}", self.axes))
    }
}

/// How many cells an axis of `len` has.
fn cells(len: usize) -> usize {
    len.min(MAX_SIDE)
}

/// How far apart neighbours along `axis` lie.
fn stride(shape: &[usize], axis: usize) -> usize {
    shape[axis + 1..].iter().product()
}

/// Which cell an element is in.
fn cell_finder(shape: &[usize], axes: &[usize]) -> impl Fn(usize) -> (usize, usize) + use<> {
    let place = |axis: usize| (stride(shape, axis), shape[axis]);
    let along = move |at: usize, (stride, len): (usize, usize)| at / stride % len * cells(len) / len;
    let (row, column) = match axes {
        [row, column] => (place(*row), place(*column)),
        [column] => ((1, 1), place(*column)),
        _ => ((1, 1), (1, 1)),
    };
    move |at| (along(at, row), along(at, column))
}

/// The two axes along which the squared error is least even, in their order; the last ones where it is even everywhere.
fn telling(shape: &[usize], count: usize, error: impl Fn(usize) -> f64) -> Vec<usize> {
    let long: Vec<usize> = (0..shape.len()).filter(|&axis| shape[axis] > 1).collect();
    if long.len() <= 2 {
        return long;
    }
    let places: Vec<(usize, usize)> = long.iter().map(|&axis| (stride(shape, axis), shape[axis])).collect();
    let mut sums: Vec<Vec<f64>> = long.iter().map(|&axis| vec![0.0; cells(shape[axis])]).collect();
    for at in 0..count {
        let square = error(at).powi(2);
        if !square.is_finite() {
            continue;
        }
        for (sums, &(stride, len)) in sums.iter_mut().zip(&places) {
            sums[at / stride % len * cells(len) / len] += square;
        }
    }
    let mut ranked: Vec<(f64, usize)> = sums.iter().map(|sums| unevenness(sums)).zip(long).collect();
    // Of axes that tell the same, the later.
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
    let mut axes: Vec<usize> = ranked.into_iter().take(2).map(|(_, axis)| axis).collect();
    axes.sort_unstable();
    axes
}

/// The relative entropy of the shares against equal ones, in nats.
fn unevenness(sums: &[f64]) -> f64 {
    let all: f64 = sums.iter().sum();
    let shares = sums.iter().map(|sum| sum / all).filter(|share| *share > 0.0);
    let nats: f64 = shares.map(|share| share * (share * sums.len() as f64).ln()).sum();
    if nats.is_finite() { nats } else { 0.0 }
}
