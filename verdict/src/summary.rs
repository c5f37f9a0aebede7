//! The verdict over all taps, and the numbers a person asks for first.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::nonfinite;
use crate::record::{Failure, Mode, TapId, TapRecord};
use crate::run::NotCompared;

/// How many of the worst taps a summary names.
pub const WORST: usize = 5;

/// The verdict of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every tap of every mode asked for passed, and no recorded point is unaccounted for.
    Pass,
    /// A tap failed, or a recorded point is neither compared nor listed as not compared.
    Fail,
    /// A mode asked for compared nothing (and nothing failed): no verdict.
    NothingCompared,
    /// All that was compared passed, but less than everything was compared: see [`crate::Coverage`].
    Incomplete,
    /// Repeats of the same run gave different numbers.
    Nondeterministic,
}

/// The points of the fixture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Points {
    /// Points in the fixture's `order`.
    pub recorded: usize,
    /// Those of them that the port can produce.
    pub mapped: usize,
}

/// The counts of one mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeCounts {
    /// Records.
    pub taps: usize,
    /// Those where values were compared.
    pub compared: usize,
    /// Those that passed.
    pub passed: usize,
    /// Those that failed, compared or not.
    pub failed: usize,
}

impl ModeCounts {
    /// Whether the mode has no tap.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.taps == 0
    }
}

/// One tap, named with its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TapRef {
    /// The PyTorch module's path.
    pub point: String,
    /// The how-manieth call, from 0.
    pub call: u32,
    /// `in`, `in1`, … or `out`.
    pub kind: String,
    /// From where the input came.
    pub mode: Mode,
    /// Relative RMS error (floats only).
    #[serde(default, with = "nonfinite::option")]
    pub error: Option<f64>,
    /// What was allowed (floats only).
    #[serde(default, with = "nonfinite::option")]
    pub tolerance: Option<f64>,
    /// error ÷ tolerance (floats only).
    #[serde(default, with = "nonfinite::option")]
    pub ratio: Option<f64>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
}

impl TapRef {
    /// The reference to `tap`.
    #[must_use]
    pub fn to(tap: &TapRecord) -> Self {
        Self {
            point: tap.point.clone(),
            call: tap.call,
            kind: tap.kind.clone(),
            mode: tap.mode,
            error: tap.error(),
            tolerance: tap.tolerance.map(|tolerance| tolerance.value),
            ratio: tap.ratio,
            failure: tap.failure.clone(),
        }
    }

    /// Which tensor this is.
    #[must_use]
    pub fn id(&self) -> TapId {
        TapId { point: self.point.clone(), call: self.call, kind: self.kind.clone() }
    }
}

/// The verdict and its counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The verdict.
    pub verdict: Verdict,
    /// Points in the fixture's `order`.
    pub points_recorded: usize,
    /// Those that the port can produce.
    pub points_mapped: usize,
    /// Those that it cannot.
    pub points_unmapped: usize,
    /// Recorded points that are neither compared nor listed as not compared: must be 0, or the verdict is `Fail`.
    pub points_unaccounted: usize,
    /// Counts of the cumulative mode.
    pub cumulative: ModeCounts,
    /// Counts of the isolated mode.
    pub isolated: ModeCounts,
    /// Counts of the tuned mode, where it ran.
    #[serde(default, skip_serializing_if = "ModeCounts::is_empty")]
    pub tuned: ModeCounts,
    /// The first failing cumulative tap in execution order: where the error became visible.
    pub first_divergence: Option<TapRef>,
    /// The first failing isolated tap in execution order: the module that *added* error by itself.
    pub first_isolated_failure: Option<TapRef>,
    /// The first failing tuned tap: what users run computes something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_tuned_failure: Option<TapRef>,
    /// The taps with the largest ratios of error to tolerance, worst first; NaN is worse than everything.
    pub worst: Vec<TapRef>,
}

impl Summary {
    /// A summary of nothing, to be replaced by [`crate::Run::concluded`].
    #[must_use]
    pub fn empty() -> Self {
        Self::of(&[], &[], &[], Points::default())
    }

    /// The summary of `taps` (in execution order within each mode).
    ///
    /// Every recorded point must be in `taps` or in `not_compared`; what is in neither was lost silently and fails.
    #[must_use]
    pub fn of(modes: &[Mode], taps: &[TapRecord], not_compared: &[NotCompared], points: Points) -> Self {
        let first = |mode| taps.iter().find(|tap| tap.mode == mode && !tap.passed()).map(TapRef::to);
        let unaccounted = points.recorded.saturating_sub(accounted(taps, not_compared));
        let [cumulative, isolated, tuned] = Mode::ALL.map(|mode| count(taps, mode));
        let counts = |mode: &Mode| match mode {
            Mode::Cumulative => cumulative,
            Mode::Isolated => isolated,
            Mode::Tuned => tuned,
        };
        let verdict = if cumulative.failed + isolated.failed + tuned.failed > 0 {
            Verdict::Fail
        } else if modes.is_empty() || modes.iter().any(|mode| counts(mode).compared == 0) {
            Verdict::NothingCompared
        } else if unaccounted > 0 {
            Verdict::Fail
        } else {
            Verdict::Pass
        };
        Self {
            verdict,
            points_recorded: points.recorded,
            points_mapped: points.mapped,
            points_unmapped: points.recorded.saturating_sub(points.mapped),
            points_unaccounted: unaccounted,
            cumulative,
            isolated,
            tuned,
            first_divergence: first(Mode::Cumulative),
            first_isolated_failure: first(Mode::Isolated),
            first_tuned_failure: first(Mode::Tuned),
            worst: worst(taps, WORST).into_iter().map(TapRef::to).collect(),
        }
    }
}

/// The `count` taps with the largest ratios, worst first, NaN worst of all; equal ones in execution order.
#[must_use]
pub fn worst<'a>(taps: impl IntoIterator<Item = &'a TapRecord>, count: usize) -> Vec<&'a TapRecord> {
    let mut ranked: Vec<(f64, &TapRecord)> = taps
        .into_iter()
        // `total_cmp` puts a negative NaN below everything: make every NaN the positive one.
        .filter_map(|tap| tap.ratio.map(|ratio| (if ratio.is_nan() { f64::NAN.abs() } else { ratio }, tap)))
        .collect();
    ranked.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    ranked.into_iter().take(count).map(|(_, tap)| tap).collect()
}

fn count(taps: &[TapRecord], mode: Mode) -> ModeCounts {
    let mut counts = ModeCounts::default();
    for tap in taps.iter().filter(|tap| tap.mode == mode) {
        counts.taps += 1;
        counts.compared += usize::from(tap.compared());
        if tap.passed() {
            counts.passed += 1;
        } else {
            counts.failed += 1;
        }
    }
    counts
}

/// How many different recorded points are compared or listed (an extra tap is no recorded point). The tuned mode compares a few, and decoding
/// steps that are no points: it accounts for none.
fn accounted(taps: &[TapRecord], not_compared: &[NotCompared]) -> usize {
    let tapped = taps.iter().filter(|tap| tap.failure != Some(Failure::Extra) && tap.mode != Mode::Tuned);
    let named: HashSet<(&str, u32, &str)> = tapped
        .map(|tap| (tap.point.as_str(), tap.call, tap.kind.as_str()))
        .chain(
            not_compared
                .iter()
                .filter(|n| n.mode != Some(Mode::Tuned))
                .map(|n| (n.point.as_str(), n.call, n.kind.as_str())),
        )
        .collect();
    named.len()
}
