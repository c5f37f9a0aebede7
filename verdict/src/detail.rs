//! What the two tensors of a tap look like, in little room: statistics of both, how the error is spread, and where it lies.
//!
//! ```text
//! reference, candidate → Stats, Stats      |c − r| → Histogram (by decade)      |c − r| → Heatmap (two axes, at most 32 × 32)
//! ```
//!
//! Kept only of taps that are worth a look: the first that are beyond their measured tolerance, and the worst few of each
//! part of the model. What is worth it is decided by [`worth`] from the taps alone, never from a lockfile, so that shards
//! joined keep what one run keeps.

use serde::{Deserialize, Serialize};

use crate::metrics::{Element, Reference};
use crate::nonfinite;

mod heatmap;
mod keep;

pub use heatmap::{Heatmap, MAX_SIDE};
pub use keep::{Keeper, keep};

/// Bins of a [`Histogram`] for each power of ten.
pub const BINS_PER_DECADE: i32 = 2;
/// The smallest power of ten that a histogram tells apart, relative to the reference's RMS.
pub const LOWEST_DECADE: i32 = -12;
/// The largest.
pub const HIGHEST_DECADE: i32 = 4;

/// A tensor in a few numbers, over its finite elements.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// The smallest; NaN if there is no finite element.
    #[serde(with = "nonfinite")]
    pub min: f64,
    /// The largest.
    #[serde(with = "nonfinite")]
    pub max: f64,
    /// The mean.
    #[serde(with = "nonfinite")]
    pub mean: f64,
    /// The standard deviation.
    #[serde(with = "nonfinite")]
    pub std: f64,
    /// Elements that are exactly zero.
    pub zeros: usize,
    /// NaN and Inf.
    pub nonfinite: usize,
}

/// How many elements are off by how much, relative to the reference's RMS, by half powers of ten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// Elements that are equal.
    pub exact: usize,
    /// Elements that are not finite on either side, or of a reference whose RMS is 0.
    pub unmeasured: usize,
    /// The power of ten at which the first bin begins, in halves: `-14` is 10⁻⁷.
    pub first_half_decade: i32,
    /// Elements in each bin, the next half power of ten each; neither the first nor the last is empty.
    pub counts: Vec<usize>,
}

/// What the two tensors of a tap look like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    /// Of what the tap was compared with.
    pub reference: Stats,
    /// Of what the port computed.
    pub candidate: Stats,
    /// How the error is spread.
    pub histogram: Histogram,
    /// Where it lies; none of a sample, whose elements have no neighbours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heatmap: Option<Heatmap>,
}

impl Detail {
    /// What `reference` and `candidate`, row-major of one `shape`, look like. A sample has no shape: then there is no heatmap.
    #[must_use]
    pub fn of<C: Element>(shape: Option<&[usize]>, reference: Reference<'_>, candidate: &[C]) -> Self {
        match reference {
            Reference::F32(values) => Self::over(shape, values, candidate),
            Reference::F64(values) => Self::over(shape, values, candidate),
        }
    }

    fn over<R: Element, C: Element>(shape: Option<&[usize]>, reference: &[R], candidate: &[C]) -> Self {
        let reference_stats = Stats::of(reference.iter().map(|value| value.widen()));
        let error = |at: usize| (candidate[at].widen() - reference[at].widen()).abs();
        let count = reference.len().min(candidate.len());
        Self {
            candidate: Stats::of(candidate.iter().map(|value| value.widen())),
            histogram: Histogram::of((0..count).map(error), reference_stats.rms()),
            heatmap: shape.and_then(|shape| Heatmap::of(shape, count, error)),
            reference: reference_stats,
        }
    }

    /// What in it cannot be, of a tensor of `numel` elements that were compared and of `shape`.
    pub(crate) fn violations(&self, shape: &[usize], numel: usize) -> Vec<String> {
        let heatmap = self.heatmap.iter().filter_map(|heatmap| heatmap.violations(shape));
        self.histogram.violations(numel).into_iter().chain(heatmap).collect()
    }
}

impl Stats {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        let (mut count, mut zeros, mut nonfinite) = (0_usize, 0, 0);
        // Welford's: no sum of squares that cancels.
        let (mut mean, mut spread) = (0.0, 0.0);
        for value in values {
            if !value.is_finite() {
                nonfinite += 1;
                continue;
            }
            count += 1;
            zeros += usize::from(value == 0.0);
            (min, max) = (value.min(min), value.max(max));
            let before = value - mean;
            mean += before / count as f64;
            spread += before * (value - mean);
        }
        if count == 0 {
            return Self { min: f64::NAN, max: f64::NAN, mean: f64::NAN, std: f64::NAN, zeros, nonfinite };
        }
        Self { min, max, mean, std: (spread / count as f64).sqrt(), zeros, nonfinite }
    }

    fn rms(&self) -> f64 {
        self.mean.hypot(self.std)
    }
}

impl Histogram {
    fn of(errors: impl Iterator<Item = f64>, unit: f64) -> Self {
        const BINS: usize = ((HIGHEST_DECADE - LOWEST_DECADE) * BINS_PER_DECADE) as usize;
        let (mut exact, mut unmeasured, mut counts) = (0, 0, [0_usize; BINS]);
        for error in errors {
            let relative = error / unit;
            if error == 0.0 {
                exact += 1;
            } else if !relative.is_finite() {
                unmeasured += 1;
            } else {
                let place = (relative.log10() - f64::from(LOWEST_DECADE)) * f64::from(BINS_PER_DECADE);
                counts[(place.max(0.0) as usize).min(BINS - 1)] += 1;
            }
        }
        let first = counts.iter().position(|count| *count > 0).unwrap_or(0);
        let last = counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        Self {
            exact,
            unmeasured,
            first_half_decade: LOWEST_DECADE * BINS_PER_DECADE + first as i32,
            counts: counts[first.min(last)..last].to_vec(),
        }
    }

    fn violations(&self, numel: usize) -> Option<String> {
        let bins = (HIGHEST_DECADE - LOWEST_DECADE) * BINS_PER_DECADE;
        let at = i64::from(self.first_half_decade) - i64::from(LOWEST_DECADE * BINS_PER_DECADE);
        let fits = at >= 0 && self.counts.len() as i64 + at <= i64::from(bins);
        let all = self.counts.iter().chain([&self.exact, &self.unmeasured]).try_fold(0_usize, |n, c| n.checked_add(*c));
        if fits && all == Some(numel) {
            return None;
        }
        Some(format!("a histogram of {} bins over {all:?} elements, of which {numel} were compared", self.counts.len()))
    }
}

#[cfg(test)]
mod tests;
