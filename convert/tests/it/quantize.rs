//! Quantization: against what MLX made of the same numbers (`testdata/quantize/`, recorded by `make_golden.py` there), and what must
//! hold of any grid.

use std::fmt::Write as _;
use std::path::Path;

use mlxport_convert::quantize::{Mode, NotFinite, Quantization, dequantize, first_wrapped_group, quantize};
use proptest::prelude::*;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::BF16];

fn every_quantization() -> Vec<Quantization> {
    let affine = [2, 3, 4, 5, 6, 8].into_iter().flat_map(|bits| {
        [32, 64, 128].map(|group| Quantization::new(Mode::Affine, Some(bits), Some(group)).expect("affine"))
    });
    let others = [Mode::Mxfp4, Mode::Mxfp8, Mode::Nvfp4].map(|mode| Quantization::new(mode, None, None).expect("mode"));
    affine.chain(others).collect()
}

/// Weight, scales, biases.
type Made = [Vec<u8>; 3];

fn buffers(q: Quantization, dtype: Dtype, elements: usize) -> Made {
    let item = dtype.bitsize() / 8;
    let groups = elements / q.group_size() as usize;
    let (scale, bias) = if q.has_biases() { (item, item) } else { (1, 0) };
    [vec![0xa5; elements * q.bits() as usize / 8], vec![0xa5; groups * scale], vec![0xa5; groups * bias]]
}

fn try_quantize(q: Quantization, dtype: Dtype, values: &[u8]) -> Result<Made, NotFinite> {
    let mut made = buffers(q, dtype, values.len() * 8 / dtype.bitsize());
    let [weight, scales, biases] = &mut made;
    quantize(q, dtype, values, weight, scales, biases).map(|()| made)
}

fn quantized(q: Quantization, dtype: Dtype, values: &[u8]) -> Made {
    try_quantize(q, dtype, values).expect("finite values")
}

fn dequantized(q: Quantization, dtype: Dtype, made: &Made, byte_len: usize) -> Vec<u8> {
    let mut out = vec![0xa5; byte_len];
    dequantize(q, dtype, &made[0], &made[1], &made[2], &mut out);
    out
}

fn bytes_of(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    match dtype {
        Dtype::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Dtype::F16 => values.iter().flat_map(|&value| half::f16::from_f32(value).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|&value| half::bf16::from_f32(value).to_le_bytes()).collect(),
    }
}

fn floats_of(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|&raw| f32::from_le_bytes(raw)).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|&raw| half::f16::from_le_bytes(raw).to_f32()).collect(),
        _ => bytes.as_chunks().0.iter().map(|&raw| half::bf16::from_le_bytes(raw).to_f32()).collect(),
    }
}

/// SHA-256 in hexadecimal, every NaN written as the dtype's positive quiet one.
fn digest(dtype: Dtype, bytes: &[u8]) -> String {
    let item = dtype.bitsize() / 8;
    let nan = bytes_of(dtype, &[f32::NAN.copysign(1.0)]);
    let mut hash = Sha256::new();
    for (raw, value) in bytes.chunks_exact(item).zip(floats_of(dtype, bytes)) {
        hash.update(if value.is_nan() { &nan } else { raw });
    }
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string");
        text
    })
}

#[test]
fn the_bytes_are_those_mlx_recorded() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/quantize/golden.safetensors");
    let file = std::fs::read(path).expect("recorded by MLX");
    let golden = SafeTensors::deserialize(&file).expect("safetensors");
    let (_, header) = SafeTensors::read_metadata(&file).expect("safetensors");
    let metadata = header.metadata().as_ref().expect("metadata");
    assert_eq!(metadata["mlx"], "0.32.2");
    let mut compared = 0;
    for (dtype, q) in DTYPES.into_iter().flat_map(|dtype| every_quantization().into_iter().map(move |q| (dtype, q))) {
        let values = golden.tensor(&format!("{dtype:?}/values")).expect("values");
        let key = format!("{dtype:?}/{}-{}-{}", q.mode(), q.bits(), q.group_size());
        let made = quantized(q, dtype, values.data());
        for (name, bytes) in ["weight", "scales", "biases"].into_iter().zip(&made) {
            if name == "biases" && !q.has_biases() {
                continue;
            }
            let want = golden.tensor(&format!("{key}/{name}")).expect("recorded");
            let first = bytes.iter().zip(want.data()).position(|(ours, theirs)| ours != theirs);
            assert_eq!((first, bytes.len()), (None, want.data().len()), "{key}/{name}: first byte that differs");
            let shape: Vec<u64> = values.shape().iter().map(|&len| len as u64).collect();
            let ours = if name == "weight" { q.weight_shape(&shape).expect("shape") } else { q.scales_shape(&shape) };
            assert_eq!(ours, want.shape().iter().map(|&len| len as u64).collect::<Vec<_>>(), "{key}/{name}");
            let item = if name == "weight" { Dtype::U32 } else { q.scales_dtype(dtype) };
            assert_eq!(item, want.dtype(), "{key}/{name}");
        }
        let back = dequantized(q, dtype, &made, values.data().len());
        assert_eq!(digest(dtype, &back), metadata[&key], "{key} dequantized");
        compared += 1;
    }
    assert_eq!(compared, 63);
}

