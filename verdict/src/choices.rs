//! Expert choices: per token a set of expert indices, whose order is free.
//!
//! A router takes the k experts with the largest scores. Two correct runs agree, unless the k-th and the k+1-th score are
//! closer than rounding: then either choice is right. Such a row is a *near tie* and is tolerated only if the margin that the
//! caller measured, between every expert that was taken and every one that was left for it, is within the floor that the caller
//! measured.

use serde::{Deserialize, Serialize};

use crate::metrics::{CompareError, checked_numel};
use crate::nonfinite;

/// How many differing rows are kept for people to look at.
pub const SHOWN: usize = 8;

/// What is needed to excuse near ties.
#[derive(Clone, Copy, Debug)]
pub struct Margins<'a> {
    /// Per row: how far off scores must be at least for both choices to be right, in score units. Negative or infinite where
    /// that explains nothing.
    pub per_row: &'a [f64],
    /// The error that scores may have, in the same units. A row is a near tie if `0 <= margin <= floor`.
    pub floor: f64,
}

/// The outcome of comparing choices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choices {
    /// Tokens compared; never 0.
    pub rows: usize,
    /// Experts per token.
    pub k: usize,
    /// Tokens whose sets differ, near ties included.
    pub differing_rows: usize,
    /// Those of them that are tolerated.
    pub near_ties: usize,
    /// The first few differing rows, those that are not tolerated before the near ties.
    pub first: Vec<ChoiceDifference>,
}

/// One token whose experts differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChoiceDifference {
    /// Which row (token).
    pub row: usize,
    /// The experts recorded, ascending.
    pub reference: Vec<i64>,
    /// The experts that the port chose, ascending.
    pub candidate: Vec<i64>,
    /// The row's margin, where one was given.
    #[serde(default, with = "nonfinite::option")]
    pub margin: Option<f64>,
    /// Whether this row is a near tie.
    pub near_tie: bool,
}

impl Choices {
    /// Whether every row agrees or is a near tie, and there is at least one row.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.rows > 0 && self.differing_rows == self.near_ties
    }
}

/// Compares `[rows, k]` expert indices (row-major) as sets per row.
///
/// # Errors
/// [`CompareError`] when there is nothing to compare, or a side (or the margins) has another length.
pub fn compare_sets(
    rows: usize,
    k: usize,
    reference: &[i64],
    candidate: &[i64],
    margins: Option<Margins<'_>>,
) -> Result<Choices, CompareError> {
    checked_numel(&[rows, k], reference.len(), "reference")?;
    checked_numel(&[rows, k], candidate.len(), "candidate")?;
    if let Some(margins) = margins {
        checked_numel(&[rows], margins.per_row.len(), "margins")?;
    }
    let (mut wrong, mut ties) = (Vec::new(), Vec::new());
    let (mut wrong_count, mut tie_count) = (0, 0);
    for (row, (r, c)) in reference.chunks_exact(k).zip(candidate.chunks_exact(k)).enumerate() {
        let Some(difference) = row_difference(row, r, c, margins) else { continue };
        let (kept, count) =
            if difference.near_tie { (&mut ties, &mut tie_count) } else { (&mut wrong, &mut wrong_count) };
        *count += 1;
        if kept.len() < SHOWN {
            kept.push(difference);
        }
    }
    wrong.append(&mut ties);
    wrong.truncate(SHOWN);
    Ok(Choices { rows, k, differing_rows: wrong_count + tie_count, near_ties: tie_count, first: wrong })
}

