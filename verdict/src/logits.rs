//! What an error in logits means: how far the distributions are apart, and whether the same tokens would be chosen.

use serde::{Deserialize, Serialize};

use crate::{metrics::Reference, nonfinite};

/// Logits, compared as distributions over the vocabulary, row by row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogitMetrics {
    /// Rows (positions) compared.
    pub rows: usize,
    /// Mean over rows of KL(reference ‖ candidate), in nats.
    #[serde(with = "nonfinite")]
    pub kl_mean: f64,
    /// The largest.
    #[serde(with = "nonfinite")]
    pub kl_max: f64,
    /// Rows whose most likely token is the same.
    pub top1_rows: usize,
    /// Rows whose five most likely tokens are the same, in any order.
    pub top5_rows: usize,
    /// Among rows whose most likely token differs: the largest distance between the reference's first and second logit. A port
    /// that is right disagrees only where this is next to nothing. 0 where all agree.
    #[serde(with = "nonfinite")]
    pub largest_lost_margin: f64,
}

/// Compares rows of `vocabulary` logits (row-major). Nothing where there is no row, lengths differ, or a value is not finite.
#[must_use]
pub fn compare_logits(vocabulary: usize, reference: Reference<'_>, candidate: &[f32]) -> Option<LogitMetrics> {
    let reference: Vec<f64> = match reference {
        Reference::F32(values) => values.iter().map(|&v| f64::from(v)).collect(),
        Reference::F64(values) => values.to_vec(),
    };
    let finite = reference.iter().all(|v| v.is_finite()) && candidate.iter().all(|v| v.is_finite());
    if vocabulary < 2 || reference.is_empty() || reference.len() != candidate.len() || !finite {
        return None;
    }
    if !reference.len().is_multiple_of(vocabulary) {
        return None;
    }
    let mut all =
        LogitMetrics { rows: 0, kl_mean: 0.0, kl_max: 0.0, top1_rows: 0, top5_rows: 0, largest_lost_margin: 0.0 };
    for (want, got) in reference.chunks_exact(vocabulary).zip(candidate.chunks_exact(vocabulary)) {
        let got: Vec<f64> = got.iter().map(|&v| f64::from(v)).collect();
        // Rounding can leave a divergence a hair below 0.
        let kl = divergence(want, &got).max(0.0);
        all.rows += 1;
        all.kl_mean += kl;
        all.kl_max = all.kl_max.max(kl);
        let (best, other) = (top(want, 5), top(&got, 5));
        if best[0] == other[0] {
            all.top1_rows += 1;
        } else {
            all.largest_lost_margin = all.largest_lost_margin.max(want[best[0]] - want[best[1]]);
        }
        let sorted = |mut places: Vec<usize>| {
            places.sort_unstable();
            places
        };
        all.top5_rows += usize::from(sorted(best) == sorted(other));
    }
    all.kl_mean /= all.rows as f64;
    Some(all)
}

/// KL(p ‖ q) of the softmaxes of two rows, in nats.
fn divergence(want: &[f64], got: &[f64]) -> f64 {
    let log_sum = |row: &[f64]| {
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        largest + row.iter().map(|v| (v - largest).exp()).sum::<f64>().ln()
    };
    let (p, q) = (log_sum(want), log_sum(got));
    want.iter().zip(got).map(|(w, g)| (w - p).exp() * ((w - p) - (g - q))).sum()
}

/// Places of the `count` largest, largest first; of equal ones the first.
fn top(row: &[f64], count: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..row.len()).collect();
    let count = count.min(row.len());
    let order = |a: &usize, b: &usize| row[*b].total_cmp(&row[*a]).then(a.cmp(b));
    places.select_nth_unstable_by(count - 1, order);
    places.truncate(count);
    places.sort_by(order);
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_logits_agree_and_a_constant_on_top_changes_nothing() {
        let want = [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0, -1.0, 9.0, 3.5, 2.5, 1.5];
        let got: Vec<f32> = want.iter().map(|v| v + 8.0).collect();
        let metrics = compare_logits(6, Reference::F32(&want), &got).expect("comparable");
        assert_eq!((metrics.rows, metrics.top1_rows, metrics.top5_rows), (2, 2, 2));
        assert!(metrics.kl_max < 1e-12 && metrics.largest_lost_margin == 0.0, "{metrics:?}");
    }

    #[test]
    fn divergence_is_that_of_two_coins() {
        // p = (3/4, 1/4), q = (1/2, 1/2): KL = 3/4 ln(3/2) + 1/4 ln(1/2).
        let metrics = compare_logits(2, Reference::F64(&[3.0_f64.ln(), 0.0]), &[0.0, 0.0]).expect("comparable");
        let expected = 0.75 * 1.5_f64.ln() + 0.25 * 0.5_f64.ln();
        assert!((metrics.kl_mean - expected).abs() < 1e-12, "{metrics:?}");
    }

    #[test]
    fn a_lost_first_place_says_by_how_much_it_was_first() {
        let metrics = compare_logits(3, Reference::F32(&[1.0, 1.25, 0.0]), &[1.5, 1.25, 0.0]).expect("comparable");
        assert_eq!((metrics.top1_rows, metrics.top5_rows, metrics.largest_lost_margin), (0, 1, 0.25));
    }

    #[test]
    fn what_cannot_be_compared_is_not() {
        for (vocabulary, want, got) in [
            (2, vec![1.0], vec![1.0]),
            (2, vec![], vec![]),
            (1, vec![1.0], vec![1.0]),
            (2, vec![1.0, 2.0], vec![f32::NAN, 1.0]),
        ] {
            assert_eq!(compare_logits(vocabulary, Reference::F32(&want), &got), None);
        }
    }
}
