//! How far off a router's scores must be for two different choices both to be right.
//!
//! A choice that differs is excused only if rounding explains all of it: where PyTorch took expert r and the port took c instead,
//! the difference of their logits is off by at least what the port puts between them. Under group-limited routing the groups
//! are chosen in the same way, by their best expert, before the experts are.

use mlx_rs::Array;

use crate::{error::Result, host};

/// What a router chose by, as it shows it.
#[derive(Debug, Clone)]
pub struct Scores {
    /// Of every expert, \[tokens, experts\]: positive.
    pub experts: Array,
    /// Where groups are limited: the best score of each, \[tokens, groups\]; negative for a group that was left out.
    pub groups: Option<Array>,
}

/// Per token, how far off the logits are at least if `reference` and `candidate` (\[tokens, k\], row-major) are both right, as a
/// share of how far the token's logits spread: 0 where they are the same, infinite where rounding explains nothing, negative
/// where the port did not take what it scored best.
///
/// # Errors
/// MLX's.
pub fn needed_errors(scores: &Scores, k: usize, reference: &[i64], candidate: &[i64]) -> Result<Vec<f64>> {
    let experts = scores.experts.dim(-1) as usize;
    let values = host::floats(&scores.experts)?;
    let groups =
        scores.groups.as_ref().map(|groups| Ok::<_, crate::Error>((groups.dim(-1) as usize, host::floats(groups)?)));
    let groups = groups.transpose()?;
    let rows = values.chunks_exact(experts.max(1)).zip(reference.chunks_exact(k)).zip(candidate.chunks_exact(k));
    let needed = rows.enumerate().map(|(at, ((scores, reference), candidate))| {
        let groups = groups.as_ref().map(|(count, values)| &values[at * count..(at + 1) * count]);
        needed_error(scores, groups, reference, candidate)
    });
    Ok(needed.collect())
}

fn needed_error(scores: &[f32], groups: Option<&[f32]>, reference: &[i64], candidate: &[i64]) -> f64 {
    // A softmax's logits are the logarithms of its scores but for a constant, so differences can be read off the scores.
    let logits: Vec<f64> = scores.iter().map(|&s| f64::from(s).max(f64::MIN_POSITIVE).ln()).collect();
    let without = |of: &[i64], other: &[i64]| -> Vec<usize> {
        of.iter().filter(|e| !other.contains(e)).filter_map(|&e| usize::try_from(e).ok()).collect()
    };
    let (lost, gained) = (without(reference, candidate), without(candidate, reference));
    if lost.is_empty() && gained.is_empty() {
        return 0.0;
    }
    if lost.iter().chain(&gained).any(|&expert| expert >= logits.len()) {
        return f64::INFINITY;
    }
    let most = gained.iter().map(|&e| logits[e]).fold(f64::NEG_INFINITY, f64::max);
    let least = lost.iter().map(|&e| logits[e]).fold(f64::INFINITY, f64::min);
    let gap = match groups {
        Some(groups) if !groups.is_empty() => among_groups(groups, logits.len(), (&lost, gained.len()), most - least),
        _ => most - least,
    };
    let spread = spread(&logits);
    if spread > 0.0 { gap / spread } else { gap }
}

/// The same where the experts of some groups were not to be had. One group may stand in for one other.
fn among_groups(groups: &[f32], experts: usize, (lost, gained): (&[usize], usize), gap: f64) -> f64 {
    let size = (experts / groups.len()).max(1);
    let bests = |kept: bool| groups.iter().filter(move |&&g| (g > 0.0) == kept).map(|&g| f64::from(g.abs()).ln());
    let last_kept = bests(true).fold(f64::INFINITY, f64::min);
    let left_out: Vec<usize> = lost.iter().map(|expert| expert / size).filter(|&g| groups[g] <= 0.0).collect();
    let needed = if left_out.is_empty() {
        last_kept - bests(false).fold(f64::NEG_INFINITY, f64::max)
    } else {
        last_kept - left_out.iter().map(|&g| f64::from(groups[g].abs()).ln()).fold(f64::INFINITY, f64::min)
    };
    let needed = if gained <= size { needed } else { f64::INFINITY };
    // Within the groups that were kept, the experts alone may explain it.
    if left_out.is_empty() && gap >= 0.0 { gap.min(needed) } else { needed }
}

fn spread(logits: &[f64]) -> f64 {
    let count = logits.len().max(1) as f64;
    let mean = logits.iter().sum::<f64>() / count;
    (logits.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / count).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores whose logits are 0, −1, −2 … spread by 1.118 (four of them).
    const FOUR: [f32; 4] = [1.0, 0.367_879_45, 0.135_335_28, 0.049_787_07];

    fn near(found: f64, gap: f64) {
        let spread = 1.25_f64.sqrt();
        assert!((found * spread - gap).abs() < 1e-5, "{found} {gap}");
    }

    #[test]
    fn the_gap_is_that_between_what_was_taken_and_what_was_left_not_that_at_the_boundary() {
        near(needed_error(&FOUR, None, &[0, 1], &[1, 0]), 0.0);
        near(needed_error(&FOUR, None, &[0, 2], &[0, 1]), 1.0);
        near(needed_error(&FOUR, None, &[0, 3], &[0, 1]), 2.0);
        near(needed_error(&FOUR, None, &[2, 3], &[0, 1]), 3.0);
        assert!(needed_error(&FOUR, None, &[0, 1], &[1, 2]) < 0.0, "the best was left out");
        assert_eq!(needed_error(&FOUR, None, &[0, 9], &[0, 1]), f64::INFINITY);
    }

    #[test]
    fn a_group_stands_in_for_one_other_if_their_bests_are_that_close() {
        // Groups of two: the first is kept; the second's best lies 2 below it.
        let groups = [FOUR[0], -FOUR[2]];
        near(needed_error(&FOUR, Some(&groups), &[2, 3], &[0, 1]), 2.0);
        near(needed_error(&FOUR, Some(&groups), &[2], &[0]), 2.0);
        near(needed_error(&FOUR, Some(&groups), &[1], &[0]), 1.0);
        // The second is kept although the first's best is better: no rounding did that.
        assert!(needed_error(&FOUR, Some(&[-FOUR[0], FOUR[2]]), &[0], &[2]) < 0.0);
        // More experts changed than a group has.
        let four = [FOUR[0], FOUR[1], -FOUR[2], -FOUR[3]];
        assert_eq!(needed_error(&FOUR, Some(&four), &[2, 3], &[0, 1]), f64::INFINITY);
    }
}
