//! Two records of runs on one recording, tap by tap: what got worse, what got better, what is new, what is gone.
//!
//! ```text
//! worse   fails and did not; or the error grew by more than DRIFT      drift   worse, and yet it passes
//! better  passes and did not; or the error shrank by more than DRIFT   same    anything between
//! ```
//!
//! An error is judged by its tolerance, so an error far below it may waver as it likes: below [`QUIET`] of the tolerance on
//! both sides nothing is worse or better. Nothing is measured here: every number is one of the two records'.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::nonfinite;
use crate::record::{Mode, TapId, TapRecord};
use crate::run::Run;
use crate::summary::Verdict;

/// The version of the object that [`diff`] makes.
pub const DIFF_SCHEMA: &str = "mlxport.diff/1";
/// An error this many times the old one has grown; one that many times smaller has shrunk.
pub const DRIFT: f64 = 1.25;
/// Below this share of the tolerance, on both sides, a change of the error says nothing.
pub const QUIET: f64 = 0.05;

/// What became of a tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It fails and did not, or its error grew.
    Worse,
    /// It passes and did not, or its error shrank.
    Better,
    /// Only the head has it.
    New,
    /// Only the base has it.
    Gone,
    /// Neither better nor worse.
    Same,
}

/// A tap as one of the two records has it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TapState {
    /// Whether it passed.
    pub passed: bool,
    /// Relative RMS error (floats only).
    #[serde(default, with = "nonfinite::option")]
    pub error: Option<f64>,
    /// What was allowed (floats only).
    #[serde(default, with = "nonfinite::option")]
    pub tolerance: Option<f64>,
    /// error ÷ tolerance (floats only).
    #[serde(default, with = "nonfinite::option")]
    pub ratio: Option<f64>,
}

/// What became of one tap in one mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TapDiff {
    /// Which tensor.
    #[serde(flatten)]
    pub id: TapId,
    /// In which mode.
    pub mode: Mode,
    /// What became of it.
    pub change: Change,
    /// It fails, and the base's passed or was not there.
    pub newly_failing: bool,
    /// It got worse and still passes.
    pub drift: bool,
    /// The head's error ÷ the base's, where both were measured.
    #[serde(default, with = "nonfinite::option")]
    pub factor: Option<f64>,
    /// In the base.
    pub base: Option<TapState>,
    /// In the head.
    pub head: Option<TapState>,
}

/// Which run one side is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffSide {
    /// The fixture's name.
    pub fixture: String,
    /// The model's weights, by hash.
    pub weights_hash: String,
    /// `f32`, `bf16`, …
    pub dtype: String,
    /// `cpu` or `gpu`.
    pub device: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// Its records.
    pub taps: usize,
    /// Those of them that failed.
    pub failed: usize,
}

/// How many taps became what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffCounts {
    /// Taps that both records have.
    pub in_both: usize,
    /// Worse, drifts included.
    pub worse: usize,
    /// Better.
    pub better: usize,
    /// Only in the head.
    pub new: usize,
    /// Only in the base.
    pub gone: usize,
    /// Neither better nor worse.
    pub same: usize,
    /// Failing in the head, and passing in the base or not there.
    pub newly_failing: usize,
    /// Passing in the head, and failing in the base.
    pub fixed: usize,
    /// Worse within the tolerance.
    pub drifting: usize,
    /// Taps that are allowed more than before (by over [`crate::lock::SAME`]).
    pub looser: usize,
}

/// Two records, compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diff {
    /// [`DIFF_SCHEMA`].
    pub schema: String,
    /// Whether nothing newly fails.
    pub ok: bool,
    /// What is compared with.
    pub base: DiffSide,
    /// What is compared.
    pub head: DiffSide,
    /// What the two runs do not have in common, in words: part of any change may come from there.
    pub differences: Vec<String>,
    /// How many taps became what.
    pub counts: DiffCounts,
    /// Every tap that is not the same: newly failing in execution order, then worse, new, gone, better, within these by factor.
    pub taps: Vec<TapDiff>,
}

/// What became of `base`'s taps in `head`.
#[must_use]
pub fn diff(base: &Run, head: &Run) -> Diff {
    // A record may name a tap twice (a faulty port showed it twice): the first is the first's, the second the second's.
    let mut before: HashMap<(TapId, Mode), VecDeque<&TapRecord>> = HashMap::new();
    for tap in &base.taps {
        before.entry((tap.id(), tap.mode)).or_default().push_back(tap);
    }
    let mut all: Vec<TapDiff> = Vec::new();
    for tap in &head.taps {
        all.push(one(before.get_mut(&(tap.id(), tap.mode)).and_then(VecDeque::pop_front), Some(tap)));
    }
    // In the base's order, not the map's.
    for tap in &base.taps {
        let left = before.get_mut(&(tap.id(), tap.mode)).and_then(VecDeque::pop_front);
        all.extend(left.map(|tap| one(Some(tap), None)));
    }
    let counts = count(&all);
    let mut taps: Vec<TapDiff> = all.into_iter().filter(|tap| tap.change != Change::Same).collect();
    taps.sort_by(|a, b| rank(a).cmp(&rank(b)).then(size(b).total_cmp(&size(a))));
    let newly_unsound = head.summary.verdict != Verdict::Pass && base.summary.verdict == Verdict::Pass;
    Diff {
        schema: DIFF_SCHEMA.to_owned(),
        ok: counts.newly_failing == 0 && !newly_unsound,
        base: side(base),
        head: side(head),
        differences: differences(base, head),
        counts,
        taps,
    }
}

