//! The rule over whole runs: what passes, what fails, what is named first, what a forged record is caught by.

use crate::*;

const FLOORS: Floors = Floors { torch: 1e-6, runtime: 5e-7, ulp: 1e-7 };
const BOTH: [Mode; 2] = [Mode::Cumulative, Mode::Isolated];

fn header(point: &str, kind: &str, mode: Mode) -> Header {
    let id = TapId { point: point.to_owned(), call: 0, kind: kind.to_owned() };
    Header { id, mode, shape: vec![2, 2], dtype: "f32".to_owned(), reference: ReferenceKind::Recorded }
}

/// A tap off by `error` relative RMS: a reference of ones, a candidate of `1 + error`.
fn tap(point: &str, kind: &str, mode: Mode, error: f64) -> TapRecord {
    let candidate = [(1.0 + error) as f32; 4];
    let outcome = compare(&[2, 2], Reference::F32(&[1.0; 4]), &candidate);
    TapRecord::measured(header(point, kind, mode), outcome, FLOORS, K)
}

fn of(taps: &[TapRecord], points: usize) -> Summary {
    Summary::of(&BOTH, taps, &[], Points { recorded: points, mapped: points })
}

fn passing_pair() -> Vec<TapRecord> {
    BOTH.map(|mode| tap("a", "out", mode, 0.0)).to_vec()
}

fn run(taps: Vec<TapRecord>, points: usize) -> Run {
    let text = String::new;
    let run = Run {
        schema: SCHEMA,
        tool: Tool { name: text(), version: text() },
        environment: Environment {
            mlx_version: text(),
            mlx_rs_version: text(),
            device: text(),
            dtype: text(),
            tf32: text(),
            threads: 1,
            os: text(),
            arch: text(),
            blas: None,
        },
        fixture: FixtureId { name: text(), manifest_sha256: text(), checkpoint_sha256: text(), torch: text() },
        model: ModelId { config_sha256: None, weights_hash: text(), layout: text(), recipe: text() },
        candidate: None,
        modes: BOTH.to_vec(),
        k: K,
        shard: None,
        repeats: None,
        lock: None,
        summary: Summary::empty(),
        taps,
        not_compared: Vec::new(),
    };
    run.concluded(Points { recorded: points, mapped: points })
}

#[test]
fn the_tolerance_decides() {
    let under = tap("a", "out", Mode::Cumulative, 3.9e-6);
    assert!(under.passed() && under.ratio.is_some_and(|ratio| ratio <= 1.0));
    let over = tap("a", "out", Mode::Cumulative, 4.2e-6);
    assert_eq!(over.failure, Some(Failure::ToleranceExceeded));
    assert!(!over.passed() && over.ratio.is_some_and(|ratio| ratio > 1.0));
}

#[test]
fn nan_empty_and_lengths_that_do_not_fit_fail() {
    let nan = tap("a", "out", Mode::Cumulative, f64::NAN);
    assert_eq!(nan.failure, Some(Failure::NonFinite { reference: 0, candidate: 4 }));
    for (shape, side) in [(vec![0], vec![]), (vec![2], vec![1.0_f32])] {
        let outcome = compare(&shape, Reference::F32(&side), &side);
        let record = TapRecord::measured(header("a", "out", Mode::Cumulative), outcome, FLOORS, K);
        assert!(matches!(record.failure, Some(Failure::NotComparable { .. })));
        assert!(!record.passed() && !record.compared());
    }
    let senseless = Floors { torch: f64::NAN, ..FLOORS };
    let outcome = compare(&[1], Reference::F32(&[1.0]), &[1.0]);
    let record = TapRecord::measured(header("a", "out", Mode::Cumulative), outcome, senseless, K);
    assert_eq!(record.failure, Some(Failure::ToleranceExceeded), "no floor, no pass");
}

#[test]
fn choices_and_integers_decide_by_themselves() {
    let h = || header("gate", "out", Mode::Isolated);
    assert!(TapRecord::chosen(h(), compare_sets(1, 2, &[1, 2], &[2, 1], None)).passed());
    let record = TapRecord::chosen(h(), compare_sets(1, 2, &[1, 2], &[2, 3], None));
    assert_eq!(record.failure, Some(Failure::ChoicesDiffer { rows: 1 }));
    assert!(!TapRecord::chosen(h(), compare_sets(0, 2, &[], &[], None)).passed());
    assert!(TapRecord::exact(h(), compare_exact(&[2], &[1, 2], &[1, 2])).passed());
    let record = TapRecord::exact(h(), compare_exact(&[2], &[1, 2], &[2, 1]));
    assert_eq!(record.failure, Some(Failure::ValuesDiffer { elements: 2 }));
    assert!(!TapRecord::exact(h(), compare_exact(&[0], &[], &[])).passed());
}

