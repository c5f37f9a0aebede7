//! An output tensor as views laid one after another, read in pieces of any size.

use safetensors::Dtype;

use crate::checkpoint::TensorSource;
use crate::dtype::element_count;
use crate::error::ConvertError;

use super::cast;
use super::gather::Scratch;
use super::view::View;

/// An output tensor as views: `interleave` rounds, each taking the next equal share of every view in turn. One round for a copy, a
/// permutation or a stack; as many as there are leading rows for a concat along a later axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembly {
    /// The views, in order.
    pub views: Vec<View>,
    /// Rounds.
    pub interleave: u64,
    /// What is added to every value, in the dtype that it is stored in.
    pub plus: i32,
}

impl Assembly {
    /// One view.
    pub fn of(view: View) -> Self {
        Self { views: vec![view], interleave: 1, plus: 0 }
    }

    /// Views one after another: a stack, or a concat along axis 0.
    pub fn sequence(views: Vec<View>) -> Self {
        Self { views, interleave: 1, plus: 0 }
    }

    /// Tensors of these shapes joined along `axis`.
    pub fn concat(views: Vec<View>, first_shape: &[u64], axis: usize) -> Self {
        Self { views, interleave: element_count(&first_shape[..axis]).unwrap_or(0), plus: 0 }
    }

    /// The same with a number added to every value.
    #[must_use]
    pub fn plus(self, plus: i32) -> Self {
        Self { plus, ..self }
    }

    /// How many elements the output has.
    pub fn len(&self) -> u64 {
        self.views.iter().map(View::len).sum()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `out` with output elements from `first` on, converted to `dtype`, little endian. `out` is a whole number of elements and
    /// lies inside the tensor. Memory: `out`, plus `scratch` (bounded).
    ///
    /// # Errors
    /// What the source says, or [`ConvertError::Overflow`] when a finite value has no finite counterpart in `dtype`.
    pub fn read(
        &self,
        source: &dyn TensorSource,
        dtype: Dtype,
        first: u64,
        out: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<(), ConvertError> {
        let size = dtype.bitsize() / 8;
        let round = self.len() / self.interleave.max(1);
        let (mut at, mut rest) = (first, out);
        while !rest.is_empty() {
            let (view, inside, left) = self.locate(at, round);
            let count = left.min((rest.len() / size) as u64);
            let (piece, tail) = rest.split_at_mut(count as usize * size);
            match self.plus {
                0 => cast::read_as(source, view, inside, dtype, piece, scratch)?,
                plus => cast::read_sum(source, view, plus, inside, dtype, piece, scratch)?,
            }
            at += count;
            rest = tail;
        }
        Ok(())
    }

    /// The view that output element `at` lies in, its place there, and how many elements follow in the same run.
    fn locate(&self, at: u64, round: u64) -> (&View, u64, u64) {
        let (turn, mut inside) = (at / round, at % round);
        for view in &self.views {
            let run = view.len() / self.interleave;
            if inside < run {
                return (view, turn * run + inside, run - inside);
            }
            inside -= run;
        }
        // `at` is inside the tensor, so some view's run has it; an empty tensor is never asked for.
        let last = &self.views[self.views.len() - 1];
        (last, last.len() - 1, 1)
    }
}