fn side(run: &Run) -> DiffSide {
    DiffSide {
        fixture: run.fixture.name.clone(),
        weights_hash: run.model.weights_hash.clone(),
        dtype: run.environment.dtype.clone(),
        device: run.environment.device.clone(),
        verdict: run.summary.verdict,
        taps: run.taps.len(),
        failed: run.taps.iter().filter(|tap| !tap.passed()).count(),
    }
}

fn one(base: Option<&TapRecord>, head: Option<&TapRecord>) -> TapDiff {
    let tap = head.or(base).expect("a tap is in one of the two records");
    let (before, after) = (base.map(state), head.map(state));
    let newly_failing = after.is_some_and(|after| !after.passed) && before.is_none_or(|before| before.passed);
    let (change, factor) = match (&before, &after) {
        (None, _) => (Change::New, None),
        (_, None) => (Change::Gone, None),
        (Some(before), Some(after)) => changed(before, after),
    };
    let drift = change == Change::Worse && after.is_some_and(|after| after.passed);
    TapDiff { id: tap.id(), mode: tap.mode, change, newly_failing, drift, factor, base: before, head: after }
}

fn state(tap: &TapRecord) -> TapState {
    let tolerance = tap.tolerance.map(|tolerance| tolerance.value);
    TapState { passed: tap.passed(), error: tap.error(), tolerance, ratio: tap.ratio }
}

fn changed(before: &TapState, after: &TapState) -> (Change, Option<f64>) {
    let factor = match (before.error, after.error) {
        (Some(old), Some(new)) if old == new => Some(1.0),
        (Some(old), Some(new)) => Some(new / old),
        _ => None,
    };
    let change = match (before.passed, after.passed) {
        (true, false) => Change::Worse,
        (false, true) => Change::Better,
        (passes, _) => {
            let quiet = passes && [before.ratio, after.ratio].iter().all(|ratio| ratio.is_none_or(|r| r < QUIET));
            match factor {
                Some(factor) if !quiet && factor >= DRIFT => Change::Worse,
                Some(factor) if !quiet && factor <= 1.0 / DRIFT => Change::Better,
                // A number where none was to be had, or none where one was: only failures come to this.
                Some(factor) if factor.is_nan() && before.error.is_some_and(|old| !old.is_nan()) => Change::Worse,
                _ => Change::Same,
            }
        }
    };
    (change, factor)
}

/// What a person must see first.
fn rank(tap: &TapDiff) -> (bool, u8) {
    let order = match tap.change {
        Change::Worse => 0,
        Change::New => 1,
        Change::Gone => 2,
        Change::Better => 3,
        Change::Same => 4,
    };
    (!tap.newly_failing, order)
}

/// By how much it changed, up or down. NaN is the largest. What newly fails keeps its order: the first one says where it began.
fn size(tap: &TapDiff) -> f64 {
    match tap.factor.filter(|_| !tap.newly_failing) {
        Some(factor) if factor.is_nan() => f64::INFINITY,
        Some(factor) => factor.max(factor.recip()),
        None => 0.0,
    }
}

fn count(all: &[TapDiff]) -> DiffCounts {
    let mut counts = DiffCounts::default();
    for tap in all {
        match tap.change {
            Change::Worse => counts.worse += 1,
            Change::Better => counts.better += 1,
            Change::New => counts.new += 1,
            Change::Gone => counts.gone += 1,
            Change::Same => counts.same += 1,
        }
        counts.newly_failing += usize::from(tap.newly_failing);
        counts.drifting += usize::from(tap.drift);
        let (Some(before), Some(after)) = (&tap.base, &tap.head) else { continue };
        counts.in_both += 1;
        counts.fixed += usize::from(!before.passed && after.passed);
        let allowed = before.tolerance.zip(after.tolerance);
        counts.looser += usize::from(allowed.is_some_and(|(old, new)| new > old * (1.0 + crate::lock::SAME)));
    }
    counts
}

/// What is not the same of the two runs, and could by itself change a number.
fn differences(base: &Run, head: &Run) -> Vec<String> {
    let (a, b) = (&base.environment, &head.environment);
    let lock = |run: &Run| run.lock.as_ref().map_or_else(|| "none".to_owned(), |lock| lock.sha256.clone());
    let modes = |run: &Run| run.modes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let facts = [
        ("fixture", &base.fixture.name, &head.fixture.name),
        ("the fixture's manifest", &base.fixture.manifest_sha256, &head.fixture.manifest_sha256),
        ("weights", &base.model.weights_hash, &head.model.weights_hash),
        ("layout", &base.model.layout, &head.model.layout),
        ("MLX", &a.mlx_version, &b.mlx_version),
        ("device", &a.device, &b.device),
        ("dtype", &a.dtype, &b.dtype),
        ("TF32", &a.tf32, &b.tf32),
        ("system", &format!("{}/{}", a.os, a.arch), &format!("{}/{}", b.os, b.arch)),
        ("threads", &a.threads.to_string(), &b.threads.to_string()),
        ("mlxport", &base.tool.version, &head.tool.version),
        ("lockfile", &lock(base), &lock(head)),
        ("modes", &modes(base), &modes(head)),
    ];
    facts.into_iter().filter(|(_, a, b)| a != b).map(|(what, a, b)| format!("{what}: {a} → {b}")).collect()
}

#[cfg(test)]
mod tests;