#[test]
fn a_summary_passes_only_if_all_pass_in_every_mode_asked_for() {
    assert_eq!(of(&passing_pair(), 1).verdict, Verdict::Pass);
    assert_eq!(of(&passing_pair()[..1], 1).verdict, Verdict::NothingCompared, "isolated is empty");
    assert_eq!(of(&[], 0).verdict, Verdict::NothingCompared);
    assert_eq!(Summary::empty().verdict, Verdict::NothingCompared);
    for failure in [
        Failure::Missing,
        Failure::Extra,
        Failure::ShapeMismatch { expected: vec![2], found: vec![3] },
        Failure::DtypeMismatch { expected: "f32".to_owned(), found: "bf16".to_owned() },
        Failure::RunFailed { message: "no".to_owned() },
    ] {
        let mut taps = passing_pair();
        taps.push(TapRecord::failed(header("b", "out", Mode::Isolated), failure.clone()));
        let points = if failure == Failure::Extra { 1 } else { 2 };
        let summary = of(&taps, points);
        assert_eq!(summary.verdict, Verdict::Fail, "{failure}");
        assert_eq!(summary.points_unaccounted, 0);
        assert_eq!(summary.isolated, ModeCounts { taps: 2, compared: 1, passed: 1, failed: 1 });
    }
}

#[test]
fn a_point_that_is_lost_silently_fails_unless_it_is_listed() {
    let summary = of(&passing_pair(), 2);
    assert_eq!((summary.verdict, summary.points_unaccounted), (Verdict::Fail, 1));
    let listed = NotCompared {
        point: "b".to_owned(),
        call: 0,
        kind: "out".to_owned(),
        mode: None,
        reason: "not mapped".to_owned(),
    };
    let points = Points { recorded: 2, mapped: 1 };
    let summary = Summary::of(&BOTH, &passing_pair(), &[listed], points);
    assert_eq!((summary.verdict, summary.points_unmapped), (Verdict::Pass, 1));
    // An extra tap does not stand in for a recorded one.
    let mut taps = passing_pair();
    taps.push(TapRecord::failed(header("x", "out", Mode::Isolated), Failure::Extra));
    assert_eq!(of(&taps, 2).points_unaccounted, 1);
}

#[test]
fn the_first_failures_and_the_worst_are_named() {
    let taps = vec![
        tap("a", "out", Mode::Cumulative, 1e-6),
        tap("b", "out", Mode::Cumulative, 1e-3),
        tap("c", "out", Mode::Cumulative, 0.5),
        tap("d", "out", Mode::Cumulative, f64::NAN),
        tap("b", "out", Mode::Isolated, 0.0),
        tap("c", "out", Mode::Isolated, 1e-2),
    ];
    let summary = of(&taps, 4);
    let name = |tap: Option<TapRef>| tap.map(|tap| tap.point);
    assert_eq!(name(summary.first_divergence).as_deref(), Some("b"));
    assert_eq!(name(summary.first_isolated_failure).as_deref(), Some("c"));
    let worst: Vec<_> = summary.worst.iter().map(|tap| (tap.point.as_str(), tap.mode)).collect();
    let (cumulative, isolated) = (Mode::Cumulative, Mode::Isolated);
    assert_eq!(worst, [("d", cumulative), ("c", cumulative), ("c", isolated), ("b", cumulative), ("a", cumulative)]);
}

#[test]
fn a_negative_nan_ratio_is_worst_too() {
    let mut taps = vec![tap("a", "out", Mode::Cumulative, 0.5), tap("b", "out", Mode::Cumulative, 0.0)];
    taps[1].ratio = Some(-f64::NAN);
    assert_eq!(worst(&taps, 1)[0].point, "b");
}

#[test]
fn amplification_is_own_error_over_inherited_error() {
    let mut taps = vec![
        tap("m", "in", Mode::Cumulative, 2.0_f64.powi(-10)),
        tap("m", "in1", Mode::Cumulative, 2.0_f64.powi(-12)),
        tap("m", "out", Mode::Cumulative, 2.0_f64.powi(-8)),
        tap("m", "out", Mode::Isolated, 2.0_f64.powi(-7)),
        tap("clean", "in", Mode::Cumulative, 0.0),
        tap("clean", "out", Mode::Isolated, 0.5),
        tap("nan", "in", Mode::Cumulative, 0.5),
        tap("nan", "out", Mode::Isolated, f64::NAN),
        tap("alone", "out", Mode::Isolated, 0.5),
    ];
    fill_amplification(&mut taps);
    let found: Vec<_> = taps.iter().map(|tap| tap.amplification).collect();
    assert_eq!(found, [None, None, Some(8.0), Some(8.0), None, None, None, None, None]);
    // The same input, found elsewhere: the output of another module. One that is not there leaves none.
    fill_amplification_with(&mut taps, |output| {
        let point = if output.point == "alone" { "m" } else { "nowhere" };
        vec![TapId { point: point.to_owned(), call: 0, kind: "in".to_owned() }]
    });
    assert_eq!(taps[8].amplification, Some(512.0));
    assert_eq!(taps[3].amplification, None);
}

