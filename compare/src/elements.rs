//! The elements that two recordings of one tensor have in common: all, or those that both samples hold.

use mlxport_fixtures::{Data, Point, Sampling};

/// Which elements both hold.
#[derive(Debug, PartialEq)]
pub(crate) enum Common {
    /// Both hold the same, one after the other.
    Same,
    /// For each element, its index among the reference's and among the candidate's values.
    Some(Vec<(usize, usize)>),
}

/// A tensor that is kept whole is a sample of every element.
fn sampling(point: &Point) -> Sampling {
    point.sampling.unwrap_or(Sampling { first: 0, stride: 1 })
}

/// The elements that both hold, where `ours` and `theirs` values were kept of one tensor.
pub(crate) fn common(reference: &Point, ours: usize, candidate: &Point, theirs: usize) -> Common {
    let (r, c) = (sampling(reference), sampling(candidate));
    if r == c && ours == theirs {
        return Common::Same;
    }
    // Over the side with fewer values, which may be thousands where the other has millions.
    let pairs = if ours <= theirs {
        let theirs = |place| c.index(place).filter(|index| *index < theirs);
        (0..ours).filter_map(|index| Some((index, theirs(r.place(index))?))).collect()
    } else {
        let ours = |place| r.index(place).filter(|index| *index < ours);
        (0..theirs).filter_map(|index| Some((ours(c.place(index))?, index))).collect()
    };
    Common::Some(pairs)
}

impl Common {
    /// How many elements they are, of `ours` in the reference.
    pub fn count(&self, ours: usize) -> usize {
        match self {
            Self::Same => ours,
            Self::Some(pairs) => pairs.len(),
        }
    }

    /// The reference's index of the `index`-th of them.
    pub fn of_reference(&self, index: usize) -> usize {
        match self {
            Self::Same => index,
            Self::Some(pairs) => pairs[index].0,
        }
    }

    /// Those elements of the reference's and of the candidate's values.
    pub fn pick(&self, reference: Data, candidate: Data) -> (Data, Data) {
        match self {
            Self::Same => (reference, candidate),
            Self::Some(pairs) => (
                picked(&reference, pairs.iter().map(|(ours, _)| *ours)),
                picked(&candidate, pairs.iter().map(|(_, theirs)| *theirs)),
            ),
        }
    }
}

/// The place in the whole tensor of the reference's `index`-th value.
pub(crate) fn place(reference: &Point, index: usize) -> usize {
    sampling(reference).place(index)
}

fn picked(data: &Data, indices: impl Iterator<Item = usize>) -> Data {
    match data {
        Data::F32(values) => Data::F32(indices.map(|index| values[index]).collect()),
        Data::F64(values) => Data::F64(indices.map(|index| values[index]).collect()),
        Data::I64(values) => Data::I64(indices.map(|index| values[index]).collect()),
        Data::Bool(values) => Data::Bool(indices.map(|index| values[index]).collect()),
    }
}

#[cfg(test)]
mod tests {
    use mlxport_fixtures::{Dtype, Kind, NoiseFloor};

    use super::*;

    fn point(sampling: Option<Sampling>) -> Point {
        Point {
            point: "a".to_owned(),
            call: 0,
            kind: Kind::Out,
            tensor: "a".to_owned(),
            truth: None,
            shape: vec![3, 8],
            dtype: Dtype::F32,
            sampling,
            sets: false,
            noise_floor: NoiseFloor::default(),
            floor_measured: true,
            noise_floor_other_kernels: None,
            noise_floor_bf16: None,
            noise_floor_bf16_isolated: None,
            noise_floor_quantized: None,
            noise_floor_quantized_isolated: None,
        }
    }

    fn every(stride: usize) -> Point {
        point(Some(Sampling { first: 0, stride }))
    }

    #[test]
    fn two_samples_share_the_elements_that_both_kept() {
        assert_eq!(common(&every(5), 5, &every(5), 5), Common::Same);
        assert_eq!(common(&point(None), 24, &every(1), 24), Common::Same);
        let shared = vec![(0, 0), (2, 3), (4, 6)];
        assert_eq!(common(&every(6), 4, &every(4), 6), Common::Some(vec![(0, 0), (2, 3)]));
        assert_eq!(common(&every(3), 8, &every(2), 12), Common::Some(vec![(0, 0), (2, 3), (4, 6), (6, 9)]));
        assert_eq!(common(&every(3), 5, &every(2), 8), Common::Some(shared));
        let late = point(Some(Sampling { first: 1, stride: 2 }));
        assert_eq!(common(&late, 12, &every(2), 12), Common::Some(Vec::new()));
    }

    #[test]
    fn a_whole_recording_is_read_where_the_sample_was_taken() {
        let values = |count: usize| Data::F32((0..count).map(|v| v as f32).collect());
        for (reference, ours, candidate, theirs) in [(point(None), 24, every(9), 3), (every(9), 3, point(None), 24)] {
            let shared = common(&reference, ours, &candidate, theirs);
            assert_eq!(shared.count(ours), 3);
            assert_eq!(place(&reference, shared.of_reference(2)), 18);
            let (whole, sample) = (Data::F32(vec![0.0, 9.0, 18.0]), values(3));
            let expected = if ours == 24 { (whole, sample) } else { (sample, whole) };
            assert_eq!(shared.pick(values(ours), values(theirs)), expected);
        }
    }
}
