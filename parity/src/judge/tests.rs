//! What a judge says of single candidates: the recording itself, and what differs from it in one way.

use std::path::Path;

use mlxport_verdict::Precision;

use super::*;

/// A recording of the repository.
pub(crate) fn fixture() -> Fixture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/data/tiny-grid");
    Fixture::open(path).expect("a recording")
}

/// A judge of float32 runs that knows no module.
pub(crate) fn judge<'a>(fixture: &'a Fixture, modules: &'a BTreeMap<&'a str, &'a dyn Module>) -> Judge<'a> {
    let basis = Basis { precision: Precision::F32, quantized: None };
    Judge::new(fixture, modules, Calibration::new(Dtype::Float32, 1), (basis, 4.0)).expect("a judge")
}

/// The first point whose every element is kept, of this kind of dtype.
pub(crate) fn point(fixture: &Fixture, is_float: bool) -> &Point {
    let whole = |point: &&Point| point.sampling.is_none() && point.dtype.is_float() == is_float && !point.sets;
    let mut points = fixture.points().iter().filter(whole);
    points.find(|point| !is_float || point.noise_floor.rms > 0.0).expect("such a point")
}

/// What PyTorch recorded there, as MLX holds it.
pub(crate) fn recorded(fixture: &Fixture, point: &Point) -> Array {
    host::array(&fixture.recorded(point).expect("read"), Dtype::Float32).expect("an array")
}

#[test]
fn the_recording_itself_passes_in_every_mode() {
    let (fixture, modules) = (fixture(), BTreeMap::new());
    let mut judge = judge(&fixture, &modules);
    for is_float in [true, false] {
        let point = point(&fixture, is_float);
        let value = recorded(&fixture, point);
        for mode in [Mode::Cumulative, Mode::Tuned, Mode::Isolated] {
            let record = judge.judge(point, mode, &value, None).expect("judged");
            assert!(record.passed(), "{} in {mode}: {:?}", point.id(), record.failure);
        }
        let record = judge.judge(point, Mode::Isolated, &value, None).expect("judged");
        assert_eq!(record.error(), is_float.then_some(0.0), "isolated runs are held against the float32 recording");
    }
}

#[test]
fn values_off_by_more_than_floors_fail_and_say_how() {
    let (fixture, modules) = (fixture(), BTreeMap::new());
    let mut judge = judge(&fixture, &modules);
    let point = point(&fixture, true);
    let value = recorded(&fixture, point) * Array::from_f32(1.25);
    let record = judge.judge(point, Mode::Isolated, &value, None).expect("judged");
    assert_eq!(record.failure, Some(Failure::ToleranceExceeded));
    assert!((record.error().expect("an error") - 0.25).abs() < 1e-6, "{:?}", record.error());
    assert!(record.hints.iter().any(|hint| format!("{hint:?}").contains("1.25")), "{:?}", record.hints);
}

#[test]
fn only_the_first_failures_of_a_mode_are_looked_into() {
    let (fixture, modules) = (fixture(), BTreeMap::new());
    let mut judge = judge(&fixture, &modules);
    let point = point(&fixture, true);
    let wrong = recorded(&fixture, point) * Array::from_f32(2.0);
    let mut seen = Vec::new();
    for mode in [Mode::Isolated, Mode::Cumulative] {
        for _ in 0..=HINTED_FAILURES {
            judge.judge(point, mode, &wrong, None).expect("judged");
            seen.push(judge.has_looked_into_it());
        }
    }
    assert_eq!(seen, [true, true, true, false, true, true, true, false]);
}

#[test]
fn another_shape_and_another_dtype_are_told_as_such() {
    let (fixture, modules) = (fixture(), BTreeMap::new());
    let mut judge = judge(&fixture, &modules);
    let (float, whole) = (point(&fixture, true), point(&fixture, false));
    let flat = recorded(&fixture, float).reshape(&[-1]).expect("flat").expand_dims(0).expect("an axis more");
    let record = judge.judge(float, Mode::Cumulative, &flat, None).expect("judged");
    assert!(matches!(record.failure, Some(Failure::ShapeMismatch { .. })), "{:?}", record.failure);
    let integers = recorded(&fixture, float).as_dtype(Dtype::Int32).expect("integers");
    let floats = recorded(&fixture, whole).as_dtype(Dtype::Float32).expect("floats");
    for (point, value) in [(float, integers), (whole, floats)] {
        let record = judge.judge(point, Mode::Cumulative, &value, None).expect("judged");
        assert!(matches!(record.failure, Some(Failure::DtypeMismatch { .. })), "{:?}", record.failure);
    }
}

#[test]
fn whole_numbers_must_be_equal() {
    let (fixture, modules) = (fixture(), BTreeMap::new());
    let mut judge = judge(&fixture, &modules);
    let point = point(&fixture, false);
    let other = recorded(&fixture, point).as_dtype(Dtype::Int32).expect("integers") + Array::from_int(1);
    assert!(!judge.judge(point, Mode::Cumulative, &other, None).expect("judged").passed());
}

#[test]
fn nan_is_no_pass() {
    let (fixture, modules) = (fixture(), BTreeMap::new());
    let mut judge = judge(&fixture, &modules);
    let point = point(&fixture, true);
    let value = recorded(&fixture, point) * Array::from_f32(f32::NAN);
    let record = judge.judge(point, Mode::Cumulative, &value, None).expect("judged");
    assert!(matches!(record.failure, Some(Failure::NonFinite { .. })), "{:?}", record.failure);
}

#[test]
fn places_are_counted_along_every_axis() {
    assert_eq!(coordinate(0, &[2, 3, 4]), [0, 0, 0]);
    assert_eq!(coordinate(23, &[2, 3, 4]), [1, 2, 3]);
    assert_eq!(coordinate(13, &[2, 3, 4]), [1, 0, 1]);
}
