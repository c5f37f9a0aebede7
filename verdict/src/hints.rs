//! Usual causes of an error, each tried on the recorded tensors: a hint is given only where undoing its cause makes the
//! candidate the reference, or nearly.
//!
//! Every cause is something that ports get wrong: a transposed or rolled axis, permuted channels, a constant factor, a dropped
//! bias. What a cause leaves of the error says how sure it is.

use serde::{Deserialize, Serialize};

use crate::{
    metrics::{Reference, compare},
    nonfinite,
};

/// Tensors with more elements are not tried: a hint is a help, not a reason to wait.
const MAX_NUMEL: usize = 1 << 24;
/// A cause that leaves more than this share of the error explains nothing.
const MOST_LEFT: f64 = 0.05;
/// How many hints are kept.
const KEPT: usize = 3;

/// From where place `at` of `len` takes its value.
type Source = fn(at: usize, len: usize) -> usize;

/// Orders in which ports read an axis by mistake: what is wrong, and from where place `at` of `len` takes its values to undo it.
const ORDERS: [(&str, Source); 4] = [
    ("is off by one: it comes one too early", |at, len| (at + len - 1) % len),
    ("is off by one: it comes one too late", |at, len| (at + 1) % len),
    ("is reversed", |at, len| len - 1 - at),
    ("has its halves exchanged", |at, len| (at + len / 2) % len),
];

/// One cause that was tried and explains the error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hint {
    /// What is likely wrong, in words.
    pub cause: String,
    /// Relative RMS error that is left when it is undone.
    #[serde(with = "nonfinite")]
    pub error_left: f64,
    /// Whether nothing beyond the tolerance is left.
    pub within_tolerance: bool,
}

/// What explains that `candidate` is not `reference` (both of `shape`, row-major), best first.
#[must_use]
pub fn hints(shape: &[usize], reference: Reference<'_>, candidate: &[f32], tolerance: f64) -> Vec<Hint> {
    let numel = candidate.len();
    if numel == 0 || numel > MAX_NUMEL || candidate.iter().any(|v| !v.is_finite()) {
        return Vec::new();
    }
    let trial = Trial { shape, reference, error: left(shape, reference, candidate), tolerance };
    let mut found = trial.factor(candidate);
    found.extend(trial.bias(candidate));
    found.extend(trial.axes(candidate));
    found.extend(trial.orders(candidate));
    ranked(found)
}

/// Puts the best first and keeps a few.
#[must_use]
pub fn ranked(mut found: Vec<Hint>) -> Vec<Hint> {
    found.sort_by(|a, b| a.error_left.total_cmp(&b.error_left));
    found.truncate(KEPT);
    found
}

/// What `candidate` says of a cause: a hint if it is much closer to the reference than what the port gave, whose relative RMS
/// error is `error`.
#[must_use]
pub fn tried(
    cause: &str,
    shape: &[usize],
    reference: Reference<'_>,
    candidate: &[f32],
    (error, tolerance): (f64, f64),
) -> Option<Hint> {
    let error_left = left(shape, reference, candidate);
    let within_tolerance = error_left <= tolerance;
    let explains = within_tolerance || error_left <= MOST_LEFT * error;
    explains.then(|| Hint { cause: cause.to_owned(), error_left, within_tolerance })
}

fn left(shape: &[usize], reference: Reference<'_>, candidate: &[f32]) -> f64 {
    compare(shape, reference, candidate).map_or(f64::NAN, |metrics| metrics.rel_rms)
}

/// What is tried, and against what.
struct Trial<'a> {
    shape: &'a [usize],
    reference: Reference<'a>,
    error: f64,
    tolerance: f64,
}

