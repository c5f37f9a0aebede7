//! How far a candidate tensor is from its reference: every number a verdict rests on.
//!
//! ```text
//! error_rms = √(Σ (c − r)² / n)      rel_rms = error_rms / ref_rms      worst_row = max over rows of ‖c − r‖₂ / ‖r‖₂
//! ```
//!
//! All sums run in f64. A row is the last axis; a row whose own norm is nearly nothing is measured against
//! [`ROW_SHARE`] of what an average row has, or rounding noise on an all-but-zero row would hide the row that matters.

use serde::{Deserialize, Serialize};

use crate::nonfinite;

/// A row counts as at least this share of the tensor's RMS when its relative error is taken.
pub const ROW_SHARE: f64 = 0.01;

/// The reference values, row-major, in the precision that they were recorded in.
#[derive(Clone, Copy, Debug)]
pub enum Reference<'a> {
    /// The float32 recording.
    F32(&'a [f32]),
    /// The float64 run on the same weights and inputs.
    F64(&'a [f64]),
}

impl Reference<'_> {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    /// Whether there is no element at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why two tensors could not be compared; every one of these fails the tap.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompareError {
    /// Nothing to compare: an empty comparison proves nothing.
    #[error("shape {shape:?} has no element: an empty comparison proves nothing")]
    Empty {
        /// The shape given.
        shape: Vec<usize>,
    },
    /// A side has another number of elements than the shape says.
    #[error("shape {shape:?} asks for {} elements, the {side} has {found}",
            expected.map_or("too many".to_owned(), |n| n.to_string()))]
    Length {
        /// The shape given.
        shape: Vec<usize>,
        /// "reference", "candidate" or "margins".
        side: &'static str,
        /// What the shape asks for; none where the product overflows.
        expected: Option<usize>,
        /// What the side has.
        found: usize,
    },
}

/// Non-finite values on either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finite {
    /// NaN and Inf in the reference.
    pub reference_nonfinite: usize,
    /// NaN and Inf in the candidate.
    pub candidate_nonfinite: usize,
    /// Whether both are non-finite at the very same elements.
    pub masks_equal: bool,
}

/// The row (all axes but the last) with the largest relative L2 error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorstRow {
    /// Index over all axes but the last; empty for a vector or a scalar.
    pub row: Vec<usize>,
    /// ‖c − r‖₂ / max(‖r‖₂, [`ROW_SHARE`] · ref_rms · √columns); NaN where the row holds a non-finite value.
    #[serde(with = "nonfinite")]
    pub rel_l2: f64,
}

/// The element that is furthest off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaxAbs {
    /// |c − r|; NaN where an element is not finite.
    #[serde(with = "nonfinite")]
    pub value: f64,
    /// Where: one index per axis. The first non-finite element, if there is any.
    pub coordinate: Vec<usize>,
    /// `value` as a multiple of the reference's RMS.
    #[serde(with = "nonfinite")]
    pub over_ref_rms: f64,
}

/// Everything measured between a reference and a candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Elements compared; never 0.
    pub numel: usize,
    /// Non-finite values.
    pub finite: Finite,
    /// RMS of the reference; NaN if any element of either side is not finite.
    #[serde(with = "nonfinite")]
    pub ref_rms: f64,
    /// RMS of candidate − reference; NaN if any element of either side is not finite.
    #[serde(with = "nonfinite")]
    pub error_rms: f64,
    /// `error_rms / ref_rms`: the error that the tolerance judges. 0 when both are 0, Inf when only the reference is, NaN as above.
    #[serde(with = "nonfinite")]
    pub rel_rms: f64,
    /// The row that is worst.
    pub worst_row: WorstRow,
    /// The element that is worst.
    pub max_abs: MaxAbs,
}

impl Metrics {
    /// Whether every element of both sides is finite.
    #[must_use]
    pub fn all_finite(&self) -> bool {
        self.finite.reference_nonfinite == 0 && self.finite.candidate_nonfinite == 0
    }
}

/// Compares two tensors of one shape (row-major).
///
/// # Errors
/// [`CompareError`] when the shape has no element or a side has another length than the shape.
pub fn compare<C: Element>(
    shape: &[usize],
    reference: Reference<'_>,
    candidate: &[C],
) -> Result<Metrics, CompareError> {
    let numel = checked_numel(shape, reference.len(), "reference")?;
    checked_numel(shape, candidate.len(), "candidate")?;
    let columns = shape.last().copied().unwrap_or(1);
    let scan = match reference {
        Reference::F32(values) => Scan::over(values, candidate, columns),
        Reference::F64(values) => Scan::over(values, candidate, columns),
    };
    Ok(scan.into_metrics(shape, numel, columns))
}

/// The number of elements of `shape`, if it is not 0 and equals `found`.
pub(crate) fn checked_numel(shape: &[usize], found: usize, side: &'static str) -> Result<usize, CompareError> {
    let expected = shape.iter().try_fold(1_usize, |n, &axis| n.checked_mul(axis));
    if shape.contains(&0) {
        return Err(CompareError::Empty { shape: shape.to_vec() });
    }
    match expected {
        Some(expected) if expected == found => Ok(expected),
        _ => Err(CompareError::Length { shape: shape.to_vec(), side, expected, found }),
    }
}

