//! Transforms: how an output tensor is gathered from its sources, in pieces of any size.
//!
//! Every operation is a rearrangement, so an output tensor is a sequence of [`View`]s (strided windows on source tensors) laid one
//! after another, `interleave` times over. [`Assembly::read`] produces any range of output elements straight from the source: no
//! whole tensor is ever held, and a stack of experts is read expert by expert into its place.

pub mod cast;
mod gather;

use safetensors::Dtype;

use crate::checkpoint::{TensorSource, row_major_strides};
use crate::dtype::element_count;
use crate::error::ConvertError;

pub use gather::Scratch;

/// One axis of a view: how many steps, and how many source elements a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    /// Steps.
    pub len: u64,
    /// Source elements per step.
    pub stride: u64,
}

/// A strided window on one source tensor; read in row-major order of its axes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The source tensor's key.
    pub key: String,
    /// Its dtype as stored.
    pub dtype: Dtype,
    /// The first element.
    pub start: u64,
    /// The axes, outermost first.
    pub axes: Vec<Axis>,
}

/// An output tensor as views: `interleave` rounds, each taking the next equal share of every view in turn. One round for a copy, a
/// permutation or a stack; as many as there are leading rows for a concat along a later axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembly {
    /// The views, in order.
    pub views: Vec<View>,
    /// Rounds.
    pub interleave: u64,
}

impl View {
    /// The whole of a tensor that is stored row-major.
    pub fn whole(key: &str, dtype: Dtype, shape: &[u64]) -> Self {
        Self::stored(key, dtype, shape, &row_major_strides(shape))
    }

    /// The whole of a tensor as it is stored: so many elements per step along each axis (0 repeats one).
    pub fn stored(key: &str, dtype: Dtype, shape: &[u64], strides: &[u64]) -> Self {
        let axes = shape.iter().zip(strides).map(|(&len, &stride)| Axis { len, stride }).collect();
        Self { key: key.to_owned(), dtype, start: 0, axes }
    }

    /// The same elements with the axes in another order: axis `k` of the result is axis `order[k]` of this.
    #[must_use]
    pub fn permuted(mut self, order: &[usize]) -> Self {
        self.axes = order.iter().map(|&at| self.axes[at]).collect();
        self
    }

    /// `[O, I, H, W]` → `[O, H, W, I]`.
    #[must_use]
    pub fn conv_ohwi(self) -> Self {
        self.permuted(&[0, 2, 3, 1])
    }

    /// `[O, channels·area]` read as `[O, area, channels]`. The columns are a multiple of `kernel_area`.
    #[must_use]
    pub fn unfold_columns(mut self, kernel_area: u64) -> Self {
        if let Some(columns) = self.axes.pop() {
            let channels = Axis { len: columns.len / kernel_area, stride: columns.stride.saturating_mul(kernel_area) };
            self.axes.extend([Axis { len: kernel_area, stride: columns.stride }, channels]);
        }
        self
    }

    /// Part `at` of `parts` equal ones along axis 0.
    #[must_use]
    pub fn part(mut self, at: u64, parts: u64) -> Self {
        if let Some(axis) = self.axes.first_mut() {
            axis.len /= parts;
            self.start += at * axis.len * axis.stride;
        }
        self
    }

    /// How many elements it has.
    pub fn len(&self) -> u64 {
        self.axes.iter().map(|axis| axis.len).product()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Assembly {
    /// One view.
    pub fn of(view: View) -> Self {
        Self { views: vec![view], interleave: 1 }
    }

    /// Views one after another: a stack, or a concat along axis 0.
    pub fn sequence(views: Vec<View>) -> Self {
        Self { views, interleave: 1 }
    }

    /// Tensors of these shapes joined along `axis`.
    pub fn concat(views: Vec<View>, first_shape: &[u64], axis: usize) -> Self {
        Self { views, interleave: element_count(&first_shape[..axis]).unwrap_or(0) }
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
            cast::read_as(source, view, inside, dtype, piece, scratch)?;
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