#[test]
fn a_sound_record_is_sound_even_with_nan() {
    let mut taps = passing_pair();
    taps.push(tap("b", "out", Mode::Isolated, f64::NAN));
    taps.push(TapRecord::failed(header("c", "out", Mode::Isolated), Failure::Missing));
    assert_eq!(run(taps, 3).check(), []);
}

#[test]
fn forged_records_are_caught() {
    let honest = || {
        let mut taps = passing_pair();
        taps.push(tap("b", "out", Mode::Isolated, 0.5));
        run(taps, 2)
    };
    type Forgery = fn(&mut Run);
    let forgeries: [(&str, Forgery); 11] = [
        ("schema", |run| run.schema = 2),
        ("yet it failed", |run| run.taps[2].status = Status::Pass),
        ("yet error", |run| {
            run.taps[2].status = Status::Pass;
            run.taps[2].failure = None;
        }),
        ("yet nothing was compared", |run| run.taps[0].metrics = None),
        ("without floors", |run| run.taps[0].tolerance = None),
        ("expected k", |run| run.taps[2].tolerance = Some(Tolerance { floor: 1.0, k: 4.0, value: 4.0 })),
        ("expected k", |run| run.k = 1e6),
        ("ratio", |run| run.taps[2].ratio = Some(0.1)),
        ("elements compared", |run| run.taps[0].shape = vec![3]),
        ("no failure is named", |run| run.taps[0].status = Status::Fail),
        ("summary", |run| run.summary.verdict = Verdict::Pass),
    ];
    assert_eq!(honest().check(), []);
    for (expected, forge) in forgeries {
        let mut run = honest();
        forge(&mut run);
        let found: Vec<String> = run.check().iter().map(ToString::to_string).collect();
        assert!(found.iter().any(|violation| violation.contains(expected)), "{expected}: {found:?}");
    }
    // Forged numbers with all the rest made to fit: a NaN, and no element at all.
    for forge in [(|run| run.taps[0].metrics.as_mut().expect("measured").rel_rms = f64::NAN) as Forgery, |run| {
        run.taps[0].metrics.as_mut().expect("measured").finite.candidate_nonfinite = 1
    }] {
        let mut run = honest();
        forge(&mut run);
        assert!(run.check().iter().any(|violation| violation.to_string().contains("taps[0]")));
    }
}

#[test]
fn an_expected_dropped_tap_cannot_hide_in_a_reread_record() {
    let mut run = run(passing_pair(), 1);
    run.taps.remove(0);
    assert!(!run.check().is_empty());
}

#[test]
fn repeats_that_disagree_are_a_verdict_of_their_own_and_a_failure_is_kept() {
    let passing = || run(passing_pair(), 1);
    let same = passing().repeated(passing());
    assert_eq!((same.summary.verdict, same.repeats.as_ref().map(|r| r.count)), (Verdict::Pass, Some(2)));
    assert!(same.check().is_empty());

    let failing = || run(vec![tap("a", "out", Mode::Cumulative, 0.0), tap("a", "out", Mode::Isolated, 1.0)], 1);
    for record in [passing().repeated(failing()), failing().repeated(passing())] {
        assert_eq!(record.summary.verdict, Verdict::Nondeterministic);
        assert_eq!(record.summary.isolated.failed, 1, "the failing run is the one that is kept");
        let repeats = record.repeats.clone().expect("repeated");
        assert_eq!(repeats.disagreeing.len(), 1);
        assert_eq!(repeats.disagreeing[0].mode, Mode::Isolated);
        assert!(record.check().is_empty());
        // A third run that agrees with either changes nothing of that.
        assert_eq!(record.repeated(passing()).summary.verdict, Verdict::Nondeterministic);
    }
    let failed_alike = failing().repeated(failing());
    assert_eq!(failed_alike.summary.verdict, Verdict::Fail);

    let mut shorter = passing();
    shorter.taps.pop();
    assert_eq!(passing().repeated(shorter).summary.verdict, Verdict::Nondeterministic, "a tap that is there once");
}

#[test]
fn every_thing_is_in_one_share() {
    for (len, count) in [(0, 1), (1, 3), (10, 3), (7, 7), (5, 8)] {
        let ranges = (1..=count).map(|index| crate::Shard { index, count }.range(len));
        assert_eq!(ranges.flatten().collect::<Vec<_>>(), (0..len).collect::<Vec<_>>());
    }
    assert_eq!("2/3".parse(), Ok(crate::Shard { index: 2, count: 3 }));
}
