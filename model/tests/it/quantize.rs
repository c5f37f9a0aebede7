//! Quantization without MLX (`mlxport_convert::quantize`) against the MLX that is linked, byte for byte, over many made-up tensors.
//!
//! `convert/tests/it/quantize.rs` holds it against a recording; here the numbers differ with every seed, the scales are searched around
//! every power of two, and codes are dequantized that no weights would have made.

use std::ffi::CString;

use mlx_rs::{Array, Dtype as MlxDtype};
use mlxport_convert::quantize::{Mode, Quantization, dequantize, quantize};
use safetensors::Dtype;

/// Elements of a row: whole groups of every size.
const ROW: usize = 128;

const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::BF16];

fn every_quantization() -> Vec<Quantization> {
    let affine = [2, 3, 4, 5, 6, 8].into_iter().flat_map(|bits| {
        [32, 64, 128].map(|group| Quantization::new(Mode::Affine, Some(bits), Some(group)).expect("affine"))
    });
    let others = [Mode::Mxfp4, Mode::Mxfp8, Mode::Nvfp4].map(|mode| Quantization::new(mode, None, None).expect("mode"));
    affine.chain(others).collect()
}

fn mlx_dtype(dtype: Dtype) -> MlxDtype {
    match dtype {
        Dtype::F32 => MlxDtype::Float32,
        Dtype::F16 => MlxDtype::Float16,
        Dtype::BF16 => MlxDtype::Bfloat16,
        Dtype::U32 => MlxDtype::Uint32,
        _ => MlxDtype::Uint8,
    }
}

/// Bytes as rows of `dtype`.
fn array(bytes: &[u8], rows: usize, dtype: MlxDtype) -> Array {
    let shape = [rows as i32, (bytes.len() / rows) as i32];
    Array::from_slice(bytes, &shape).view_dtype(dtype).expect("a view")
}

fn bytes_of(array: &Array) -> Vec<u8> {
    let bytes = array.view_dtype(MlxDtype::Uint8).expect("a view").contiguous().expect("contiguous");
    bytes.try_as_slice::<u8>().expect("bytes").to_vec()
}

fn optional(value: u32) -> mlx_sys::mlx_optional_int {
    mlx_sys::mlx_optional_int { value: value as i32, has_value: true }
}

/// `mx.quantize` on the CPU: weight, scales, biases (empty where there are none).
#[allow(unsafe_code, reason = "mlx-rs wraps the affine mode only")]
fn mlx_quantize(q: Quantization, weights: &Array) -> [Vec<u8>; 3] {
    let mode = CString::new(q.mode().to_string()).expect("no NUL");
    // SAFETY: every handle is made here or borrowed from a living array, and freed here or owned by an `Array`; codes are checked.
    let arrays = unsafe {
        let (stream, none) = (mlx_sys::mlx_default_cpu_stream_new(), mlx_sys::mlx_array_new());
        let mut made = mlx_sys::mlx_vector_array_new();
        let (group, bits) = (optional(q.group_size()), optional(q.bits()));
        let code = mlx_sys::mlx_quantize(&mut made, weights.as_ptr(), group, bits, mode.as_ptr(), none, stream);
        assert_eq!(code, 0, "mx.quantize");
        let arrays = (0..mlx_sys::mlx_vector_array_size(made)).map(|at| {
            let mut one = mlx_sys::mlx_array_new();
            assert_eq!(mlx_sys::mlx_vector_array_get(&mut one, made, at), 0, "an output");
            Array::from_ptr(one)
        });
        let arrays: Vec<Array> = arrays.collect();
        mlx_sys::mlx_vector_array_free(made);
        mlx_sys::mlx_array_free(none);
        mlx_sys::mlx_stream_free(stream);
        arrays
    };
    assert_eq!(arrays.len(), if q.has_biases() { 3 } else { 2 });
    [bytes_of(&arrays[0]), bytes_of(&arrays[1]), arrays.get(2).map(bytes_of).unwrap_or_default()]
}

