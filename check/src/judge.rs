//! Every scenario's recordings, judged.

use std::path::Path;

use anyhow::Context;
use mlxport_compare::{Request, both, compare, coverage};
use mlxport_verdict::hints::Hint;
use mlxport_verdict::{Coverage, Run, Verdict};

use crate::allowed::Allowed;
use crate::recorded::{Cause, Recorded, Scenario};

/// A scenario with its record.
#[derive(Debug)]
pub struct Judged {
    /// `prefill`, `decode`, …
    pub name: String,
    /// The record, coverage included.
    pub run: Run,
}

impl Judged {
    /// Whether something was off.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.run.summary.verdict == Verdict::Fail
    }
}

/// Judges all scenarios that ran, in their order. `locked` may change each record by its scenario's name: that is where a lockfile comes in.
///
/// # Errors
/// A recording cannot be used, or what `locked` says.
pub fn judge(
    recorded: &Recorded,
    folder: &Path,
    allowed: &Allowed,
    locked: impl Fn(&str, Run) -> anyhow::Result<Run>,
) -> anyhow::Result<Vec<Judged>> {
    let mut judged = Vec::new();
    for (name, scenario) in &recorded.scenarios {
        if let Some(run) = one(recorded, scenario, folder, allowed).with_context(|| format!("judging {name}"))? {
            judged.push(Judged { name: name.clone(), run: locked(name, run)? });
        }
    }
    Ok(judged)
}

fn one(recorded: &Recorded, scenario: &Scenario, folder: &Path, allowed: &Allowed) -> anyhow::Result<Option<Run>> {
    let (Some(reference), Some(candidate)) = (&scenario.reference, &scenario.candidate) else { return Ok(None) };
    let compared = |reference: &str, candidate: &str, isolated| {
        compare(&Request {
            reference: folder.join(reference),
            candidate: folder.join(candidate),
            runtime_floors: Some(folder.join(reference).join("runtime_floors.json")),
            isolated,
            ..Request::default()
        })
    };
    let mut run = compared(reference, candidate, false)?;
    if let Some((reference, candidate)) = &scenario.isolated {
        run = both(run, compared(reference, candidate, true)?);
        add_hints(&mut run, &recorded.hints);
    }
    add_hints(&mut run, &scenario.hints);
    let covered = if scenario.logits_only {
        Coverage { recorded: 1, compared: 1, logits: true, ..Coverage::default() }
    } else {
        coverage(&run, &recorded.leaves, |point| allowed.reason(point))
    };
    let points = run.points();
    if let Some(candidate) = &mut run.candidate {
        // Steps over a cache are not compared inside every module: what a step gives is.
        candidate.coverage = scenario.isolated.is_some().then_some(covered);
    }
    explain(&mut run, scenario);
    Ok(Some(run.concluded(points)))
}

/// The package's reasons, in place of the general one.
fn explain(run: &mut Run, scenario: &Scenario) {
    for left in &mut run.not_compared {
        if let Some(why) = scenario.missing.get(&format!("{}#{}", left.point, left.call)) {
            left.reason.clone_from(why);
        }
    }
}

fn add_hints(run: &mut Run, causes: &[Cause]) {
    for cause in causes {
        let fits = |tap: &&mut mlxport_verdict::TapRecord| !tap.passed() && tap.id().to_string() == cause.point;
        for tap in run.taps.iter_mut().filter(fits) {
            let hint = Hint {
                cause: cause.cause.clone(),
                error_left: cause.error_left,
                within_tolerance: cause.within_tolerance,
            };
            tap.hints.insert(0, hint);
        }
    }
}
