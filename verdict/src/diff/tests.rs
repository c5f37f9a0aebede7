//! What counts as worse, better, new, gone and drift.

use super::*;
use crate::{
    Environment, Failure, FixtureId, Floors, Header, ModelId, Points, Reference, ReferenceKind, SCHEMA, Summary, Tool,
    compare,
};

fn tap(point: &str, error: f64) -> TapRecord {
    let header = Header {
        id: TapId { point: point.to_owned(), call: 0, kind: "out".to_owned() },
        mode: Mode::Cumulative,
        shape: vec![4],
        dtype: "f32".to_owned(),
        reference: ReferenceKind::Truth,
    };
    if error.is_nan() {
        return TapRecord::failed(header, Failure::Missing);
    }
    let candidate: Vec<f64> = [1.0, -1.0, 1.0, -1.0].iter().map(|value| value * (1.0 + error)).collect();
    let outcome = compare(&[4], Reference::F64(&[1.0, -1.0, 1.0, -1.0]), &candidate);
    // A tolerance of 4e-6.
    TapRecord::measured(header, outcome, Floors { torch: 1e-6, runtime: 0.0, ulp: 0.0 }, 4.0)
}

fn run(taps: &[(&str, f64)]) -> Run {
    let text = || "x".to_owned();
    let run = Run {
        schema: SCHEMA,
        tool: Tool { name: text(), version: text() },
        environment: Environment {
            mlx_version: text(),
            mlx_rs_version: text(),
            device: "cpu".to_owned(),
            dtype: "f32".to_owned(),
            tf32: "0".to_owned(),
            threads: 2,
            os: text(),
            arch: text(),
            blas: None,
        },
        fixture: FixtureId { name: text(), manifest_sha256: text(), checkpoint_sha256: text(), torch: text() },
        model: ModelId { config_sha256: None, weights_hash: text(), layout: text(), recipe: text() },
        candidate: None,
        modes: vec![Mode::Cumulative],
        k: 4.0,
        summary: Summary::empty(),
        shard: None,
        lock: None,
        repeats: None,
        taps: taps.iter().map(|(point, error)| tap(point, *error)).collect(),
        not_compared: Vec::new(),
    };
    run.concluded(Points { recorded: taps.len(), mapped: taps.len() })
}

#[test]
fn a_run_is_the_same_as_itself() {
    let run = run(&[("a", 1e-6), ("b", 1.0), ("c", f64::NAN), ("b", 1.0)]);
    let diff = diff(&run, &run);
    assert!(diff.ok && diff.taps.is_empty() && diff.differences.is_empty());
    assert_eq!(diff.counts, DiffCounts { in_both: 4, same: 4, ..DiffCounts::default() });
}

#[test]
fn worse_better_new_and_gone_are_told_and_the_worst_comes_first() {
    let base = run(&[("drifts", 1e-6), ("breaks", 1e-6), ("heals", 1.0), ("goes", 1e-6), ("shrinks", 2e-6)]);
    let head = run(&[("drifts", 2e-6), ("breaks", 1e-3), ("heals", 1e-6), ("comes", 1e-6), ("shrinks", 1e-6)]);
    let diff = diff(&base, &head);
    let told: Vec<_> = diff.taps.iter().map(|tap| (tap.id.point.as_str(), tap.change)).collect();
    assert_eq!(
        told,
        [
            ("breaks", Change::Worse),
            ("drifts", Change::Worse),
            ("comes", Change::New),
            ("goes", Change::Gone),
            ("heals", Change::Better),
            ("shrinks", Change::Better),
        ]
    );
    assert!(!diff.ok);
    let c = diff.counts;
    assert_eq!((c.in_both, c.worse, c.better, c.new, c.gone, c.same), (4, 2, 2, 1, 1, 0));
    assert_eq!((c.newly_failing, c.fixed, c.drifting), (1, 1, 1));
    assert!(diff.taps[1].drift && !diff.taps[0].drift);
}

#[test]
fn drift_needs_to_be_near_the_tolerance_and_a_new_failure_counts() {
    let quiet = diff(&run(&[("a", 1e-9)]), &run(&[("a", 1e-7)]));
    assert_eq!((quiet.counts.same, quiet.ok), (1, true), "a hundred times more, and far below the tolerance");
    let loud = diff(&run(&[("a", 1e-9)]), &run(&[("a", 3e-6)]));
    assert_eq!((loud.counts.drifting, loud.ok), (1, true));
    let slight = diff(&run(&[("a", 2.0e-6)]), &run(&[("a", 2.4e-6)]));
    assert_eq!(slight.counts.same, 1);
    let new = diff(&run(&[("a", 1e-6)]), &run(&[("a", 1e-6), ("b", 1.0)]));
    assert_eq!((new.counts.newly_failing, new.ok), (1, false));
}

#[test]
fn a_failure_that_grows_is_worse_and_not_new() {
    let diff = diff(&run(&[("a", 0.1)]), &run(&[("a", 0.5)]));
    assert_eq!((diff.counts.worse, diff.counts.newly_failing, diff.ok), (1, 0, true));
    let lost = super::diff(&run(&[("a", 1e-6)]), &run(&[("a", f64::NAN)]));
    assert_eq!((lost.counts.newly_failing, lost.taps[0].factor, lost.ok), (1, None, false));
}

#[test]
fn a_head_that_loses_its_verdict_is_not_ok_though_no_tap_fails() {
    let base = run(&[("a", 1e-6)]);
    let mut head = base.clone();
    head = head.concluded(Points { recorded: 2, mapped: 2 });
    assert_eq!(head.summary.verdict, Verdict::Fail);
    assert!(!diff(&base, &head).ok);
}

#[test]
fn what_the_runs_do_not_share_is_named_and_looser_tolerances_are_counted() {
    let base = run(&[("a", 1e-6)]);
    let mut head = base.clone();
    head.environment.mlx_version = "y".to_owned();
    head.taps[0].lock_to(8e-6);
    let diff = diff(&base, &head);
    assert_eq!(diff.differences, ["MLX: x → y"]);
    assert_eq!(diff.counts.looser, 1);
}
