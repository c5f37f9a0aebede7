//! Single operations against what PyTorch computed (`testdata/operations.safetensors`, recorded from the release's
//! `deepencoder.py`): position tables at other sizes, relative positions, windows.

use std::{collections::HashMap, path::Path};

use approx::{assert_abs_diff_eq, assert_abs_diff_ne};
use mlx_rs::{Array, Dtype};
use mlxport_model::{
    backend::resample::{Bicubic, LinearMode, bicubic_table, linear_rows},
    contract::{At, Step, Steps},
    steps::Plain,
};

type Recorded = HashMap<String, Array>;

fn recorded() -> Recorded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/operations.safetensors");
    Array::load_safetensors(path).expect("recorded operations")
}

fn floats(array: &Array) -> Vec<f32> {
    let array = array.contiguous().expect("contiguous");
    array.try_as_slice::<f32>().expect("float32").to_vec()
}

/// How far apart single values may be: `TOLERANCE` of the largest one.
fn bound(want: &Array) -> f32 {
    TOLERANCE * floats(want).iter().fold(0.0_f32, |most, value| most.max(value.abs()))
}

/// Four ulps: what two float32 sums in different order are apart.
const TOLERANCE: f32 = 4.0 * f32::EPSILON;

#[test]
fn sam_tables_are_resampled_as_pytorch_does() {
    let all = recorded();
    for (name, size) in [("16to10", 10), ("16to20", 20), ("12to8", 8), ("7to13", 13)] {
        let (table, want) = (&all[&format!("sam_pos_embed/{name}/in")], &all[&format!("sam_pos_embed/{name}/out")]);
        let got = bicubic_table(table, size, Bicubic::Antialias, Dtype::Float32).expect("resampled");
        assert_eq!(got.shape(), want.shape(), "{name}");
        assert_abs_diff_eq!(floats(&got)[..], floats(want)[..], epsilon = bound(want));
        let plain = bicubic_table(table, size, Bicubic::Plain, Dtype::Float32).expect("resampled");
        assert_abs_diff_ne!(floats(&plain)[..], floats(want)[..], epsilon = 1e-2);
    }
}

#[test]
fn a_table_of_the_right_size_is_left_alone() {
    let all = recorded();
    let table = &all["sam_pos_embed/12to8/in"];
    let same = bicubic_table(table, 12, Bicubic::Antialias, Dtype::Float32).expect("resampled");
    assert_eq!(floats(&same), floats(table));
}

#[test]
fn relative_positions_are_resized_and_looked_up_as_pytorch_does() {
    let all = recorded();
    for (name, size) in [("127to40", 40), ("15to5", 5), ("27to14", 14)] {
        let (rows, want) = (&all[&format!("rel_pos/{name}/in")], &all[&format!("rel_pos/{name}/out")]);
        let rows = linear_rows(rows, 2 * size - 1, LinearMode::HalfPixels, Dtype::Float32).expect("resized");
        let offsets: Vec<i32> = (0..size).flat_map(|q| (0..size).map(move |k| q - k + size - 1)).collect();
        let got = rows.take_axis(Array::from_slice(&offsets, &[size, size]), 0).expect("looked up");
        assert_eq!(got.shape(), want.shape(), "{name}");
        assert_abs_diff_eq!(floats(&got)[..], floats(want)[..], epsilon = bound(want));
    }
}

#[test]
fn windows_are_cut_as_pytorch_does_and_joined_again() {
    let all = recorded();
    for (name, size) in [("5_12x8", 5), ("3_9x9", 3)] {
        let (image, want) = (&all[&format!("window/{name}/in")], &all[&format!("window/{name}/out")]);
        let run = |step| Plain.run(At { path: "", name: "" }, step).expect("windows");
        let windows = run(Step::Cut { x: image, size });
        assert_eq!(windows.shape(), want.shape(), "{name}");
        assert_eq!(floats(&windows), floats(want), "{name}");
        let joined = run(Step::Mend { windows: &windows, image: [image.dim(0), image.dim(1), image.dim(2)] });
        assert_eq!((joined.shape(), floats(&joined)), (image.shape(), floats(image)), "{name}");
    }
}
