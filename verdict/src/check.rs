//! A record checked against itself: does everything it claims follow from the numbers it holds?
//!
//! A record that was read from a file may have been edited, truncated and patched, or written by a faulty tool. A tap that says
//! `pass` over a NaN, or a summary that does not follow from the taps, must not be believed.

use crate::growth::factor;
use crate::record::{Status, TapRecord, ratio};
use crate::run::{Run, SCHEMA};
use crate::tolerance::Tolerance;

/// One thing in a record that does not follow from the rest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct Violation {
    /// Which tap, or which part of the record.
    pub place: String,
    /// What was expected and what was found.
    pub message: String,
}

impl Run {
    /// Everything in this record that does not follow from its own numbers; empty when all is well.
    #[must_use]
    pub fn check(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        if self.schema != SCHEMA {
            found.push(violation("schema", format!("expected {SCHEMA}, found {}", self.schema)));
        }
        if self.lock.is_none() && self.taps.iter().any(|tap| tap.locked.is_some()) {
            found.push(violation("lock", "tolerances are locked, yet no lockfile is named".to_owned()));
        }
        for (index, tap) in self.taps.iter().enumerate() {
            for message in tap_violations(tap, self.k) {
                let place = format!("taps[{index}] {} ({})", tap.id(), tap.mode);
                found.push(violation(&place, message));
            }
        }
        let points = self.points();
        let summary = self.summed(points);
        // By their JSON: two NaNs are the same there, and different as floats.
        if serde_json::to_value(&summary).ok() != serde_json::to_value(&self.summary).ok() {
            let message = format!(
                "does not follow from the taps: {:?} recorded, {:?} computed",
                self.summary.verdict, summary.verdict
            );
            found.push(violation("summary", message));
        }
        found
    }
}

fn violation(place: &str, message: String) -> Violation {
    Violation { place: place.to_owned(), message }
}

fn tap_violations(tap: &TapRecord, k: f64) -> Vec<String> {
    let mut found = Vec::new();
    if tap.passed() == tap.failure.is_some() {
        found.push(match &tap.failure {
            Some(failure) => format!("status pass, yet it failed: {failure}"),
            None => "status fail, yet no failure is named".to_owned(),
        });
    }
    if let Some(metrics) = &tap.metrics {
        let numel = tap.shape.iter().try_fold(1_usize, |n, &axis| n.checked_mul(axis));
        let fits = match tap.sampled {
            Some(count) => count == metrics.numel && numel.is_some_and(|numel| count <= numel),
            None => numel == Some(metrics.numel),
        };
        if !fits {
            found.push(format!("{} elements compared of shape {:?}", metrics.numel, tap.shape));
        }
    }
    found.extend(tolerance_violation(tap, k));
    found.extend(growth_violation(tap));
    if let Some(detail) = &tap.detail {
        found.extend(detail.violations(&tap.shape, tap.metrics.as_ref().map_or(0, |metrics| metrics.numel)));
    }
    if tap.status == Status::Pass {
        found.extend(pass_violation(tap));
    }
    found
}

/// The tolerance must be `k` times the largest floor, and the ratio the error over it.
fn tolerance_violation(tap: &TapRecord, k: f64) -> Option<String> {
    let metrics = tap.metrics.as_ref()?;
    let (Some(floors), Some(tolerance)) = (&tap.floors, &tap.tolerance) else {
        return Some("floats were compared without floors or tolerance".to_owned());
    };
    let expected = Tolerance::new(floors, k);
    if let Some(locked) = tap.locked {
        let is_sound = locked.is_finite() && locked >= 0.0;
        if !(is_sound && same(tolerance.value, locked)) {
            return Some(format!("tolerance {:e}, locked {locked:e}", tolerance.value));
        }
    } else if !same(tolerance.value, expected.value) {
        return Some(format!("tolerance {:e}, expected k · floor = {:e}", tolerance.value, expected.value));
    }
    let expected = ratio(metrics.rel_rms, tolerance.value);
    let found = tap.ratio.unwrap_or(f64::NAN);
    (!same(found, expected)).then(|| format!("ratio {found:e}, expected {expected:e}"))
}

/// A growth must be the error over what reached the tap.
fn growth_violation(tap: &TapRecord) -> Option<String> {
    let growth = tap.growth.as_ref()?;
    let (Some(error), Some(tolerance)) = (tap.error(), &tap.tolerance) else {
        return Some("an error grew that was never measured".to_owned());
    };
    let expected = factor(error, growth.inherited, tolerance.floor);
    (!same(growth.factor, expected)).then(|| format!("growth {:e}, expected {expected:e}", growth.factor))
}

/// A pass must rest on a comparison that passes.
fn pass_violation(tap: &TapRecord) -> Option<String> {
    if let (Some(metrics), Some(tolerance)) = (&tap.metrics, &tap.tolerance) {
        let passes = metrics.numel > 0 && metrics.all_finite() && tolerance.passes(metrics.rel_rms);
        return (!passes)
            .then(|| format!("status pass, yet error {:e} against tolerance {:e}", metrics.rel_rms, tolerance.value));
    }
    if let Some(choices) = &tap.choices {
        return (!choices.passes()).then(|| "status pass, yet choices differ".to_owned());
    }
    if let Some(exact) = &tap.exact {
        return (!exact.passes()).then(|| "status pass, yet integers differ".to_owned());
    }
    Some("status pass, yet nothing was compared".to_owned())
}

fn same(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan())
}