impl Trial<'_> {
    fn try_it(&self, cause: &str, candidate: &[f32]) -> Option<Hint> {
        tried(cause, self.shape, self.reference, candidate, (self.error, self.tolerance))
    }

    fn value(&self, at: usize) -> f64 {
        match self.reference {
            Reference::F32(values) => f64::from(values[at]),
            Reference::F64(values) => values[at],
        }
    }

    /// The factor that makes the candidate closest to the reference.
    fn factor(&self, candidate: &[f32]) -> Vec<Hint> {
        let (mut both, mut own) = (0.0, 0.0);
        for (at, &c) in candidate.iter().enumerate() {
            both += f64::from(c) * self.value(at);
            own += f64::from(c).powi(2);
        }
        let factor = both / own;
        if !factor.is_finite() || factor == 0.0 || (factor - 1.0).abs() <= self.tolerance {
            return Vec::new();
        }
        let scaled: Vec<f32> = candidate.iter().map(|&c| (f64::from(c) * factor) as f32).collect();
        let cause = format!("a constant factor: the port's values are {:.6} times PyTorch's", 1.0 / factor);
        self.try_it(&cause, &scaled).into_iter().collect()
    }

    /// One number per channel, which is the last axis, or the second where an image has its channels first.
    fn bias(&self, candidate: &[f32]) -> Vec<Hint> {
        let axes = if self.shape.len() == 4 { vec![1, 3] } else { vec![self.shape.len().saturating_sub(1)] };
        let of_axis = |axis: usize| {
            let channels = *self.shape.get(axis)?;
            let inner: usize = self.shape[axis + 1..].iter().product();
            if channels == 0 || candidate.len() < 4 * channels {
                return None; // Too few rows: any difference would be "a bias".
            }
            let channel = |at: usize| at / inner % channels;
            let mut means = vec![0.0; channels];
            for (at, &c) in candidate.iter().enumerate() {
                means[channel(at)] += self.value(at) - f64::from(c);
            }
            means.iter_mut().for_each(|mean| *mean *= channels as f64 / candidate.len() as f64);
            let moved = |(at, &c): (usize, &f32)| (f64::from(c) + means[channel(at)]) as f32;
            let moved: Vec<f32> = candidate.iter().enumerate().map(moved).collect();
            self.try_it("a bias is missing or wrong: off by one number per channel", &moved)
        };
        axes.into_iter().filter_map(of_axis).take(1).collect()
    }

    /// Two axes of one length exchanged.
    fn axes(&self, candidate: &[f32]) -> Vec<Hint> {
        let mut found = Vec::new();
        for a in 0..self.shape.len() {
            for b in a + 1..self.shape.len() {
                if self.shape[a] == self.shape[b] && self.shape[a] > 1 {
                    let exchanged = exchanged(self.shape, candidate, a, b);
                    found.extend(self.try_it(&format!("axes {a} and {b} are exchanged"), &exchanged));
                }
            }
        }
        found
    }

    /// One axis in another order: rolled by one, reversed, halves exchanged, or permuted.
    fn orders(&self, candidate: &[f32]) -> Vec<Hint> {
        let mut found = Vec::new();
        for (axis, &len) in self.shape.iter().enumerate().filter(|(_, len)| **len > 1) {
            let before = found.len();
            for (what, source) in ORDERS {
                let order: Vec<usize> = (0..len).map(|at| source(at, len)).collect();
                found.extend(
                    self.try_it(&format!("axis {axis} {what}"), &reordered(self.shape, candidate, axis, &order)),
                );
            }
            if found.len() > before {
                continue;
            }
            let Some(order) = self.matching(candidate, axis) else { continue };
            let moved = order.iter().enumerate().filter(|(at, from)| at != *from).count();
            let cause = format!("axis {axis} is permuted: {moved} of {len} places");
            found.extend(self.try_it(&cause, &reordered(self.shape, candidate, axis, &order)));
        }
        found
    }

    /// The order of `axis` that puts slices with equal sums of values and of squares together; nothing where that is the order
    /// there is, or no order.
    fn matching(&self, candidate: &[f32], axis: usize) -> Option<Vec<usize>> {
        let len = self.shape[axis];
        let inner: usize = self.shape[axis + 1..].iter().product();
        let sums = |value: &dyn Fn(usize) -> f64| {
            let mut sums = vec![(0.0, 0.0); len];
            for at in 0..candidate.len() {
                let slice = &mut sums[at / inner % len];
                let v = value(at);
                // The place within the slice counts, so that slices of one distribution differ.
                let weight = 1.0 + ((at / (inner * len) * inner + at % inner) % 61) as f64 / 61.0;
                slice.0 += v * weight;
                slice.1 += v * v * weight;
            }
            let mut order: Vec<usize> = (0..len).collect();
            order.sort_by(|&a, &b| sums[a].0.total_cmp(&sums[b].0).then(sums[a].1.total_cmp(&sums[b].1)));
            order
        };
        let (want, have) = (sums(&|at| self.value(at)), sums(&|at| f64::from(candidate[at])));
        let mut order = vec![0; len];
        want.iter().zip(&have).for_each(|(&to, &from)| order[to] = from);
        order.iter().enumerate().any(|(at, &from)| at != from).then_some(order)
    }
}