/// Row-major index → one index per axis.
pub(crate) fn unravel(mut index: usize, shape: &[usize]) -> Vec<usize> {
    let mut coordinate = vec![0; shape.len()];
    for (place, &axis) in coordinate.iter_mut().zip(shape).rev() {
        *place = index % axis;
        index /= axis;
    }
    coordinate
}

/// An element that can be widened to f64 without loss: f32 or f64.
pub trait Element: Copy {
    /// The same value.
    fn widen(self) -> f64;
}

impl Element for f32 {
    fn widen(self) -> f64 {
        f64::from(self)
    }
}

impl Element for f64 {
    fn widen(self) -> f64 {
        self
    }
}

/// The sums of one row.
#[derive(Clone, Copy)]
struct Row {
    error_square: f64,
    reference_square: f64,
}

/// What one pass over both tensors gathers.
struct Scan {
    rows: Vec<Row>,
    max_abs: f64,
    max_at: usize,
    finite: Finite,
    first_nonfinite: Option<usize>,
}

impl Scan {
    fn over<T: Element, C: Element>(reference: &[T], candidate: &[C], columns: usize) -> Self {
        let mut scan = Self {
            rows: Vec::with_capacity(candidate.len() / columns),
            max_abs: 0.0,
            max_at: 0,
            finite: Finite { reference_nonfinite: 0, candidate_nonfinite: 0, masks_equal: true },
            first_nonfinite: None,
        };
        for (row, (r, c)) in reference.chunks_exact(columns).zip(candidate.chunks_exact(columns)).enumerate() {
            scan.add_row(r, c, row * columns);
        }
        scan
    }

    /// One row; the slow look at single elements happens only where the sums stopped being finite.
    fn add_row<T: Element, C: Element>(&mut self, reference: &[T], candidate: &[C], start: usize) {
        let mut row = Row { error_square: 0.0, reference_square: 0.0 };
        for (column, (&r, &c)) in reference.iter().zip(candidate).enumerate() {
            let r = r.widen();
            let error = c.widen() - r;
            row.error_square += error * error;
            row.reference_square += r * r;
            if error.abs() > self.max_abs {
                self.max_abs = error.abs();
                self.max_at = start + column;
            }
        }
        if !(row.error_square.is_finite() && row.reference_square.is_finite()) {
            self.look_for_nonfinite(reference, candidate, start);
        }
        self.rows.push(row);
    }

    fn look_for_nonfinite<T: Element, C: Element>(&mut self, reference: &[T], candidate: &[C], start: usize) {
        for (column, (&r, &c)) in reference.iter().zip(candidate).enumerate() {
            let (r_bad, c_bad) = (!r.widen().is_finite(), !c.widen().is_finite());
            self.finite.reference_nonfinite += usize::from(r_bad);
            self.finite.candidate_nonfinite += usize::from(c_bad);
            self.finite.masks_equal &= r_bad == c_bad;
            if (r_bad || c_bad) && self.first_nonfinite.is_none() {
                self.first_nonfinite = Some(start + column);
            }
        }
    }

    fn into_metrics(self, shape: &[usize], numel: usize, columns: usize) -> Metrics {
        let row_shape = &shape[..shape.len().saturating_sub(1)];
        if let Some(at) = self.first_nonfinite {
            return Metrics {
                numel,
                finite: self.finite,
                ref_rms: f64::NAN,
                error_rms: f64::NAN,
                rel_rms: f64::NAN,
                worst_row: WorstRow { row: unravel(at / columns, row_shape), rel_l2: f64::NAN },
                max_abs: MaxAbs { value: f64::NAN, coordinate: unravel(at, shape), over_ref_rms: f64::NAN },
            };
        }
        let sum = |part: fn(&Row) -> f64| self.rows.iter().map(part).sum::<f64>();
        let ref_rms = (sum(|row| row.reference_square) / numel as f64).sqrt();
        let error_rms = (sum(|row| row.error_square) / numel as f64).sqrt();
        let (worst, rel_l2) = self.worst_row(ref_rms, columns);
        Metrics {
            numel,
            finite: self.finite,
            ref_rms,
            error_rms,
            rel_rms: self.relative(error_rms, ref_rms),
            worst_row: WorstRow { row: unravel(worst, row_shape), rel_l2 },
            max_abs: MaxAbs {
                value: self.max_abs,
                coordinate: unravel(self.max_at, shape),
                over_ref_rms: self.relative(self.max_abs, ref_rms),
            },
        }
    }

    /// `error / scale`; an exact match is 0 whatever the scale. `max_abs` decides what exact is: squares can underflow to 0.
    fn relative(&self, error: f64, scale: f64) -> f64 {
        if self.max_abs == 0.0 {
            0.0
        } else if scale == 0.0 {
            f64::INFINITY
        } else {
            error / scale
        }
    }

    fn worst_row(&self, ref_rms: f64, columns: usize) -> (usize, f64) {
        let least = ROW_SHARE * ref_rms * (columns as f64).sqrt();
        let mut worst = (0, 0.0);
        for (index, row) in self.rows.iter().enumerate() {
            let relative = self.relative(row.error_square.sqrt(), row.reference_square.sqrt().max(least));
            // A NaN (Inf / Inf on overflow) must win: "not known to be smaller".
            if relative.is_nan() || relative > worst.1 {
                worst = (index, relative);
                if relative.is_nan() {
                    break;
                }
            }
        }
        worst
    }
}

#[cfg(test)]
mod tests;
