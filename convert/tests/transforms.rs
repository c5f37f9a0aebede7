//! Properties of the transforms: they invert, they do not depend on how the reading is cut up, and conversions are `half`'s.

mod support;

use half::{bf16, f16};
use mlxport_convert::transforms::{Assembly, View, cast};
use proptest::prelude::*;
use safetensors::Dtype;
use support::memory::{Memory, read, value, whole};

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
        let part = |at| View::part("0", Dtype::F32, &shape, at, 3);
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
        let view = View::unfold_columns("0", Dtype::F32, o, c, area);
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
        let lost = |infinite: &dyn Fn(f32) -> bool| floats.iter().copied().find(|v| v.is_finite() && infinite(*v));
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
