//! The tolerance: calibrated, not chosen.
//!
//! ```text
//! floor = max(torch, runtime, ulp)      tolerance = K · floor      pass ⇔ error <= tolerance
//! ```

use serde::{Deserialize, Serialize};

use crate::nonfinite;

/// How many floors an honest port may be off.
///
/// Two correct float32 runs sum in different orders: each is about one floor from the float64 truth, with errors that do not
/// depend on each other, so one measured against the other is about √2 floors off. A floor is itself the RMS of one sample and
/// wavers by tens of per cent from input to input and from kernel to kernel. 4 covers these together. It costs nothing in
/// sharpness: the faults that real ports of this model had are off by per cents, where the floor is a few parts in a million.
pub const K: f64 = 4.0;

/// What a run computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Precision {
    /// float32: where faults are found.
    F32,
    /// bfloat16: what the model is used in.
    Bf16,
}

impl Precision {
    /// The name in an [`Environment`](crate::Environment): `f32`, `bf16`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// The one of this name, if there is one.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        [Self::F32, Self::Bf16].into_iter().find(|precision| precision.name() == name)
    }

    /// From 1 to the next number: 2⁻²³ or 2⁻⁷.
    #[must_use]
    pub fn epsilon(self) -> f64 {
        match self {
            Self::F32 => f64::from(f32::EPSILON),
            Self::Bf16 => f64::from(f32::EPSILON) * 65536.0,
        }
    }
}

/// The measured floors of one tap, all as relative RMS (error RMS ÷ reference RMS).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Floors {
    /// What PyTorch itself, in the run's dtype, is off from float64 at this tap (the larger of its kernels, where two are
    /// recorded).
    #[serde(with = "nonfinite")]
    pub torch: f64,
    /// What the runtime's own kernels are off from float64 on this device, measured on bare operations.
    #[serde(with = "nonfinite")]
    pub runtime: f64,
    /// One ulp of the reference RMS in the run's dtype: see [`ulp_floor`].
    #[serde(with = "nonfinite")]
    pub ulp: f64,
}

impl Floors {
    /// The largest of the three; NaN when any of them is negative, infinite or NaN, so that nothing passes under it.
    #[must_use]
    pub fn largest(&self) -> f64 {
        let all = [self.torch, self.runtime, self.ulp];
        if all.iter().all(|floor| floor.is_finite() && *floor >= 0.0) {
            all.into_iter().fold(0.0, f64::max)
        } else {
            f64::NAN
        }
    }
}

/// What a tap may be off by, as relative RMS.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tolerance {
    /// The largest floor.
    #[serde(with = "nonfinite")]
    pub floor: f64,
    /// The multiple allowed.
    #[serde(with = "nonfinite")]
    pub k: f64,
    /// `k · floor`; NaN (nothing passes) when a floor or `k` makes no sense.
    #[serde(with = "nonfinite")]
    pub value: f64,
}

impl Tolerance {
    /// The tolerance that follows from `floors`, `k` times the largest. `k` must be finite and positive or nothing passes.
    #[must_use]
    pub fn new(floors: &Floors, k: f64) -> Self {
        let floor = floors.largest();
        let value = k * floor;
        let sound = k.is_finite() && k > 0.0 && value.is_finite();
        Self { floor, k, value: if sound { value } else { f64::NAN } }
    }

    /// Whether a relative RMS error is within the tolerance. NaN on either side is not.
    #[must_use]
    pub fn passes(&self, error: f64) -> bool {
        error <= self.value
    }
}

/// One ulp of `ref_rms`, relative to it: between half of [`Precision::epsilon`] and the whole (float32: 2⁻²⁴ and 2⁻²³). For 0
/// (or anything not finite) the whole.
#[must_use]
pub fn ulp_floor(ref_rms: f64, precision: Precision) -> f64 {
    let upper = precision.epsilon();
    if !ref_rms.is_normal() {
        return upper;
    }
    // The exponent alone: the power of two at or below |ref_rms|, exactly and on every platform.
    let power = f64::from_bits(ref_rms.to_bits() & f64::INFINITY.to_bits());
    upper * (power / ref_rms.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floors(torch: f64, runtime: f64, ulp: f64) -> Floors {
        Floors { torch, runtime, ulp }
    }

    #[test]
    fn the_tolerance_is_k_times_the_largest_floor() {
        for all in [floors(3e-6, 1e-6, 1e-7), floors(1e-6, 3e-6, 1e-7), floors(1e-7, 1e-6, 3e-6)] {
            let tolerance = Tolerance::new(&all, K);
            assert_eq!(tolerance.floor, 3e-6);
            assert_eq!(tolerance.value, 4.0 * 3e-6);
            assert!(tolerance.passes(tolerance.value));
            assert!(!tolerance.passes(tolerance.value * (1.0 + f64::EPSILON)));
        }
    }

    #[test]
    fn nan_and_infinite_errors_never_pass() {
        let tolerance = Tolerance::new(&floors(1.0, 1.0, 1.0), 1e300);
        assert!(!tolerance.passes(f64::NAN));
        assert!(!tolerance.passes(f64::INFINITY));
    }

    #[test]
    fn under_a_senseless_floor_or_k_nothing_passes() {
        let sound = floors(1e-6, 1e-6, 1e-7);
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1e-9] {
            for all in [floors(bad, 1e-6, 1e-7), floors(1e-6, bad, 1e-7), floors(1e-6, 1e-6, bad)] {
                assert!(!Tolerance::new(&all, K).passes(0.0), "{all:?}");
            }
        }
        for k in [f64::NAN, f64::INFINITY, 0.0, -4.0] {
            assert!(!Tolerance::new(&sound, k).passes(0.0), "{k}");
        }
        assert!(!Tolerance::new(&floors(1e300, 0.0, 0.0), 1e300).passes(0.0), "the product overflows");
    }

    #[test]
    fn one_ulp_is_between_its_bounds_and_exact_at_known_values() {
        let ulp = f64::from(f32::EPSILON);
        for (rms, expected) in [(1.0, ulp), (2.0, ulp), (1.5, ulp / 1.5), (0.75, ulp / 1.5), (-1.5, ulp / 1.5)] {
            assert_eq!(ulp_floor(rms, Precision::F32), expected, "{rms}");
            assert_eq!(ulp_floor(rms, Precision::Bf16), expected * 65536.0, "{rms}");
        }
        for odd in [0.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE / 2.0] {
            assert_eq!(ulp_floor(odd, Precision::F32), ulp, "{odd}");
        }
        // Against the spacing of float32 itself.
        let rms = 0.123_f32;
        let spacing = f64::from(rms.next_up()) - f64::from(rms);
        assert!((ulp_floor(f64::from(rms), Precision::F32) - spacing / f64::from(rms)).abs() < 1e-20);
    }
}
