//! How many steps of float32 lie between two values: what a single operation may be off by, element by element.

use serde::{Deserialize, Serialize};

use crate::metrics::Reference;

/// Percentiles of the distance in units in the last place (float32 steps), over all elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulps {
    /// Half of all elements are no further off.
    pub p50: u64,
    /// 99 of 100 are no further off.
    pub p99: u64,
    /// The furthest. Where values cancel to near 0 this says little: a step is small there.
    pub max: u64,
}

/// The percentiles; nothing where nothing is compared, lengths differ, or a value is not finite.
#[must_use]
pub fn ulps(reference: Reference<'_>, candidate: &[f32]) -> Option<Ulps> {
    let wanted = |at: usize| match reference {
        Reference::F32(values) => values.get(at).copied(),
        Reference::F64(values) => values.get(at).map(|&v| v as f32),
    };
    let steps = |(at, &c): (usize, &f32)| Some(place(wanted(at)?)?.abs_diff(place(c)?));
    let mut all = candidate.iter().enumerate().map(steps).collect::<Option<Vec<u64>>>()?;
    all.sort_unstable();
    let last = all.len().checked_sub(1)?;
    let at = |percent: usize| all[(all.len() * percent).div_ceil(100).saturating_sub(1).min(last)];
    Some(Ulps { p50: at(50), p99: at(99), max: all[last] })
}

/// Float32 values in order, as whole numbers: neighbours are one apart, both zeros are 0.
fn place(value: f32) -> Option<i64> {
    let magnitude = i64::from(value.to_bits() & 0x7fff_ffff);
    value.is_finite().then_some(if value.is_sign_negative() { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_over_zero_and_over_powers_of_two() {
        let pairs =
            [(1.0_f32, 1.0_f32), (1.0, 1.0_f32.next_up()), (0.0, -0.0), (2.0_f32.next_down(), 2.0_f32.next_up())];
        let expected = [0, 1, 0, 2];
        for ((want, got), steps) in pairs.into_iter().zip(expected) {
            assert_eq!(ulps(Reference::F32(&[want]), &[got]).map(|u| u.max), Some(steps), "{want} {got}");
        }
        let tiny = f32::from_bits(1);
        assert_eq!(ulps(Reference::F32(&[-tiny]), &[tiny]).map(|u| u.max), Some(2));
    }

    #[test]
    fn percentiles_are_of_the_elements() {
        let want = vec![1.0_f32; 100];
        let mut got = want.clone();
        got[7] = 1.0 + 16.0 * f32::EPSILON;
        assert_eq!(ulps(Reference::F32(&want), &got), Some(Ulps { p50: 0, p99: 0, max: 16 }));
        got[8] = 1.0 + 2.0 * f32::EPSILON;
        assert_eq!(ulps(Reference::F32(&want), &got), Some(Ulps { p50: 0, p99: 2, max: 16 }));
        assert_eq!(ulps(Reference::F32(&[]), &[]), None);
        assert_eq!(ulps(Reference::F32(&[1.0]), &[f32::INFINITY]), None);
        assert_eq!(ulps(Reference::F64(&[1.0]), &[1.0, 2.0]), None);
    }
}
