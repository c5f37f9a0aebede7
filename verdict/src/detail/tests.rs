//! What a detail says of tensors whose look is known, and which ones are kept.

use proptest::prelude::*;

use super::*;
use crate::{Floors, Header, Mode, ReferenceKind, TapId, TapRecord, compare};

#[test]
fn statistics_are_of_the_finite_elements() {
    let stats = Stats::of([1.0, 3.0, 0.0, f64::NAN, f64::INFINITY].into_iter());
    assert_eq!((stats.min, stats.max, stats.zeros, stats.nonfinite), (0.0, 3.0, 1, 2));
    assert!((stats.mean - 4.0 / 3.0).abs() < 1e-15 && (stats.std - (14.0_f64 / 9.0).sqrt()).abs() < 1e-15);
    assert!((stats.rms() - (10.0_f64 / 3.0).sqrt()).abs() < 1e-15);
    assert!(Stats::of([f64::NAN].into_iter()).mean.is_nan());
    let far: Vec<f64> = (0..1000).map(|i| 1e9 + f64::from(i % 2)).collect();
    assert!((Stats::of(far.into_iter()).std - 0.5).abs() < 1e-9, "nothing cancels");
}

#[test]
fn a_histogram_has_a_bin_for_each_half_power_of_ten() {
    let histogram = Histogram::of([0.0, 2e-7, 2e-7, 5e-7, 2e-5, f64::NAN].into_iter(), 1.0);
    assert_eq!((histogram.exact, histogram.unmeasured), (1, 1));
    assert_eq!((histogram.first_half_decade, &histogram.counts[..]), (-14, &[2, 1, 0, 0, 1][..]));
    assert_eq!(histogram.violations(6), None);
    assert!(histogram.violations(7).is_some());
    let extremes = Histogram::of([1e-300, 1e300].into_iter(), 1.0);
    assert_eq!(extremes.counts.len(), 32);
    assert_eq!(extremes.violations(2), None);
    let of_nothing = Histogram::of([1.0].into_iter(), 0.0);
    assert_eq!((of_nothing.unmeasured, of_nothing.counts.len()), (1, 0));
    assert_eq!(of_nothing.violations(1), None);
}

#[test]
fn a_heatmap_shows_the_axes_along_which_the_error_is_uneven() {
    let shape = [4, 50, 3, 64];
    let count = shape.iter().product();
    // Off at one place of axis 1 and, less, in one half of axis 3; axes 0 and 2 tell nothing.
    let error = |at: usize| {
        let (column, row) = (at % 64, at / (3 * 64) % 50);
        if row == 40 && column >= 32 { 2.0 + column as f64 / 64.0 } else { 0.001 }
    };
    let heatmap = Heatmap::of(&shape, count, error).expect("many elements");
    assert_eq!(heatmap.axes, [1, 3]);
    assert_eq!((heatmap.rows.len(), heatmap.rows[0].len()), (32, 64));
    assert_eq!(heatmap.worst, [40 * 32 / 50, 31]);
    let levels = heatmap.levels().expect("well-formed");
    assert_eq!(levels[heatmap.worst[0]][31], 255);
    assert_eq!(levels[0][0], 1, "what is not zero is seen");
    assert!(heatmap.violations(&shape).is_none());
    assert!(heatmap.violations(&[4, 50, 3, 10]).is_some());
}

#[test]
fn small_even_empty_and_broken_tensors_have_their_place() {
    let even = Heatmap::of(&[2, 2, 3], 12, |_| 0.0).expect("twelve elements");
    assert_eq!((even.axes.as_slice(), even.max, even.rows.concat()), (&[1, 2][..], 0.0, "00".repeat(6)));
    let vector = Heatmap::of(&[1, 100], 100, |at| at as f64).expect("a hundred");
    assert_eq!((vector.axes.as_slice(), vector.rows.len(), vector.worst), (&[1][..], 1, [0, 31]));
    assert!(Heatmap::of(&[1], 1, |_| 1.0).is_none() && Heatmap::of(&[2, 3], 5, |_| 1.0).is_none());
    let broken = Heatmap::of(&[2, 2], 4, |at| if at == 2 { f64::NAN } else { 1.0 }).expect("four");
    assert!(broken.max.is_nan());
    assert_eq!((broken.worst, broken.rows[1].as_str()), ([1, 0], "ffff"));
    let odd = Heatmap { rows: vec!["0".to_owned(), "é".to_owned()], ..broken.clone() };
    assert!(odd.levels().is_none() && odd.violations(&[2, 2]).is_some());
    let outside = Heatmap { worst: [2, 0], ..broken };
    assert!(outside.violations(&[2, 2]).is_some());
}