/// The values with `axis` taken in `order`: place `at` gets what was at `order[at]`.
fn reordered(shape: &[usize], values: &[f32], axis: usize, order: &[usize]) -> Vec<f32> {
    let (len, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    let from = |at: usize| {
        let (outer, place, rest) = (at / (inner * len), at / inner % len, at % inner);
        values[(outer * len + order[place]) * inner + rest]
    };
    (0..values.len()).map(from).collect()
}

/// The values with two axes of one length exchanged.
fn exchanged(shape: &[usize], values: &[f32], a: usize, b: usize) -> Vec<f32> {
    let stride = |axis: usize| shape[axis + 1..].iter().product::<usize>();
    let (sa, sb) = (stride(a), stride(b));
    let from = |at: usize| {
        let (ia, ib) = (at / sa % shape[a], at / sb % shape[b]);
        at - ia * sa - ib * sb + ib * sa + ia * sb
    };
    (0..values.len()).map(|at| values[from(at)]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHAPE: [usize; 3] = [5, 8, 8];

    fn values() -> Vec<f32> {
        (0..320_u32).map(|at| ((at * at * 7 + 13 * at) % 101) as f32 / 17.0 - 3.0).collect()
    }

    fn best(candidate: &[f32]) -> String {
        let reference = values();
        let found = hints(&SHAPE, Reference::F32(&reference), candidate, 1e-6);
        found.first().map(|hint| hint.cause.clone()).unwrap_or_default()
    }

    #[test]
    fn usual_causes_are_told_apart() {
        let right = values();
        let scaled: Vec<f32> = right.iter().map(|v| v * 0.125).collect();
        assert!(
            best(&scaled).starts_with("a constant factor: the port's values are 0.125000 times"),
            "{}",
            best(&scaled)
        );
        let biased: Vec<f32> = right.iter().enumerate().map(|(at, v)| v + (at % 8) as f32).collect();
        assert!(best(&biased).starts_with("a bias is missing"), "{}", best(&biased));
        assert_eq!(best(&exchanged(&SHAPE, &right, 1, 2)), "axes 1 and 2 are exchanged");
        let late: Vec<usize> = (0..8).map(|at| (at + 7) % 8).collect();
        assert_eq!(best(&reordered(&SHAPE, &right, 1, &late)), "axis 1 is off by one: it comes one too late");
        let reversed: Vec<usize> = (0..8).rev().collect();
        assert_eq!(best(&reordered(&SHAPE, &right, 2, &reversed)), "axis 2 is reversed");
        let swapped = [1, 0, 2, 3, 4, 5, 6, 7];
        assert_eq!(best(&reordered(&SHAPE, &right, 1, &swapped)), "axis 1 is permuted: 2 of 8 places");
    }

    #[test]
    fn what_no_cause_explains_has_no_hint() {
        let right = values();
        let noisy: Vec<f32> = right.iter().enumerate().map(|(at, v)| v + ((at * 31) % 7) as f32 / 7.0).collect();
        assert_eq!(best(&noisy), "");
        assert!(hints(&[0], Reference::F32(&[]), &[], 1.0).is_empty());
        assert!(hints(&[1], Reference::F32(&[1.0]), &[f32::NAN], 1.0).is_empty());
    }

    proptest! {
        #[test]
        fn any_permutation_of_rows_is_found_and_undone(order in Just((0..8_usize).collect::<Vec<_>>()).prop_shuffle()) {
            prop_assume!(order.iter().enumerate().any(|(at, &from)| at != from));
            let right = values();
            let found = hints(&SHAPE, Reference::F32(&right), &reordered(&SHAPE, &right, 1, &order), 1e-6);
            prop_assert!(found.iter().any(|hint| hint.within_tolerance && hint.cause.contains("axis 1")), "{found:?}");
        }
    }
}