/// `mx.dequantize` on the CPU, to `dtype`.
#[allow(unsafe_code, reason = "mlx-rs wraps the affine mode only")]
fn mlx_dequantize(q: Quantization, dtype: Dtype, made: &[Vec<u8>; 3], rows: usize) -> Vec<u8> {
    let mode = CString::new(q.mode().to_string()).expect("no NUL");
    let weight = array(&made[0], rows, MlxDtype::Uint32);
    let scales = array(&made[1], rows, mlx_dtype(q.scales_dtype(dtype)));
    let biases = q.has_biases().then(|| array(&made[2], rows, mlx_dtype(dtype)));
    // SAFETY: as in `mlx_quantize`.
    let out = unsafe {
        let (stream, none) = (mlx_sys::mlx_default_cpu_stream_new(), mlx_sys::mlx_array_new());
        let to = mlx_sys::mlx_optional_dtype { value: mlx_dtype(dtype).into(), has_value: true };
        let biases = biases.as_ref().map_or(none, Array::as_ptr);
        let (group, bits) = (optional(q.group_size()), optional(q.bits()));
        let (weight, scales) = (weight.as_ptr(), scales.as_ptr());
        let mut out = mlx_sys::mlx_array_new();
        let code =
            mlx_sys::mlx_dequantize(&mut out, weight, scales, biases, group, bits, mode.as_ptr(), none, to, stream);
        assert_eq!(code, 0, "mx.dequantize");
        mlx_sys::mlx_array_free(none);
        mlx_sys::mlx_stream_free(stream);
        Array::from_ptr(out)
    };
    bytes_of(&out)
}

/// Like MLX's three, made by ours.
fn our_quantize(q: Quantization, dtype: Dtype, values: &[u8]) -> [Vec<u8>; 3] {
    let item = dtype.bitsize() / 8;
    let elements = values.len() / item;
    let groups = elements / q.group_size() as usize;
    let (scale, bias) = if q.has_biases() { (item, item) } else { (1, 0) };
    let mut weight = vec![0; elements * q.bits() as usize / 8];
    let (mut scales, mut biases) = (vec![0; groups * scale], vec![0; groups * bias]);
    quantize(q, dtype, values, &mut weight, &mut scales, &mut biases).expect("finite values");
    [weight, scales, biases]
}

/// A small generator: the numbers are the same on every machine.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let word = self.0 ^ self.0 >> 29;
        (word.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32) as u32
    }

    /// In −1 … 1.
    fn uniform(&mut self) -> f32 {
        self.bits() as i32 as f32 / 2_147_483_648.0
    }

    /// Roughly normal, of width 1.
    fn normal(&mut self) -> f32 {
        (0..6).map(|_| self.uniform()).sum::<f32>() / std::f32::consts::SQRT_2
    }
}

/// The dtype's number nearest to `value`, never infinite.
fn stored(dtype: Dtype, value: f32) -> Vec<u8> {
    match dtype {
        Dtype::F32 => value.clamp(f32::MIN, f32::MAX).to_le_bytes().to_vec(),
        Dtype::F16 => half::f16::from_f32(value.clamp(-65504.0, 65504.0)).to_le_bytes().to_vec(),
        _ => {
            let max = half::bf16::MAX.to_f32();
            half::bf16::from_f32(value.clamp(-max, max)).to_le_bytes().to_vec()
        }
    }
}

/// A row from one of several distributions.
fn row(dtype: Dtype, kind: u32, random: &mut Random) -> Vec<u8> {
    let scale = 2_f32.powi(random.bits() as i32 % 20);
    let anywhere = 2_f32.powi(random.bits() as i32 % 140);
    let shift = 4.0 * random.uniform();
    let value = |at: usize, random: &mut Random| match kind {
        0 => random.normal() * 0.02,
        1 => random.normal() * scale,
        2 => (random.uniform() + shift) * scale,
        3 => random.normal() * anywhere,
        4 => random.normal().powi(5) * scale,
        // Few distinct numbers: ties, repeated edges, zeros of both signs.
        5 => (random.bits() % 33) as f32 / 4.0 - 4.0,
        6 => ((random.bits() % 65) as f32 - 32.0) * 0.5 * scale,
        7 => (random.bits() % 9) as f32 * -0.0 * shift,
        // The largest number lies just around a power of two, or 6 or 448 times one, where scales step.
        8 if at.is_multiple_of(16) => {
            let most = [1.0_f32, 6.0, 448.0][random.bits() as usize % 3] * scale;
            f32::from_bits(most.to_bits().wrapping_add_signed(random.bits() as i32 % 70_000))
        }
        8 => random.uniform() * scale,
        // Numbers around the smallest of the dtype.
        9 => (random.bits() % 64) as f32 * if dtype == Dtype::F16 { 2_f32.powi(-24) } else { 2_f32.powi(-140) } * shift,
        // Any bits at all.
        _ => f32::from_bits(random.bits()),
    };
    (0..ROW)
        .flat_map(|at| stored(dtype, Some(value(at, random)).filter(|value| !value.is_nan()).unwrap_or(1.5)))
        .collect()
}

const KINDS: u32 = 11;

/// The first difference, or none.
fn difference(ours: &[u8], theirs: &[u8]) -> Option<String> {
    let at = ours.iter().zip(theirs).position(|(ours, theirs)| ours != theirs);
    match at {
        Some(at) => Some(format!("byte {at}: ours {:#04x}, MLX's {:#04x}", ours[at], theirs[at])),
        None if ours.len() != theirs.len() => Some(format!("{} bytes, MLX's {}", ours.len(), theirs.len())),
        None => None,
    }
}

