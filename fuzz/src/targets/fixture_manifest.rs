//! A fixture's manifest.json beside small recordings. Input: its text.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};

use mlxport_fixtures::{Fixture, FixtureError};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::place;

/// Names, dtypes, shapes and bytes per element of the inputs that every fixture has.
const INPUTS: [(&str, &str, &[usize], usize); 5] = [
    ("input_ids", "I64", &[1, 2], 8),
    ("images_seq_mask", "BOOL", &[1, 2], 1),
    ("images_spatial_crop", "I64", &[1, 2], 8),
    ("images_ori", "F32", &[1, 3, 2, 2], 4),
    ("images_crop", "F32", &[0, 3, 2, 2], 4),
];

/// What was recorded; the seeds' points name these.
const RECORDED: [(&str, &str, &[usize], usize); 4] = [
    ("a", "F32", &[2, 3], 4),
    ("b", "I64", &[4], 8),
    ("lm_head", "F32", &[16, 2], 4),
    ("logits_last8", "F32", &[8, 2], 4),
];

/// The same in float64.
const TRUTH: [(&str, &str, &[usize], usize); 2] = [("a", "F64", &[2, 3], 8), ("b", "I64", &[4], 8)];

static PLACE: LazyLock<Mutex<TempDir>> = LazyLock::new(|| {
    let place = place::directory();
    let files: [(&str, &[_]); 4] = [
        ("inputs.safetensors", &INPUTS),
        ("activations.safetensors", &RECORDED),
        ("truth.safetensors", &TRUTH),
        ("samples.safetensors", &RECORDED),
    ];
    for (name, tensors) in files {
        place::write(&place.path().join(name), &zeros(tensors));
    }
    Mutex::new(place)
});

/// Opens the fixture, and reads every point of a sound one.
pub fn run(data: &[u8]) {
    let place = PLACE.lock().unwrap_or_else(PoisonError::into_inner);
    place::write(&place.path().join("manifest.json"), data);
    match Fixture::open(place.path()) {
        Ok(fixture) => check(&fixture),
        Err(FixtureError::Invalid { violations, .. }) => {
            assert!(!violations.is_empty(), "refused without a reason");
            for violation in &violations {
                assert!(violation.len() < 20_000, "a message of {} bytes", violation.len());
            }
        }
        Err(other) => panic!("opening says more than what is invalid: {other}"),
    }
}

fn check(fixture: &Fixture) {
    let mut ids = HashSet::new();
    assert!(!fixture.points().is_empty(), "nothing to compare");
    for point in fixture.points() {
        assert!(ids.insert(point.id()), "{} twice", point.id());
        assert!(!point.id().chars().any(char::is_control), "{:?}", point.id());
        let recorded = fixture.recorded(point).expect("zeros are finite, and the header was checked");
        assert_eq!(recorded.data.len(), recorded.shape.iter().product::<usize>());
        assert_eq!(recorded.data.dtype(), point.dtype.in_memory());
        if point.sampling.is_none() {
            assert_eq!(recorded.shape, point.shape);
        }
        if let Some(truth) = fixture.truth(point).expect("zeros are finite, and the header was checked") {
            assert_eq!(truth.shape, recorded.shape, "{}", point.id());
        }
    }
}

/// A safetensors file of zeros.
fn zeros(tensors: &[(&str, &str, &[usize], usize)]) -> Vec<u8> {
    let (mut header, mut end) = (Map::new(), 0);
    for (name, dtype, shape, byte_len) in tensors {
        let begin = end;
        end += shape.iter().product::<usize>() * byte_len;
        header.insert((*name).to_owned(), json!({ "dtype": dtype, "shape": shape, "data_offsets": [begin, end] }));
    }
    let header = Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + end, 0);
    bytes
}
