//! Properties of the transforms: they invert, they do not depend on how the reading is cut up, and conversions are `half`'s.

use half::{bf16, f16};
use mlxport_convert::transforms::{Assembly, View, cast};
use proptest::prelude::*;
use safetensors::Dtype;

use crate::support::memory::{Memory, read, value, whole};

/// A permutation of a tensor, worked out index by index.
fn permuted_by_hand(shape: &[u64], order: &[usize]) -> Vec<f32> {
    let out_shape: Vec<u64> = order.iter().map(|&axis| shape[axis]).collect();
    let count: u64 = shape.iter().product();
    (0..count)
        .map(|mut rest| {
            let mut index = vec![0; shape.len()];
            for (at, &len) in out_shape.iter().enumerate().rev() {
                index[order[at]] = rest % len;
                rest /= len;
            }
            let flat = index.iter().zip(shape).fold(0, |flat, (i, len)| flat * len + i);
            value(0, flat)
        })
        .collect()
}

fn shapes() -> impl Strategy<Value = (Vec<u64>, Vec<usize>)> {
    prop::collection::vec(1_u64..7, 1..5).prop_flat_map(|shape| {
        let order: Vec<usize> = (0..shape.len()).collect();
        (Just(shape), Just(order).prop_shuffle())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_permutation_in_any_pieces((shape, order) in shapes(), piece in 1_usize..200, block in 4_usize..400) {
        let memory = Memory::new(std::slice::from_ref(&shape));
        let assembly = Assembly::of(whole(0, &shape).permuted(&order));
        prop_assert_eq!(read(&memory, &assembly, piece, block), permuted_by_hand(&shape, &order));
    }

    #[test]
    fn a_permutation_and_its_inverse_are_a_copy((shape, order) in shapes(), block in 4_usize..200) {
        let memory = Memory::new(std::slice::from_ref(&shape));
        let there: Vec<u64> = order.iter().map(|&axis| shape[axis]).collect();
        let moved = read(&memory, &Assembly::of(whole(0, &shape).permuted(&order)), 7, block);
        let mut inverse = vec![0; order.len()];
        for (at, &axis) in order.iter().enumerate() {
            inverse[axis] = at;
        }
        let mut second = Memory::new(std::slice::from_ref(&there));
        second.data.insert("0".into(), moved.iter().flat_map(|value| value.to_le_bytes()).collect());
        let back = read(&second, &Assembly::of(whole(0, &there).permuted(&inverse)), 5, block);
        let original: Vec<f32> = (0..back.len() as u64).map(|i| value(0, i)).collect();
        prop_assert_eq!(back, original);
    }

    #[test]
    fn a_split_put_together_is_the_packed_tensor(d in 1_u64..9, inner in 1_u64..9, piece in 1_usize..50) {
        let shape = vec![3 * d, inner];
        let memory = Memory::new(std::slice::from_ref(&shape));
        let part = |at| whole(0, &shape).part(at, 3);
        let joined: Vec<f32> =
            (0..3).flat_map(|at| read(&memory, &Assembly::of(part(at)), piece, 64)).collect();
        let original: Vec<f32> = (0..3 * d * inner).map(|i| value(0, i)).collect();
        prop_assert_eq!(joined, original);
    }

    #[test]
    fn a_stack_holds_each_tensor_in_its_place(n in 1_usize..6, shape in prop::collection::vec(1_u64..6, 1..4), piece in 1_usize..90) {
        let memory = Memory::new(&vec![shape.clone(); n]);
        let stacked = read(&memory, &Assembly::sequence((0..n).map(|t| whole(t, &shape)).collect()), piece, 64);
        let each: u64 = shape.iter().product();
        let expected: Vec<f32> = (0..n).flat_map(|t| (0..each).map(move |i| value(t, i))).collect();
        prop_assert_eq!(stacked, expected);
    }

    #[test]
    fn a_concat_joins_along_its_axis(
        rows in 1_u64..5, widths in prop::collection::vec(1_u64..5, 2..4), depth in 1_u64..4, piece in 1_usize..60,
    ) {
        let shapes: Vec<Vec<u64>> = widths.iter().map(|&width| vec![rows, width, depth]).collect();
        let memory = Memory::new(&shapes);
        let views: Vec<View> = shapes.iter().enumerate().map(|(t, shape)| whole(t, shape)).collect();
        let found = read(&memory, &Assembly::concat(views, &shapes[0], 1), piece, 64);
        let mut expected = Vec::new();
        for row in 0..rows {
            for (t, &width) in widths.iter().enumerate() {
                expected.extend((0..width * depth).map(|i| value(t, row * width * depth + i)));
            }
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn unfold_columns_become_pixel_major(o in 1_u64..4, c in 1_u64..5, kernel in 1_u64..4) {
        let area = kernel * kernel;
        let memory = Memory::new(&[vec![o, c * area]]);
        let view = whole(0, &[o, c * area]).unfold_columns(area);
        let found = read(&memory, &Assembly::of(view), 11, 64);
        let mut expected = Vec::new();
        for row in 0..o {
            for pixel in 0..area {
                expected.extend((0..c).map(|channel| value(0, row * c * area + channel * area + pixel)));
            }
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn f32_becomes_what_half_says(values in prop::collection::vec(any::<u32>(), 1..50)) {
        let floats: Vec<f32> = values.iter().map(|&bits| f32::from_bits(bits)).collect();
        let bytes: Vec<u8> = floats.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut out = vec![0; floats.len() * 2];
        let lost = |infinite: &dyn Fn(f32) -> bool| floats.iter().copied().find(|v| v.is_finite() && infinite(*v)).map(f64::from);
        let too_large = lost(&|v| bf16::from_f32(v).is_infinite());
        prop_assert_eq!(cast::convert(Dtype::F32, Dtype::BF16, &bytes, &mut out).err(), too_large);
        if too_large.is_none() {
            let expected: Vec<u8> = floats.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
            prop_assert_eq!(&out, &expected);
        }
        let too_large = lost(&|v| f16::from_f32(v).is_infinite());
        prop_assert_eq!(cast::convert(Dtype::F32, Dtype::F16, &bytes, &mut out).err(), too_large);
        if too_large.is_none() {
            let expected: Vec<u8> = floats.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
            prop_assert_eq!(&out, &expected);
        }
    }
}

/// Any strided view: shape, strides (0 repeats, small ones overlap, large ones leave gaps) and first element.
fn views() -> impl Strategy<Value = (Vec<u64>, Vec<u64>, u64)> {
    let axis = (1_u64..7, prop_oneof![Just(0), 1_u64..4, 4_u64..40]);
    (prop::collection::vec(axis, 0..5), 0_u64..9).prop_map(|(axes, start)| {
        let (shape, strides) = axes.into_iter().unzip();
        (shape, strides, start)
    })
}

/// Where each element of a strided view lies, worked out index by index.
fn places(shape: &[u64], strides: &[u64], start: u64) -> Vec<u64> {
    let mut places = vec![start];
    for (&len, &stride) in shape.iter().zip(strides) {
        places = places.iter().flat_map(|place| (0..len).map(move |step| place + step * stride)).collect();
    }
    places
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// The source ends where the view does, so a read beyond its last element fails.
    #[test]
    fn any_strided_view_in_any_pieces((shape, strides, start) in views(), piece in 1_usize..200, block in 8_usize..600) {
        let places = places(&shape, &strides, start);
        let end = places.iter().max().expect("an element") + 1;
        let memory = Memory::new(&[vec![end]]);
        let mut view = View::stored("0", Dtype::F32, &shape, &strides);
        view.start = start;
        let expected: Vec<f32> = places.iter().map(|&place| value(0, place)).collect();
        prop_assert_eq!(read(&memory, &Assembly::of(view), piece, block), expected);
    }

    #[test]
    fn operations_start_from_stored_strides(rows in 1_u64..5, c in 1_u64..4, area in 1_u64..4, piece in 1_usize..60) {
        // Stored as the transposed matrix.
        let (columns, strides) = (c * area, [1, 3 * rows]);
        let memory = Memory::new(&[vec![columns, 3 * rows]]);
        let stored = || View::stored("0", Dtype::F32, &[3 * rows, columns], &strides);
        let at = |row: u64, column: u64| value(0, row + column * 3 * rows);
        let mut unfolded = Vec::new();
        for row in 0..3 * rows {
            for pixel in 0..area {
                unfolded.extend((0..c).map(|channel| at(row, channel * area + pixel)));
            }
        }
        prop_assert_eq!(read(&memory, &Assembly::of(stored().unfold_columns(area)), piece, 64), unfolded);
        let second: Vec<f32> =
            (rows..2 * rows).flat_map(|row| (0..columns).map(move |column| (row, column))).map(|(r, k)| at(r, k)).collect();
        prop_assert_eq!(read(&memory, &Assembly::of(stored().part(1, 3)), piece, 64), second);
    }

    #[test]
    fn f64_is_rounded_once(bits in any::<u64>(), near in any::<u16>(), nudge in -3_i64..4) {
        // Half of the values lie at or next to a midpoint between two halves, where rounding twice goes wrong.
        let middle = (f64::from(f32::from_bits(u32::from(near) << 16 | 0x8000)).to_bits() as i64 + nudge) as u64;
        let middle_f16 = f64::from(f16::from_bits(near).to_f32()).to_bits() as i64 + (1 << 41) + nudge;
        for value in [f64::from_bits(bits), f64::from_bits(middle), f64::from_bits(middle_f16 as u64)] {
            let (mut b, mut h) = ([0; 2], [0; 2]);
            let found = cast::convert(Dtype::F64, Dtype::BF16, &value.to_le_bytes(), &mut b);
            check_nearest(value, found, bf16::from_le_bytes(b), |bits| f64::from(bf16::from_bits(bits).to_f32()), bf16::to_bits);
            let found = cast::convert(Dtype::F64, Dtype::F16, &value.to_le_bytes(), &mut h);
            check_nearest(value, found, f16::from_le_bytes(h), |bits| f64::from(f16::from_bits(bits).to_f32()), f16::to_bits);
        }
    }
}

/// Whether `found` is the nearest 16-bit float (even on a tie), judged in f64, where neighbours' midpoints are exact.
fn check_nearest<T>(
    value: f64,
    result: Result<(), f64>,
    found: T,
    widen: impl Fn(u16) -> f64,
    bits: impl Fn(T) -> u16,
) {
    let bits = bits(found);
    if value.is_nan() {
        assert!(result.is_ok() && widen(bits).is_nan());
        return;
    }
    if result.is_err() {
        assert_eq!(result, Err(value));
        // The largest finite one is one below infinity's bits; half a step beyond it is too far.
        let largest_bits = (0..0x7fff_u16).rev().find(|&bits| widen(bits).is_finite()).expect("one");
        let (largest, below) = (widen(largest_bits), widen(largest_bits - 1));
        assert!(value.is_finite() && value.abs() >= largest + (largest - below) / 2.0, "{value:e}");
        return;
    }
    assert_eq!(value.is_sign_negative(), bits >= 0x8000, "{value:e}");
    let (size, magnitude) = (value.abs(), bits & 0x7fff);
    let own = widen(magnitude);
    if own == size {
        return;
    }
    assert!(own.is_finite(), "{value:e} became infinite");
    let is_even = magnitude % 2 == 0;
    if size > own {
        let above = widen(magnitude + 1);
        let middle =
            if above.is_finite() { own + (above - own) / 2.0 } else { own + (own - widen(magnitude - 1)) / 2.0 };
        assert!(size < middle || (size == middle && is_even), "{value:e} became {own:e}");
    } else {
        let middle = own - (own - widen(magnitude - 1)) / 2.0;
        assert!(size > middle || (size == middle && is_even), "{value:e} became {own:e}");
    }
}

/// Against the definitions: sign, exponent, mantissa.
#[test]
fn eight_bit_floats_widen_exactly() {
    let bytes: Vec<u8> = (0..=255).collect();
    for (dtype, mantissa_bits, bias) in [(Dtype::F8_E4M3, 3, 7), (Dtype::F8_E5M2, 2, 15)] {
        for to in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            let mut out = vec![0; 256 * to.bitsize() / 8];
            cast::convert(dtype, to, &bytes, &mut out).expect("every value fits");
            for byte in 0..=255_u8 {
                let found = match to {
                    Dtype::F32 => f32::from_le_bytes(out.as_chunks::<4>().0[byte as usize]),
                    Dtype::F16 => f16::from_le_bytes(out.as_chunks::<2>().0[byte as usize]).to_f32(),
                    _ => bf16::from_le_bytes(out.as_chunks::<2>().0[byte as usize]).to_f32(),
                };
                let exponent = i32::from(byte & 0x7f) >> mantissa_bits;
                let fraction = f64::from(byte & ((1 << mantissa_bits) - 1)) / f64::from(1 << mantissa_bits);
                let size = match (dtype, exponent) {
                    (Dtype::F8_E4M3, 15) if fraction == 0.875 => f64::NAN,
                    (Dtype::F8_E5M2, 31) => {
                        if fraction == 0.0 {
                            f64::INFINITY
                        } else {
                            f64::NAN
                        }
                    }
                    (_, 0) => fraction * 2_f64.powi(1 - bias),
                    _ => (1.0 + fraction) * 2_f64.powi(exponent - bias),
                };
                let expected = if byte >= 0x80 { -size } else { size };
                let same = f64::from(found).to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan());
                assert!(same, "{dtype} {byte:#04x} as {to}: {found} instead of {expected}");
            }
        }
    }
}

#[test]
fn every_half_widens_as_half_says_and_returns() {
    let halves: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    for dtype in [Dtype::BF16, Dtype::F16] {
        let mut wide = vec![0; halves.len() * 2];
        cast::convert(dtype, Dtype::F32, &halves, &mut wide).expect("widening is exact");
        for (bits, found) in (0..=u16::MAX).zip(wide.as_chunks::<4>().0) {
            let expected =
                if dtype == Dtype::BF16 { bf16::from_bits(bits).to_f32() } else { f16::from_bits(bits).to_f32() };
            assert_eq!(f32::from_le_bytes(*found).to_bits(), expected.to_bits(), "{dtype} {bits:#06x}");
        }
        let mut back = vec![0; halves.len()];
        cast::convert(Dtype::F32, dtype, &wide, &mut back).expect("they came from there");
        for (bits, found) in (0..=u16::MAX).zip(back.as_chunks::<2>().0) {
            let value = f32::from_le_bytes(wide.as_chunks::<4>().0[bits as usize]);
            let found = u16::from_le_bytes(*found);
            assert!(found == bits || value.is_nan(), "{dtype} {bits:#06x} came back as {found:#06x}");
        }
    }
}

/// The large-tensor paths at their real sizes: blocks over a mebibyte.
#[test]
fn large_permutations_are_read_in_bounded_blocks() {
    for (shape, order) in [
        (vec![700, 900], vec![1, 0]),
        (vec![3, 40_000, 3, 3], vec![0, 2, 3, 1]),
        (vec![600, 64, 3, 3], vec![0, 2, 3, 1]),
        (vec![50, 40, 300], vec![1, 0, 2]),
    ] {
        let memory = Memory::new(std::slice::from_ref(&shape));
        let assembly = Assembly::of(whole(0, &shape).permuted(&order));
        let found = read(&memory, &assembly, 123_457, 1 << 20);
        assert_eq!(found, permuted_by_hand(&shape, &order), "{shape:?}");
    }
}