#[test]
fn nan_and_infinity_are_refused_with_their_place() {
    for (dtype, q) in DTYPES.into_iter().flat_map(|dtype| every_quantization().into_iter().map(move |q| (dtype, q))) {
        for (index, value) in [(0, f32::NAN), (131, f32::INFINITY), (255, f32::NEG_INFINITY)] {
            let mut values = vec![0.25; 256];
            values[index] = value;
            let found = try_quantize(q, dtype, &bytes_of(dtype, &values)).expect_err("not finite");
            assert_eq!(found.index, index);
            assert_eq!(found.value.to_bits(), value.to_bits(), "{found}");
        }
    }
    let text = NotFinite { index: 7, value: f32::NEG_INFINITY }.to_string();
    assert_eq!(text, "element 7 is -inf: only finite values can be quantized");
}

#[test]
fn only_what_mlx_has_can_be_asked_for() {
    let said = |mode, bits, group| Quantization::new(mode, bits, group).expect_err("refused");
    assert_eq!(said(Mode::Affine, Some(7), None), "affine quantization has 2, 3, 4, 5, 6 or 8 bits, not 7");
    assert_eq!(
        said(Mode::Mxfp4, Some(8), Some(16)),
        "mxfp4 quantization has 4 bits, not 8; mxfp4 quantization has groups of 32, not of 16"
    );
    assert_eq!(said(Mode::Affine, None, Some(16)), "affine quantization has groups of 32, 64 or 128, not of 16");
    let defaults = [Mode::Affine, Mode::Mxfp4, Mode::Mxfp8, Mode::Nvfp4].map(|mode| {
        let q = Quantization::new(mode, None, None).expect("defaults");
        assert_eq!(mode.to_string().parse(), Ok(mode));
        serde_json::to_string(&q).expect("json")
    });
    assert_eq!(defaults[0], r#"{"group_size":64,"bits":4,"mode":"affine"}"#);
    assert_eq!(defaults[1], r#"{"group_size":32,"bits":4,"mode":"mxfp4"}"#);
    assert_eq!(defaults[2], r#"{"group_size":32,"bits":8,"mode":"mxfp8"}"#);
    assert_eq!(defaults[3], r#"{"group_size":16,"bits":4,"mode":"nvfp4"}"#);
    assert!("Q4".parse::<Mode>().expect_err("no mode").contains("affine, mxfp4, mxfp8 or nvfp4"));
}

#[test]
fn shapes_are_words_and_groups_of_the_last_axis() {
    let q = Quantization::new(Mode::Affine, Some(3), Some(32)).expect("affine");
    assert_eq!(q.weight_shape(&[5, 7, 64]), Ok(vec![5, 7, 6]));
    assert_eq!(q.scales_shape(&[5, 7, 64]), [5, 7, 2]);
    assert_eq!(q.weight_shape(&[2, u64::MAX - 31]), Ok(vec![2, (u64::MAX - 31) / 32 * 3]));
    for shape in [&[64][..], &[], &[4, 33], &[0, 64], &[4, 0]] {
        assert!(q.weight_shape(shape).is_err(), "{shape:?}");
    }
}

#[test]
fn groups_whose_scale_mlx_wraps_are_found() {
    let (four, eight) = (Mode::Mxfp4, Mode::Mxfp8);
    // 6·2⁻¹²⁷ and 448·2⁻¹²⁷ still have a scale; anything smaller has not, unless it is zero.
    for (mode, edge) in [(four, 6.0 * 2_f32.powi(-127)), (eight, 448.0 * 2_f32.powi(-127))] {
        let q = Quantization::new(mode, None, None).expect("mode");
        let mut values = vec![0.0; 96];
        values[40] = edge;
        assert_eq!(first_wrapped_group(q, Dtype::F32, &bytes_of(Dtype::F32, &values)), None);
        values[40] = -edge / 2.0;
        assert_eq!(first_wrapped_group(q, Dtype::F32, &bytes_of(Dtype::F32, &values)), Some(1));
        assert_eq!(first_wrapped_group(q, Dtype::BF16, &bytes_of(Dtype::BF16, &values)), Some(1));
        assert_eq!(first_wrapped_group(q, Dtype::F16, &bytes_of(Dtype::F16, &values)), None);
    }
}

/// Groups of 128 finite floats: a width, and where they lie.
fn weights() -> impl Strategy<Value = Vec<f32>> {
    let group = (-20_i32..12, -3_f32..3.0, prop::collection::vec(-1_f32..1.0, 128));
    let scaled = group.prop_map(|(exponent, shift, values)| {
        values.into_iter().map(|value| (value + shift) * 2_f32.powi(exponent)).collect::<Vec<_>>()
    });
    prop::collection::vec(scaled, 1..4).prop_map(|groups| groups.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// In float32, where storing the grid costs nothing to speak of. Zero is put on the grid exactly, for which the step may shrink: the
    /// far end of the range can then lie up to one step beyond the last code. Everything within the codes' reach is off by half a step.
    #[test]
    fn affine_is_off_by_half_a_step_and_by_one_at_the_far_end(values in weights()) {
        let bytes = bytes_of(Dtype::F32, &values);
        for q in every_quantization().into_iter().filter(Quantization::has_biases) {
            let made = quantized(q, Dtype::F32, &bytes);
            let back = floats_of(Dtype::F32, &dequantized(q, Dtype::F32, &made, bytes.len()));
            let scales = floats_of(Dtype::F32, &made[1]);
            let group_size = q.group_size() as usize;
            for (at, group) in values.chunks(group_size).enumerate() {
                let largest = group.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                // Codes reach from the edge (the bias, or 0) over 2ᵇ − 1 steps.
                let bias = floats_of(Dtype::F32, &made[2])[at];
                let far = bias + scales[at] * ((1 << q.bits()) - 1) as f32;
                let rounding = largest * 4.0 * f32::EPSILON;
                for (value, got) in group.iter().zip(&back[at * group_size..]) {
                    let reached = value.clamp(bias.min(far), bias.max(far));
                    prop_assert!((reached - got).abs() <= scales[at].abs() / 2.0 + rounding, "{q:?}: {value} came back as {got}");
                    prop_assert!((value - got).abs() <= scales[at].abs() + rounding, "{q:?}: {value} came back as {got}");
                }
            }
        }
    }

    /// Bytes do not depend on where a tensor is cut, as long as it is between groups.
    #[test]
    fn pieces_are_the_whole(values in weights(), cut in 0_usize..8) {
        for (dtype, q) in DTYPES.into_iter().flat_map(|dtype| every_quantization().into_iter().map(move |q| (dtype, q))) {
            let bytes = bytes_of(dtype, &values);
            let group = q.group_size() as usize * dtype.bitsize() / 8;
            let (head, tail) = bytes.split_at((cut * group).min(bytes.len()));
            let (whole, head, tail) = (quantized(q, dtype, &bytes), quantized(q, dtype, head), quantized(q, dtype, tail));
            for ((whole, head), tail) in whole.iter().zip(&head).zip(&tail) {
                prop_assert_eq!(whole, &[head.as_slice(), tail].concat());
            }
        }
    }

    /// The scale reaches the largest value, and each value comes back within half a step of its code's format.
    #[test]
    fn tiny_floats_are_off_by_half_a_step_at_most(values in weights()) {
        let bytes = bytes_of(Dtype::F32, &values);
        for (mode, max) in [(Mode::Mxfp4, 6.0_f32), (Mode::Mxfp8, 448.0)] {
            let q = Quantization::new(mode, None, None).expect("mode");
            let made = quantized(q, Dtype::F32, &bytes);
            let back = floats_of(Dtype::F32, &dequantized(q, Dtype::F32, &made, bytes.len()));
            for (at, (value, got)) in values.iter().zip(&back).enumerate() {
                let scale = 2_f32.powi(i32::from(made[1][at / 32]) - 127);
                // E2M1 has one bit of mantissa and steps of ½ near zero, E4M3 three and 2⁻⁹; half a step, relative or absolute.
                let (relative, absolute) = if max == 6.0 { (0.2, 0.25) } else { (1.0 / 17.0, 2_f32.powi(-10)) };
                prop_assert!(value.abs() <= scale * max * (1.0 + f32::EPSILON), "{mode}: the scale does not reach {value}");
                let allowed = (value.abs() * relative).max(scale * absolute) * 1.000_001;
                prop_assert!((value - got).abs() <= allowed, "{mode}: {value} came back as {got}, scale {scale}");
            }
        }
    }
}
