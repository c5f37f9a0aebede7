//! Known values, the strict cases, and the invariants of the metrics.

use proptest::prelude::*;

use super::*;

fn f64s(shape: &[usize], reference: &[f64], candidate: &[f32]) -> Metrics {
    compare(shape, Reference::F64(reference), candidate).expect("comparable")
}

#[test]
fn known_values() {
    // Errors 0, 0.5, 0, -2 over a reference of RMS √7.5.
    let metrics = f64s(&[2, 2], &[1.0, 2.0, 3.0, 4.0], &[1.0, 2.5, 3.0, 2.0]);
    assert_eq!(metrics.numel, 4);
    assert_eq!(metrics.ref_rms, 7.5_f64.sqrt());
    assert_eq!(metrics.error_rms, (4.25_f64 / 4.0).sqrt());
    assert_eq!(metrics.rel_rms, metrics.error_rms / metrics.ref_rms);
    assert_eq!(metrics.worst_row, WorstRow { row: vec![1], rel_l2: 2.0 / 5.0 });
    assert_eq!(metrics.max_abs.coordinate, [1, 1]);
    assert_eq!(metrics.max_abs.value, 2.0);
    assert_eq!(metrics.max_abs.over_ref_rms, 2.0 / 7.5_f64.sqrt());
    assert!(metrics.all_finite());
}

#[test]
fn f32_and_f64_references_of_the_same_values_agree() {
    let (reference, candidate) = ([1.0_f32, -2.5, 0.25], [1.5_f32, -2.5, 0.0]);
    let wide = reference.map(f64::from);
    let narrow = compare(&[3], Reference::F32(&reference), &candidate).expect("comparable");
    assert_eq!(narrow, f64s(&[3], &wide, &candidate));
}

#[test]
fn a_scalar_and_a_vector_have_one_row() {
    let metrics = f64s(&[], &[2.0], &[1.0]);
    assert_eq!((metrics.worst_row.row.len(), metrics.max_abs.coordinate.len()), (0, 0));
    assert_eq!(metrics.rel_rms, 0.5);
    assert_eq!(f64s(&[2], &[2.0, 0.0], &[1.0, 0.0]).worst_row, WorstRow { row: vec![], rel_l2: 0.5 });
}

#[test]
fn an_empty_comparison_is_an_error() {
    for shape in [&[0][..], &[0, 3], &[2, 0, usize::MAX]] {
        let error = compare::<f32>(shape, Reference::F32(&[]), &[]).expect_err("empty");
        assert!(matches!(error, CompareError::Empty { .. }), "{error}");
    }
}

#[test]
fn lengths_that_do_not_fit_are_errors() {
    let six = [0.0; 6];
    let error = compare(&[2, 2], Reference::F32(&six), &six[..4]).expect_err("6 of 4");
    assert_eq!(error.to_string(), "shape [2, 2] asks for 4 elements, the reference has 6");
    let error = compare(&[2, 3], Reference::F32(&six), &six[..4]).expect_err("4 of 6");
    assert_eq!(error.to_string(), "shape [2, 3] asks for 6 elements, the candidate has 4");
    let error = compare(&[usize::MAX, 2], Reference::F32(&six), &six).expect_err("overflow");
    assert!(error.to_string().contains("too many"), "{error}");
    assert!(compare::<f32>(&[], Reference::F32(&[]), &[]).is_err(), "a scalar has one element");
}

#[test]
fn nan_or_inf_on_any_side_leaves_no_number_to_pass() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let (clean, dirty) = ([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, bad, 4.0]);
        let cases = [(clean, dirty, 0, 1, false), (dirty, clean, 1, 0, false), (dirty, dirty, 1, 1, true)];
        for (reference, candidate, in_reference, in_candidate, equal) in cases {
            let metrics = compare(&[2, 2], Reference::F32(&reference), &candidate).expect("comparable");
            assert_eq!(
                metrics.finite,
                Finite { reference_nonfinite: in_reference, candidate_nonfinite: in_candidate, masks_equal: equal }
            );
            assert!(!metrics.all_finite());
            for value in [metrics.rel_rms, metrics.error_rms, metrics.worst_row.rel_l2, metrics.max_abs.value] {
                assert!(value.is_nan());
            }
            assert_eq!(metrics.max_abs.coordinate, [1, 0]);
            assert_eq!(metrics.worst_row.row, [1]);
        }
    }
}

#[test]
fn an_all_zero_reference_passes_only_an_exact_zero() {
    assert_eq!(f64s(&[2], &[0.0; 2], &[0.0, -0.0]).rel_rms, 0.0);
    let metrics = f64s(&[2], &[0.0; 2], &[0.0, 1e-30]);
    assert_eq!(metrics.rel_rms, f64::INFINITY);
    assert_eq!(metrics.max_abs.over_ref_rms, f64::INFINITY);
    assert_eq!(metrics.worst_row.rel_l2, f64::INFINITY);
    // So small that its square is 0: still not an exact match.
    assert_eq!(f64s(&[1], &[1e-200], &[0.0]).rel_rms, f64::INFINITY);
}

