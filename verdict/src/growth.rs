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
//! What reached a tap is known where the module's own inputs were recorded: the worst of them. Else it is taken to be the worst of
//!
//! - what lies within the module, and the tap before the module: of a residual block, its branches and the block before;
//! - where the module that holds this one was recorded, too, what came before within it, and the tap before that: what a branch
//!   is given is the sum of all this;
//! - of a tap before that was called more often, every call: the tiles' features and the global view's.
//!
//! An error that is more than [`TOO_LARGE`] times the tap's own did not come through there (a new picture enters, say), and is not
//! counted. So the factor is rather too small than too large, and what it names is worth a look.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::nonfinite;
use crate::record::{Mode, TapId, TapRecord};

/// How much larger a tap's error is than the one that reached it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// The tap whose error reached this one; none where it comes from the inputs.
    #[serde(default)]
    pub from: Option<TapId>,
    /// That tap's error, as relative RMS; else 0.
    #[serde(with = "nonfinite")]
    pub inherited: f64,
    /// error ÷ the larger of `inherited` and the tap's own floor.
    #[serde(with = "nonfinite")]
    pub factor: f64,
}

/// An error this many times a tap's own is not what reached it: noise does not cancel.
pub const TOO_LARGE: f64 = 10.0;

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
    /// A module's outputs, over all calls.
    outputs: HashMap<&'a str, Vec<usize>>,
    /// The outputs, in execution order.
    order: Vec<usize>,
}

impl<'a> Seen<'a> {
    fn new(taps: &'a [TapRecord]) -> Self {
        let mut seen = Self { taps, inputs: HashMap::new(), outputs: HashMap::new(), order: Vec::new() };
        for (at, tap) in taps.iter().enumerate().filter(|(_, tap)| error(tap).is_some()) {
            if tap.kind == "out" {
                seen.outputs.entry(&tap.point).or_default().push(at);
                seen.order.push(at);
            } else {
                seen.inputs.entry((&tap.point, tap.call)).or_default().push(at);
            }
        }
        seen
    }

    fn growth(&self, at: usize) -> Option<Growth> {
        let tap = &self.taps[at];
        let (own, floor) = (error(tap)?, tap.tolerance?.floor);
        let given = if tap.kind == "out" { self.inputs.get(&(tap.point.as_str(), tap.call)) } else { None };
        let reached = given.cloned().unwrap_or_else(|| self.before(at));
        let possible = reached.into_iter().filter_map(|from| Some((from, error(&self.taps[from])?)));
        let possible = possible.filter(|(_, error)| given.is_some() || *error <= TOO_LARGE * own);
        let worst = possible.max_by(|(_, a), (_, b)| a.total_cmp(b));
        let inherited = worst.map_or(0.0, |(_, error)| error);
        let from = worst.map(|(from, _)| self.taps[from].id());
        Some(Growth { from, inherited, factor: factor(own, inherited, floor) })
    }

    /// The outputs before that may have reached this tap.
    fn before(&self, at: usize) -> Vec<usize> {
        let tap = &self.taps[at];
        let parent = tap.point.rsplit_once('.').map(|(parent, _)| parent);
        let parent = parent.filter(|parent| self.outputs.contains_key(parent));
        let mut reached = Vec::new();
        let mut left = false;
        let earlier = &self.order[..self.order.partition_point(|other| *other < at)];
        for &other in earlier.iter().rev() {
            let point = &self.taps[other].point;
            if !left && is_within(point, &tap.point) {
                // A module's inputs are noted after what happened within it, and were there before.
                reached.extend((tap.kind == "out").then_some(other));
                continue;
            }
            left = true;
            self.add_with_other_calls(other, tap.call, &mut reached);
            // Where the module that holds this one returned something, an earlier call of it had ended.
            if !parent.is_some_and(|parent| point != parent && is_within(point, parent)) {
                break;
            }
        }
        reached
    }

    /// An output, and where it was called more often than what comes after it, those of its other calls.
    fn add_with_other_calls(&self, other: usize, call: u32, reached: &mut Vec<usize>) {
        let tap = &self.taps[other];
        let others = self.outputs.get(tap.point.as_str()).filter(|_| tap.call > call);
        match others {
            Some(calls) => reached.extend(calls.iter().filter(|at| **at <= other)),
            None => reached.push(other),
        }
    }
}

/// Whether `point` is `module` or lies within it.
fn is_within(point: &str, module: &str) -> bool {
    point.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
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
        let grown_of = |growth: &Growth| {
            let from = growth.from.as_ref().map_or_else(String::new, ToString::to_string);
            (from, (growth.factor * 100.0).round() / 100.0)
        };
        taps.iter().map(|tap| tap.growth.as_ref().map(grown_of)).collect()
    }

    fn expected_growth(from: &str, factor: f64) -> Option<(String, f64)> {
        Some((from.to_owned(), factor))
    }

    #[test]
    fn an_error_is_measured_against_what_reached_it_and_never_below_the_floor() {
        let taps = vec![tap("a", "out", 1e-9), tap("b", "out", 5e-6), tap("c", "out", 5e-3), tap("d", "out", 5e-3)];
        let expected = [
            expected_growth("", 0.0),
            expected_growth("a#0.out", 5.0),
            expected_growth("b#0.out", 1000.0),
            expected_growth("c#0.out", 1.0),
        ];
        assert_eq!(grown(taps), expected);
    }

    #[test]
    fn of_a_residual_block_the_branches_and_what_stands_before_it_count() {
        let taps = vec![
            tap("layers.0", "out", 4e-2),
            tap("layers.1.attn", "out", 1e-2),
            tap("layers.1.mlp", "out", 8e-2),
            tap("layers.1", "out", 4e-2),
            tap("layers.2", "out", 4e-2),
        ];
        let grown = grown(taps);
        assert_eq!(grown[2], expected_growth("layers.0#0.out", 2.0), "a branch is given the whole stream");
        assert_eq!(
            grown[3],
            expected_growth("layers.1.mlp#0.out", 0.5),
            "a jump within is named there, not again by the whole"
        );
        assert_eq!(grown[4], expected_growth("layers.1#0.out", 1.0));
    }

    #[test]
    fn a_new_picture_inherits_nothing_and_what_joins_several_inherits_the_worst() {
        let mut taps = vec![
            tap("vision.patch", "out", 1e-6),
            tap("vision", "out", 5e-2),
            tap("vision.patch", "out", 2e-6),
            tap("vision", "out", 7e-3),
            tap("layers.0", "out", 5e-2),
        ];
        for tap in &mut taps[2..4] {
            tap.call = 1;
        }
        let grown = grown(taps);
        assert_eq!(grown[2], expected_growth("", 2.0));
        assert_eq!(grown[4], expected_growth("vision#0.out", 1.0));
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
        assert_eq!(grown[2], expected_growth("a#0.out", 500.0), "an input is given by what came before");
        assert_eq!(grown[4], expected_growth("b#0.in1", 2.0), "the worst input counts");
        assert_eq!(grown[5].as_ref().map(|(_, factor)| *factor), Some(0.0), "an exact match has not grown");
    }
}