/// Every NaN the same: MLX leaves its bits to the processor.
fn one_nan(dtype: Dtype, bytes: &mut [u8]) {
    for raw in bytes.chunks_exact_mut(dtype.bitsize() / 8) {
        let is_nan = match dtype {
            Dtype::F32 => f32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]).is_nan(),
            Dtype::F16 => half::f16::from_le_bytes([raw[0], raw[1]]).is_nan(),
            _ => half::bf16::from_le_bytes([raw[0], raw[1]]).is_nan(),
        };
        if is_nan {
            raw.fill(0xff);
        }
    }
}

/// Dequantizes with both; panics where they differ.
fn compare_back(q: Quantization, dtype: Dtype, made: &[Vec<u8>; 3], rows: usize, what: &str) {
    let mut theirs = mlx_dequantize(q, dtype, made, rows);
    let mut ours = vec![0; theirs.len()];
    dequantize(q, dtype, &made[0], &made[1], &made[2], &mut ours);
    one_nan(dtype, &mut ours);
    one_nan(dtype, &mut theirs);
    let difference = difference(&ours, &theirs);
    assert_eq!(difference, None, "{what}, {dtype:?} {q:?} dequantized");
}

#[test]
fn the_linked_mlx_makes_the_same_bytes() {
    // More seeds: MLXPORT_QUANTIZE_SEEDS=200 cargo test -p mlxport-model --test it quantize
    let seeds = std::env::var("MLXPORT_QUANTIZE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4_u64);
    let rows = 4 * KINDS as usize;
    for (seed, dtype) in (0..seeds).flat_map(|seed| DTYPES.map(|dtype| (seed, dtype))) {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1);
        let values: Vec<u8> = (0..rows as u32).flat_map(|at| row(dtype, at % KINDS, &mut random)).collect();
        let weights = array(&values, rows, mlx_dtype(dtype));
        for q in every_quantization() {
            let (ours, theirs) = (our_quantize(q, dtype, &values), mlx_quantize(q, &weights));
            for (name, (ours, theirs)) in ["weight", "scales", "biases"].into_iter().zip(ours.iter().zip(&theirs)) {
                assert_eq!(difference(ours, theirs), None, "seed {seed}, {dtype:?} {q:?} {name}");
            }
            compare_back(q, dtype, &ours, rows, &format!("seed {seed}"));
        }
    }
}

#[test]
fn any_codes_and_scales_come_back_as_from_mlx() {
    let mut random = Random(77);
    for (dtype, q) in DTYPES.into_iter().flat_map(|dtype| every_quantization().into_iter().map(move |q| (dtype, q))) {
        // 256 groups at least: every byte there is as a scale. Affine scales are any float, infinities and NaNs too.
        let (rows, item) = (32 * q.group_size() as usize / 16, dtype.bitsize() / 8);
        let groups = rows * ROW / q.group_size() as usize;
        let weight = (0..rows * ROW * q.bits() as usize / 8).map(|_| random.bits() as u8).collect();
        let mut floats = || (0..groups * item).map(|_| random.bits() as u8).collect::<Vec<_>>();
        let scales = if q.has_biases() { floats() } else { (0..groups).map(|at| at as u8).collect() };
        let biases = if q.has_biases() { floats() } else { Vec::new() };
        compare_back(q, dtype, &[weight, scales, biases], rows, "any bytes");
    }
}

#[test]
fn every_number_of_sixteen_bits_is_quantized_as_by_mlx() {
    for dtype in [Dtype::F16, Dtype::BF16] {
        let finite = |bits: &u16| bits & 0x7fff < if dtype == Dtype::F16 { 0x7c00 } else { 0x7f80 };
        let mut numbers: Vec<u16> = (0..=u16::MAX).filter(finite).collect();
        // In order the groups are alike inside; shuffled they are as unlike as can be.
        for shuffled in [false, true] {
            if shuffled {
                let mut random = Random(5);
                (1..numbers.len()).rev().for_each(|at| numbers.swap(at, random.bits() as usize % (at + 1)));
            }
            let values: Vec<u8> = numbers.iter().flat_map(|bits| bits.to_le_bytes()).collect();
            let rows = numbers.len() / ROW;
            let weights = array(&values, rows, mlx_dtype(dtype));
            for q in every_quantization() {
                let (ours, theirs) = (our_quantize(q, dtype, &values), mlx_quantize(q, &weights));
                for (name, (ours, theirs)) in ["weight", "scales", "biases"].into_iter().zip(ours.iter().zip(&theirs)) {
                    assert_eq!(difference(ours, theirs), None, "{dtype:?} {q:?} {name}, shuffled: {shuffled}");
                }
            }
        }
    }
}