fn row_difference(
    row: usize,
    reference: &[i64],
    candidate: &[i64],
    margins: Option<Margins<'_>>,
) -> Option<ChoiceDifference> {
    let sorted = |values: &[i64]| {
        let mut values = values.to_vec();
        values.sort_unstable();
        values
    };
    let (reference, candidate) = (sorted(reference), sorted(candidate));
    if reference == candidate {
        return None;
    }
    let margin = margins.map(|margins| margins.per_row[row]);
    let within = margins.zip(margin).is_some_and(|(given, m)| {
        // An infinite floor would excuse everything; NaN compares false.
        given.floor.is_finite() && m >= 0.0 && m <= given.floor
    });
    // An expert chosen twice is never right, however close the scores.
    let repeats = candidate.windows(2).any(|pair| pair[0] == pair[1]);
    let near_tie = within && !repeats;
    Some(ChoiceDifference { row, reference, candidate, margin, near_tie })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one_row(candidate: [i64; 3], margin: f64, floor: f64) -> Choices {
        let margins = Margins { per_row: &[margin], floor };
        compare_sets(1, 3, &[4, 1, 6], &candidate, Some(margins)).expect("comparable")
    }

    #[test]
    fn a_differing_row_fails_and_both_sets_are_shown() {
        let choices = compare_sets(2, 2, &[0, 5, 3, 1], &[5, 0, 2, 3], None).expect("comparable");
        assert!(!choices.passes());
        assert_eq!((choices.differing_rows, choices.near_ties), (1, 0));
        let first = &choices.first[0];
        assert_eq!((first.row, &first.reference[..], &first.candidate[..]), (1, &[1, 3][..], &[2, 3][..]));
        assert_eq!(first.margin, None);
    }

    #[test]
    fn a_near_tie_is_tolerated_up_to_the_floor_and_no_further() {
        assert!(one_row([1, 4, 7], 1e-7, 1e-7).passes());
        assert!(one_row([1, 4, 7], 0.0, 0.0).passes());
        assert!(!one_row([1, 4, 7], 1.1e-7, 1e-7).passes());
    }

    #[test]
    fn what_is_no_tie_is_never_tolerated() {
        assert!(one_row([1, 2, 7], 0.0, 1e-7).passes(), "two experts exchanged, within the floor of both");
        assert!(
            !one_row([1, 2, 7], f64::INFINITY, 1e-7).passes(),
            "two experts exchanged, and rounding does not explain it"
        );
        assert!(!one_row([1, 4, 4], 0.0, 1e-7).passes(), "an expert twice");
        assert!(!one_row([1, 1, 7], 0.0, 1e-7).passes(), "an expert twice, and one exchanged");
        for (margin, floor) in [(f64::NAN, 1.0), (0.0, f64::NAN), (0.0, f64::INFINITY), (-1.0, 1.0)] {
            assert!(!one_row([1, 4, 7], margin, floor).passes(), "{margin} {floor}");
        }
    }

    #[test]
    fn failures_are_shown_before_near_ties() {
        let reference: Vec<i64> = (0..30).map(|_| 1).collect();
        let candidate: Vec<i64> = (0..30).map(|_| 2).collect();
        let mut margins = vec![0.0; 30];
        margins[29] = 1.0;
        let margins = Margins { per_row: &margins, floor: 0.5 };
        let choices = compare_sets(30, 1, &reference, &candidate, Some(margins)).expect("comparable");
        assert_eq!((choices.differing_rows, choices.near_ties, choices.first.len()), (30, 29, SHOWN));
        assert_eq!(choices.first[0].row, 29);
        assert!(!choices.passes());
    }

    #[test]
    fn empty_and_unequal_lengths_are_errors() {
        assert!(matches!(compare_sets(0, 2, &[], &[], None), Err(CompareError::Empty { .. })));
        assert!(matches!(compare_sets(2, 0, &[], &[], None), Err(CompareError::Empty { .. })));
        assert!(compare_sets(1, 2, &[1, 2], &[1], None).is_err());
        let margins = Margins { per_row: &[], floor: 0.0 };
        assert!(compare_sets(1, 1, &[1], &[1], Some(margins)).is_err());
    }

    proptest! {
        #[test]
        fn the_order_within_a_row_is_free(
            (k, sets) in (1_usize..5).prop_flat_map(|k| {
                let row = prop::sample::subsequence((0_i64..8).collect::<Vec<_>>(), k);
                (Just(k), prop::collection::vec((row.clone().prop_shuffle(), row.prop_shuffle()), 1..6))
            })
        ) {
            let rows = sets.len();
            let reference: Vec<i64> = sets.iter().flat_map(|(r, _)| r.clone()).collect();
            let candidate: Vec<i64> = sets.iter().flat_map(|(_, c)| c.clone()).collect();
            let reversed: Vec<i64> = sets.iter().flat_map(|(_, c)| c.iter().rev().copied()).collect();
            let a = compare_sets(rows, k, &reference, &candidate, None).expect("comparable");
            prop_assert_eq!(&a, &compare_sets(rows, k, &reference, &reversed, None).expect("comparable"));
            let as_sets = |values: &[i64]| values.iter().copied().collect::<std::collections::BTreeSet<_>>();
            let differing = sets.iter().filter(|(r, c)| as_sets(r) != as_sets(c)).count();
            prop_assert_eq!(a.differing_rows, differing);
            prop_assert_eq!(a.passes(), differing == 0);
        }
    }
}
