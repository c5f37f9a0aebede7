//! Growth: how much larger a tap's error is than the error that reached it, read off one whole pass.
//!
//! ```text
//! factor = error / max(inherited, floor)
//! ```
//!
//! Two recordings cannot be run, so what a module adds by itself (see [`crate::amplification`]) is not to be had from them. But the
//! error of what went in and of what came out is, and where the second is many times the first, something happens in between.
//! Below the floor of a tap nothing can be told, hence the lower bound: an error that rises from 1e-9 to 1e-7 has not grown.
//!
//! What reached a tap is known where the module's own inputs were recorded: the worst of them. Else it is taken to be the tap
//! before it in execution order that is no part of the module itself; of two branches that meet this names one.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::nonfinite;
use crate::record::{Mode, TapId, TapRecord};

/// How much larger a tap's error is than the one that reached it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// The tap whose error reached this one; none where it is the first.
    #[serde(default)]
    pub from: Option<TapId>,
    /// That tap's error, as relative RMS; 0 for the first.
    #[serde(with = "nonfinite")]
    pub inherited: f64,
    /// error ÷ the larger of `inherited` and the tap's own floor.
    #[serde(with = "nonfinite")]
    pub factor: f64,
}

/// Fills in the growth of every cumulative tap (in execution order) that has an error, all finite.
pub fn fill_growth(taps: &mut [TapRecord]) {
    let growths: Vec<Option<Growth>> = {
        let seen = Seen::new(taps);
        (0..taps.len()).map(|at| seen.growth(at)).collect()
    };
    for (tap, growth) in taps.iter_mut().zip(growths) {
        tap.growth = growth;
    }
}

/// `error` over the larger of `inherited` and `floor`; an exact match has not grown.
pub(crate) fn factor(error: f64, inherited: f64, floor: f64) -> f64 {
    if error == 0.0 { 0.0 } else { error / inherited.max(floor) }
}

struct Seen<'a> {
    taps: &'a [TapRecord],
    /// A call's own recorded inputs.
    inputs: HashMap<(&'a str, u32), Vec<usize>>,
}

impl<'a> Seen<'a> {
    fn new(taps: &'a [TapRecord]) -> Self {
        let mut inputs: HashMap<_, Vec<usize>> = HashMap::new();
        for (at, tap) in taps.iter().enumerate() {
            if tap.kind != "out" && error(tap).is_some() {
                inputs.entry((tap.point.as_str(), tap.call)).or_default().push(at);
            }
        }
        Self { taps, inputs }
    }

    fn growth(&self, at: usize) -> Option<Growth> {
        let tap = &self.taps[at];
        let (error, floor) = (error(tap)?, tap.tolerance?.floor);
        let from = self.own_inputs(tap).or_else(|| self.before(at));
        let inherited = from.and_then(|from| self::error(&self.taps[from])).unwrap_or(0.0);
        let from = from.map(|from| self.taps[from].id());
        Some(Growth { from, inherited, factor: factor(error, inherited, floor) })
    }

    /// The worst of the module's own inputs.
    fn own_inputs(&self, tap: &TapRecord) -> Option<usize> {
        if tap.kind != "out" {
            return None;
        }
        let inputs = self.inputs.get(&(tap.point.as_str(), tap.call))?;
        let worst = |a: &usize, b: &usize| error(&self.taps[*a]).partial_cmp(&error(&self.taps[*b]));
        inputs.iter().copied().max_by(|a, b| worst(a, b).unwrap_or(std::cmp::Ordering::Equal))
    }

    /// The last output before, which is no part of the module itself.
    fn before(&self, at: usize) -> Option<usize> {
        let module = &self.taps[at].point;
        let outside = |tap: &TapRecord| {
            let inside = tap.point.strip_prefix(module.as_str());
            !inside.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        (0..at)
            .rev()
            .find(|&at| self.taps[at].kind == "out" && error(&self.taps[at]).is_some() && outside(&self.taps[at]))
    }
}

/// The error of a cumulative tap, where it is a number.
fn error(tap: &TapRecord) -> Option<f64> {
    tap.error().filter(|error| tap.mode == Mode::Cumulative && error.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Failure, Floors, Header, K, Reference, ReferenceKind, compare};

    const FLOORS: Floors = Floors { torch: 1e-6, runtime: 0.0, ulp: 1e-7 };

    fn tap(point: &str, kind: &str, error: f64) -> TapRecord {
        let id = TapId { point: point.to_owned(), call: 0, kind: kind.to_owned() };
        let reference = ReferenceKind::Recorded;
        let header = Header { id, mode: Mode::Cumulative, shape: vec![4], dtype: "f32".to_owned(), reference };
        if error.is_infinite() {
            return TapRecord::failed(header, Failure::Missing);
        }
        let outcome = compare(&[4], Reference::F64(&[1.0; 4]), &[1.0 + error; 4]);
        TapRecord::measured(header, outcome, FLOORS, K)
    }

    fn grown(mut taps: Vec<TapRecord>) -> Vec<Option<(String, f64)>> {
        fill_growth(&mut taps);
        let told = |growth: &Growth| {
            let from = growth.from.as_ref().map_or_else(String::new, ToString::to_string);
            (from, (growth.factor * 100.0).round() / 100.0)
        };
        taps.iter().map(|tap| tap.growth.as_ref().map(told)).collect()
    }

    #[test]
    fn an_error_is_measured_against_what_reached_it_and_never_below_the_floor() {
        let taps = vec![tap("a", "out", 1e-9), tap("b.c", "out", 5e-6), tap("b", "out", 5e-3), tap("d", "out", 5e-3)];
        let told = |from: &str, factor: f64| Some((from.to_owned(), factor));
        let expected = [told("", 0.0), told("a#0.out", 5.0), told("a#0.out", 5000.0), told("b#0.out", 1.0)];
        assert_eq!(grown(taps), expected);
    }

    #[test]
    fn recorded_inputs_say_what_reached_a_module_and_what_has_no_error_is_passed_over() {
        let taps = vec![
            tap("a", "out", 2e-6),
            tap("router", "out", f64::INFINITY),
            tap("b", "in", 1e-3),
            tap("b", "in1", 1e-2),
            tap("b", "out", 2e-2),
            tap("a", "out", 0.0),
        ];
        let grown = grown(taps);
        assert_eq!(grown[1], None);
        assert_eq!(grown[2], Some(("a#0.out".to_owned(), 500.0)), "an input is given by what came before");
        assert_eq!(grown[4], Some(("b#0.in1".to_owned(), 2.0)), "the worst input counts");
        assert_eq!(grown[5], Some(("b#0.out".to_owned(), 0.0)), "an exact match has not grown");
    }
}
