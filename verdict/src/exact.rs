//! Integers are compared exactly: token ids, position ids, masks.

use serde::{Deserialize, Serialize};

use crate::metrics::{CompareError, checked_numel, unravel};

/// How many differences are kept for people to look at.
pub const SHOWN: usize = 8;

/// The outcome of an exact comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exact {
    /// Elements compared; never 0.
    pub numel: usize,
    /// Elements that differ.
    pub differing: usize,
    /// The first few differences.
    pub first: Vec<ExactDifference>,
}

/// One element that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExactDifference {
    /// One index per axis.
    pub coordinate: Vec<usize>,
    /// What was recorded.
    pub reference: i64,
    /// What the port gave.
    pub candidate: i64,
}

impl Exact {
    /// Whether all elements are equal, of which there is at least one.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.numel > 0 && self.differing == 0
    }
}

/// Compares two integer tensors of one shape (row-major), element by element.
///
/// # Errors
/// [`CompareError`] when the shape has no element or a side has another length than the shape.
pub fn compare_exact(shape: &[usize], reference: &[i64], candidate: &[i64]) -> Result<Exact, CompareError> {
    let numel = checked_numel(shape, reference.len(), "reference")?;
    checked_numel(shape, candidate.len(), "candidate")?;
    let mut exact = Exact { numel, differing: 0, first: Vec::new() };
    for (index, (&r, &c)) in reference.iter().zip(candidate).enumerate() {
        if r == c {
            continue;
        }
        exact.differing += 1;
        if exact.first.len() < SHOWN {
            exact.first.push(ExactDifference { coordinate: unravel(index, shape), reference: r, candidate: c });
        }
    }
    Ok(exact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_counts_and_the_first_are_shown() {
        let reference: Vec<i64> = (0..20).collect();
        assert!(compare_exact(&[4, 5], &reference, &reference).expect("comparable").passes());
        let mut candidate = reference.clone();
        candidate[7] = -1;
        let exact = compare_exact(&[4, 5], &reference, &candidate).expect("comparable");
        assert!(!exact.passes());
        let only = ExactDifference { coordinate: vec![1, 2], reference: 7, candidate: -1 };
        assert_eq!((exact.differing, exact.first), (1, vec![only]));
        let shifted: Vec<i64> = (1..21).collect();
        let exact = compare_exact(&[20], &reference, &shifted).expect("comparable");
        assert_eq!((exact.differing, exact.first.len()), (20, SHOWN));
    }

    #[test]
    fn empty_and_unequal_lengths_are_errors() {
        assert!(matches!(compare_exact(&[0], &[], &[]), Err(CompareError::Empty { .. })));
        assert!(matches!(compare_exact(&[2], &[1, 2], &[1]), Err(CompareError::Length { .. })));
        assert!(!Exact { numel: 0, differing: 0, first: vec![] }.passes());
    }
}