#[test]
fn values_whose_squares_overflow_do_not_pass() {
    let metrics = f64s(&[2], &[1e200, 1.0], &[1.0, 1.0]);
    assert!(metrics.all_finite());
    assert!(metrics.rel_rms.is_nan() && metrics.worst_row.rel_l2.is_nan());
}

#[test]
fn a_nearly_empty_row_does_not_hide_the_row_that_matters() {
    // Row 0 is noise on nothing (its own relative error is 1); row 1 is off by 10 %.
    let metrics = f64s(&[2, 2], &[1e-9, 1e-9, 1.0, 1.0], &[0.0, 0.0, 1.1, 1.0]);
    assert_eq!(metrics.worst_row.row, [1]);
}

#[test]
fn float32_rounding_is_seen_and_sums_do_not_drift() {
    // A million elements, each off by exactly one part in 2^20: single-precision sums would lose it.
    let reference = vec![1.0_f64; 1 << 20];
    let candidate = vec![1.0 + 2.0_f32.powi(-20); 1 << 20];
    assert_eq!(f64s(&[1 << 10, 1 << 10], &reference, &candidate).rel_rms, 2.0_f64.powi(-20));
}

/// Values with a few exact zeros and a wide range, as rows of `columns`.
fn tensor() -> impl Strategy<Value = (usize, Vec<f32>, Vec<f32>)> {
    (1_usize..6, 1_usize..9).prop_flat_map(|(columns, rows)| {
        let values = prop::collection::vec(-1e3_f32..1e3, columns * rows);
        (Just(columns), values.clone(), values)
    })
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12 * a.abs().max(b.abs()) || a == b
}

proptest! {
    #[test]
    fn scaling_both_sides_changes_nothing_relative((columns, r, c) in tensor(), power in -20_i32..20) {
        // Powers of two scale floats exactly.
        let scale = 2.0_f32.powi(power);
        let scaled = |values: &[f32]| values.iter().map(|v| v * scale).collect::<Vec<_>>();
        let shape = [r.len() / columns, columns];
        let a = compare(&shape, Reference::F32(&r), &c).expect("comparable");
        let b = compare(&shape, Reference::F32(&scaled(&r)), &scaled(&c)).expect("comparable");
        prop_assert!(close(a.rel_rms, b.rel_rms));
        prop_assert!(close(a.worst_row.rel_l2, b.worst_row.rel_l2));
        prop_assert!(close(a.max_abs.over_ref_rms, b.max_abs.over_ref_rms));
        prop_assert_eq!(a.max_abs.coordinate, b.max_abs.coordinate);
    }

    #[test]
    fn the_order_of_rows_does_not_matter((columns, r, c) in tensor(), turn in 0_usize..9) {
        let rows = r.len() / columns;
        let turned = |values: &[f32]| {
            let mut values = values.to_vec();
            values.rotate_left(turn % rows * columns);
            values
        };
        let a = compare(&[rows, columns], Reference::F32(&r), &c).expect("comparable");
        let b = compare(&[rows, columns], Reference::F32(&turned(&r)), &turned(&c)).expect("comparable");
        prop_assert!(close(a.rel_rms, b.rel_rms));
        prop_assert!(close(a.worst_row.rel_l2, b.worst_row.rel_l2));
        prop_assert_eq!(a.max_abs.value, b.max_abs.value);
    }

    #[test]
    fn what_is_reported_is_what_is_there((columns, r, c) in tensor()) {
        let m = compare(&[r.len() / columns, columns], Reference::F32(&r), &c).expect("comparable");
        let errors: Vec<f64> = r.iter().zip(&c).map(|(r, c)| (f64::from(*c) - f64::from(*r)).abs()).collect();
        let at = m.max_abs.coordinate[0] * columns + m.max_abs.coordinate[1];
        prop_assert_eq!(errors[at], m.max_abs.value);
        prop_assert!(errors.iter().all(|error| *error <= m.max_abs.value));
        prop_assert!(m.error_rms <= m.max_abs.value * (1.0 + 1e-12));
        prop_assert_eq!(m.rel_rms == 0.0, r == c);
    }

    #[test]
    fn one_bad_element_anywhere_is_found((columns, r, mut c) in tensor(), at in any::<prop::sample::Index>()) {
        let at = at.index(c.len());
        c[at] = f32::NAN;
        let m = compare(&[r.len() / columns, columns], Reference::F32(&r), &c).expect("comparable");
        prop_assert!(m.rel_rms.is_nan());
        prop_assert_eq!(m.finite.candidate_nonfinite, 1);
        prop_assert_eq!(m.max_abs.coordinate, vec![at / columns, at % columns]);
    }
}