fn tap(place: usize, mode: Mode, error: f64) -> TapRecord {
    let parts = ["model.sam_model", "layers", "lm_head"];
    let header = Header {
        id: TapId { point: format!("{}.{place}", parts[place % 3]), call: 0, kind: "out".to_owned() },
        mode,
        shape: vec![2],
        dtype: "f32".to_owned(),
        reference: ReferenceKind::Truth,
    };
    let outcome = compare(&[2], Reference::F64(&[1.0, 1.0]), &[1.0 + error, 1.0 - error]);
    TapRecord::measured(header, outcome, Floors { torch: 1e-6, runtime: 0.0, ulp: 0.0 }, 4.0)
}

/// The taps with the details that a run keeps.
fn judged(taps: &[TapRecord]) -> Vec<TapRecord> {
    let mut keeper = Keeper::default();
    let detailed = |tap: &TapRecord| {
        let mut tap = tap.clone();
        if keeper.wants(&tap) {
            tap.detail = Some(Detail::of(Some(&[2]), Reference::F64(&[1.0, 1.0]), &[1.0, 2.0]));
        }
        tap
    };
    let mut taps: Vec<TapRecord> = taps.iter().map(detailed).collect();
    keep(&mut taps);
    taps
}

fn kept(taps: &[TapRecord]) -> Vec<usize> {
    (0..taps.len()).filter(|&at| taps[at].detail.is_some()).collect()
}

#[test]
fn the_first_failures_and_the_worst_of_each_part_are_kept() {
    // 300 taps, passing until the 100th, then failing more and more.
    let taps: Vec<TapRecord> =
        (0..300).map(|at| tap(at, Mode::Isolated, if at < 100 { 1e-8 } else { 1e-3 * at as f64 })).collect();
    let kept = kept(&judged(&taps));
    assert_eq!(kept, (100..112).chain(291..300).collect::<Vec<_>>());
}

#[test]
fn a_lockfile_changes_nothing_of_what_is_kept() {
    let taps: Vec<TapRecord> = (0..30).map(|at| tap(at, Mode::Isolated, 1e-6 * (at % 7) as f64)).collect();
    let mut locked = judged(&taps);
    let before = kept(&locked);
    locked.iter_mut().enumerate().for_each(|(at, tap)| tap.lock_to(1e-9 * at as f64));
    keep(&mut locked);
    assert_eq!(kept(&locked), before);
}

proptest! {
    #[test]
    fn shards_joined_keep_what_one_run_keeps(
        errors in prop::collection::vec(prop_oneof![Just(0.0), Just(1e-6), Just(f64::NAN), 1e-9..1e-2], 1..120),
        cuts in prop::collection::vec(0_usize..120, 0..4),
    ) {
        let taps: Vec<TapRecord> = errors.iter().enumerate().map(|(at, e)| tap(at, Mode::Isolated, *e)).collect();
        let whole = judged(&taps);
        let mut bounds: Vec<usize> = cuts.into_iter().map(|cut| cut.min(taps.len())).chain([0, taps.len()]).collect();
        bounds.sort_unstable();
        let mut joined: Vec<TapRecord> = bounds.windows(2).flat_map(|pair| judged(&taps[pair[0]..pair[1]])).collect();
        keep(&mut joined);
        prop_assert_eq!(kept(&joined), kept(&whole));
    }

    #[test]
    fn a_detail_is_sound_whatever_it_is_of(
        shape in prop::collection::vec(1_usize..40, 1..4),
        seed in any::<u32>(),
    ) {
        let count = shape.iter().product::<usize>();
        let value = |at: usize, salt: u32| f32::from_bits((at as u32).wrapping_mul(2_654_435_761).wrapping_add(seed ^ salt));
        let reference: Vec<f32> = (0..count).map(|at| value(at, 0)).collect();
        let candidate: Vec<f32> = (0..count).map(|at| value(at, 7)).collect();
        let detail = Detail::of(Some(&shape), Reference::F32(&reference), &candidate);
        prop_assert_eq!(detail.violations(&shape, count), Vec::<String>::new());
    }
}
