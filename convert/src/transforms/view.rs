//! A strided window on one source tensor.

use safetensors::Dtype;

use crate::checkpoint::row_major_strides;
use crate::dtype::element_count;

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

/// Row-major axes of a shape.
fn row_major(shape: &[u64]) -> Vec<Axis> {
    let mut stride = 1_u64;
    let mut axes: Vec<Axis> = shape
        .iter()
        .rev()
        .map(|&len| {
            let axis = Axis { len, stride };
            stride = stride.saturating_mul(len);
            axis
        })
        .collect();
    axes.reverse();
    axes
}

/// Whether axes go through neighbours, one after another; an axis of one step goes nowhere.
pub(super) fn is_contiguous(axes: &[Axis]) -> bool {
    let mut expected = 1;
    axes.iter().rev().filter(|axis| axis.len != 1).all(|axis| {
        let fits = axis.stride == expected;
        expected *= axis.len;
        fits
    })
}

/// Axes cut and joined to `shape`, which has as many elements (at least one).
fn regroup(axes: &[Axis], shape: &[u64]) -> Option<Vec<Axis>> {
    // Joined first as far as they go, each then has to be a product of whole new axes.
    let mut joined: Vec<Axis> = Vec::new();
    for &axis in axes.iter().filter(|axis| axis.len != 1) {
        match joined.last_mut() {
            Some(outer) if outer.stride == axis.len * axis.stride => {
                *outer = Axis { len: outer.len * axis.len, stride: axis.stride };
            }
            _ => joined.push(axis),
        }
    }
    let mut made = Vec::new();
    let mut old = joined.into_iter();
    // What is left of the old axis that is being cut.
    let mut rest = Axis { len: 1, stride: 1 };
    for &len in shape {
        if len == 1 {
            made.push(Axis { len, stride: rest.stride });
            continue;
        }
        if rest.len == 1 {
            rest = old.next()?;
        }
        if !rest.len.is_multiple_of(len) {
            return None;
        }
        rest.len /= len;
        made.push(Axis { len, stride: rest.len * rest.stride });
    }
    Some(made)
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

    /// Part of it: `len` steps of `axis`, from step `from` on. The caller keeps `from + len` within the axis.
    #[must_use]
    pub fn narrowed(mut self, axis: usize, from: u64, len: u64) -> Self {
        self.start += from * self.axes[axis].stride;
        self.axes[axis].len = len;
        self
    }

    /// The same elements in the same order under another shape; `None` when the counts differ, or when no strides can say it (axes that
    /// would have to be joined do not follow on each other in the source).
    pub fn reshaped(mut self, shape: &[u64]) -> Option<Self> {
        if element_count(shape)? != self.len() {
            return None;
        }
        self.axes = if self.is_empty() { row_major(shape) } else { regroup(&self.axes, shape)? };
        Some(self)
    }

    /// Whether its elements lie one after another in the source, in its order.
    pub fn is_contiguous(&self) -> bool {
        is_contiguous(&self.axes)
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
