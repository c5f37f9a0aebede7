//! The tolerance lockfile, `mlxport.lock.json`: what every tap was allowed when someone last looked, and what it was off by.
//!
//! Measured floors waver from machine to machine and could drift. A lockfile in the user's repository pins them: a run is judged
//! by what is locked, changes are made by `--update` with a reason, and show in review. In CI nothing gets looser unless the
//! merge base's lockfile allowed as much.

mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    check::Violation,
    record::TapRecord,
    run::{LockUse, Run},
    tolerance::K,
};

pub use text::MAX_LOCK_BYTE_LEN;

/// The version of the file's shape.
pub const LOCK_SCHEMA: u32 = 1;
/// A locked tolerance this many times what today's floors ask for is stale: slack that nothing needs.
pub const STALE: f64 = 2.0;
/// A tolerance within this share of the locked one is the same: floors are measured anew on every run.
pub const SAME: f64 = 0.01;
/// Why [`K`] is what it is, for the file.
const K_REASON: &str =
    "two correct float32 runs are about 1.4 floors apart, and a floor is the RMS of one sample, which wavers";

/// What one tap is allowed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Relative RMS error that passes.
    pub tolerance: f64,
    /// The floor it was made from: `torch`, `runtime` or `ulp`.
    pub floor: String,
    /// The relative RMS error when it was locked.
    pub measured: f64,
    /// Why it was last changed.
    pub reason: String,
}

/// The multiple of a floor that is allowed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Multiple {
    /// The number.
    pub value: f64,
    /// Why that number.
    pub reason: String,
}

/// A lockfile.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lock {
    /// [`LOCK_SCHEMA`].
    pub schema: u32,
    /// The multiple of a floor that was allowed.
    pub k: Multiple,
    /// By run (`fixture/dtype/device/mode`), then by tap (`model.norm#0.out`).
    pub runs: BTreeMap<String, BTreeMap<String, Entry>>,
}

/// What an update changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Taps that were not there.
    pub added: usize,
    /// Taps that are allowed less than before.
    pub tightened: usize,
    /// Taps that are allowed more.
    pub loosened: usize,
    /// Taps that no longer exist.
    pub removed: usize,
}

impl Default for Lock {
    fn default() -> Self {
        let k = Multiple { value: K, reason: K_REASON.into() };
        Self { schema: LOCK_SCHEMA, k, runs: BTreeMap::new() }
    }
}

/// Under which name a tap's run is locked.
fn group(run: &Run, tap: &TapRecord) -> String {
    format!("{}/{}/{}/{}", run.fixture.name, run.environment.dtype, run.environment.device, tap.mode)
}

/// Taps that have a tolerance: floats that were compared.
fn locked_taps(run: &Run) -> impl Iterator<Item = &TapRecord> {
    run.taps.iter().filter(|tap| tap.metrics.is_some() && tap.tolerance.is_some())
}

impl Lock {
    fn entry(&self, run: &Run, tap: &TapRecord) -> Option<&Entry> {
        self.runs.get(&group(run, tap))?.get(&tap.id().to_string())
    }

    /// Judges `run` by what is locked, not by today's floors. `sha256` names the file in the record.
    ///
    /// # Errors
    /// Every tap that is not locked.
    pub fn judge(&self, mut run: Run, sha256: &str) -> Result<Run, Vec<Violation>> {
        let missing: Vec<Violation> = locked_taps(&run)
            .filter(|tap| self.entry(&run, tap).is_none())
            .map(|tap| {
                let message = "not in the lockfile; `--update --reason TEXT` adds it".to_owned();
                Violation { place: format!("{}: {}", group(&run, tap), tap.id()), message }
            })
            .collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        let tolerances: Vec<Option<f64>> = run
            .taps
            .iter()
            .map(|tap| tap.metrics.as_ref().and_then(|_| self.entry(&run, tap)).map(|entry| entry.tolerance))
            .collect();
        let mut stale = 0;
        for (tap, locked) in run.taps.iter_mut().zip(tolerances) {
            let Some(locked) = locked else { continue };
            stale += usize::from(tap.tolerance.is_some_and(|today| locked > STALE * today.value));
            tap.lock_to(locked);
        }
        run.lock = Some(LockUse { sha256: sha256.to_owned(), stale });
        let points = run.points();
        Ok(run.concluded(points))
    }

    /// Locks what a passing run was allowed and measured. Where `base` is given, nothing may become looser than both the lock
    /// before and `base` allow.
    ///
    /// # Errors
    /// A run that does not pass; every tap that would be loosened where that is refused.
    pub fn update(&mut self, run: &Run, reason: &str, refuse: Option<&Self>) -> Result<Changes, Vec<Violation>> {
        let failed = run.taps.iter().filter(|tap| !tap.passed());
        let mut found: Vec<Violation> = failed
            .map(|tap| Violation { place: tap.id().to_string(), message: "fails: only what passes is locked".into() })
            .collect();
        let mut changes = Changes::default();
        let mut new: BTreeMap<String, BTreeMap<String, Entry>> = BTreeMap::new();
        for tap in locked_taps(run) {
            let (Some(today), Some(measured)) = (tap.tolerance, tap.error()) else { continue };
            let old = self.entry(run, tap);
            let tolerance = match old {
                Some(old) if (today.value / old.tolerance - 1.0).abs() <= SAME => old.tolerance,
                _ => today.value,
            };
            let base = refuse.map(|base| base.entry(run, tap).map_or(0.0, |entry| entry.tolerance));
            match old {
                None => changes.added += 1,
                Some(old) if tolerance < old.tolerance => changes.tightened += 1,
                Some(old) if tolerance > old.tolerance => {
                    changes.loosened += 1;
                    if base.is_some_and(|base| tolerance > base * (1.0 + SAME)) {
                        let message = format!("{tolerance:e} is looser than {:e}: refused here", old.tolerance);
                        found.push(Violation { place: format!("{}: {}", group(run, tap), tap.id()), message });
                    }
                }
                Some(_) => {}
            }
            let kept = old.filter(|old| old.tolerance.to_bits() == tolerance.to_bits());
            let reason = kept.map_or_else(|| reason.to_owned(), |old| old.reason.clone());
            let entry = Entry { tolerance, floor: floor_name(tap), measured, reason };
            new.entry(group(run, tap)).or_default().insert(tap.id().to_string(), entry);
        }
        if !found.is_empty() {
            return Err(found);
        }
        for (name, entries) in new {
            let old = self.runs.insert(name, entries.clone()).unwrap_or_default();
            changes.removed += old.keys().filter(|key| !entries.contains_key(*key)).count();
        }
        Ok(changes)
    }
}

/// Which of the floors is the largest.
fn floor_name(tap: &TapRecord) -> String {
    let Some(floors) = tap.floors else { return String::new() };
    let named = [("torch", floors.torch), ("runtime", floors.runtime), ("ulp", floors.ulp)];
    named.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(name, _)| name.to_owned()).unwrap_or_default()
}
