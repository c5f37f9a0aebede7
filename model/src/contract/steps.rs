//! The steps that models are made of, and who computes them.
//!
//! A model says what it computes: [`Step`] by [`Step`], each with its operands and the place where it stands. How is chosen from outside: who
//! calls the model hands it a [`Steps`]. One enum and one method, not a method for each step: so a fault, a correct variant or a watcher wraps
//! any other `Steps` in one function, matches the steps it is about and passes the others on.

use mlx_rs::{Array, Dtype};
use serde::Deserialize;

use super::Operation;
use crate::{
    backend::{
        Matrix, Param, Positions,
        resample::{Bicubic, LinearMode},
    },
    error::Result,
};

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At<'a> {
    /// The path, in the released checkpoint, of the module whose step it is: the same in every family.
    pub path: &'a str,
    /// Which one, where the module has several of a kind; else empty.
    pub name: &'static str,
}

/// What attention leaves out or adds.
#[derive(Clone, Copy)]
pub enum Mask<'a> {
    /// Every token sees every token.
    None,
    /// Every token sees those before it and itself.
    Causal,
    /// Added to the scores, \[B, heads, T, S\] or what broadcasts to it; true or false says what is seen.
    Bias(&'a Array),
    /// The same, made when it is needed, for a part of the batch and of the heads: whole, it may be large.
    Made(&'a dyn MadeBias),
}

/// A bias that is made part by part.
pub trait MadeBias {
    /// For images and heads from the first number of each to the last (excluded): \[images, heads, T, S\].
    ///
    /// # Errors
    /// MLX's.
    fn bias(&self, images: (i32, i32), heads: (i32, i32)) -> Result<Array>;
}

/// How a router's logits become scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scoring {
    /// Softmax over all experts.
    Softmax,
    /// Sigmoid of each.
    Sigmoid,
}

/// One step with its operands.
#[derive(Clone, Copy)]
pub enum Step<'a> {
    /// x Wᵀ + b: \[…, in\] → \[…, out\].
    Product {
        /// \[…, in\].
        x: &'a Array,
        /// \[out, in\].
        weight: &'a Matrix,
        /// \[out\].
        bias: Option<&'a Param>,
    },
    /// Convolution plus bias: \[N, H, W, in\] → \[N, H′, W′, out\].
    Convolve {
        /// \[N, H, W, in\].
        x: &'a Array,
        /// \[out, kh, kw, in\].
        weight: &'a Param,
        /// \[out\].
        bias: Option<&'a Param>,
        /// In both directions.
        stride: i32,
        /// Zeros before and after, in both directions.
        padding: [i32; 2],
    },
    /// (x − mean) / √(variance + eps) · weight + bias over the last axis.
    LayerNorm {
        /// \[…, C\].
        x: &'a Array,
        /// \[C\].
        weight: &'a Param,
        /// \[C\].
        bias: &'a Param,
        /// Added to the variance.
        eps: f32,
        /// Elements of the kernel of the unfold that made the rows, where one did.
        kernel_area: Option<i32>,
    },
    /// x / √(mean of squares + eps) · weight over the last axis.
    RmsNorm {
        /// \[…, C\].
        x: &'a Array,
        /// \[C\].
        weight: &'a Param,
        /// Added to the mean.
        eps: f32,
    },
    /// An activation, element by element.
    Activate {
        /// Any shape.
        x: &'a Array,
        /// Which.
        function: Operation,
    },
    /// act(gate) · up, of both side by side: \[…, 2·inner\] → \[…, inner\].
    Gate {
        /// \[…, 2·inner\], gate first.
        both: &'a Array,
        /// Which activation.
        function: Operation,
    },
    /// softmax(QKᵀ · scale + mask) V → \[B, heads, T, d\].
    Attend {
        /// \[B, heads, T, d\].
        q: &'a Array,
        /// \[B, kv_heads, S, d\].
        k: &'a Array,
        /// \[B, kv_heads, S, d\].
        v: &'a Array,
        /// Factor on the scores.
        scale: f32,
        /// What is seen.
        mask: Mask<'a>,
    },
    /// Where tokens stand: position ids \[B, T\] int32 → the same.
    Number {
        /// As counted.
        ids: &'a Array,
    },
    /// x·cos + (−x₂, x₁)·sin, halves apart: \[B, heads, T, d\] → the same.
    Rotate {
        /// \[B, heads, T, d\].
        x: &'a Array,
        /// Cosines and sines.
        positions: &'a Positions,
        /// How many heads from the first on are queries; the others are keys.
        queries: i32,
    },
    /// x + y.
    Add {
        /// Any shape.
        x: &'a Array,
        /// The same, or what broadcasts to it.
        y: &'a Array,
        /// Where it closes a residual branch: what the branch began with, normed.
        normed: Option<&'a Array>,
    },
    /// A square table at another size, in float32 and rounded once: \[1, n, n, C\] → \[1, size, size, C\].
    Resample {
        /// \[1, n, n, C\].
        table: &'a Array,
        /// Rows and columns of the result.
        size: i32,
        /// By which filter.
        mode: Bicubic,
        /// Of the result.
        dtype: Dtype,
    },
    /// Rows at another number: \[n, C\] → \[size, C\].
    ResampleRows {
        /// \[n, C\].
        rows: &'a Array,
        /// Rows of the result.
        size: i32,
        /// By which filter.
        mode: LinearMode,
        /// Of the result.
        dtype: Dtype,
    },
    /// A number for every distance: q \[B, heads, h·w, d\] by table \[d, 2h − 1 + 2w − 1\].
    Distances {
        /// \[B, heads, h·w, d\].
        q: &'a Array,
        /// Columns of rows' distances, then of columns'.
        table: &'a Array,
        /// h and w.
        grid: (i32, i32),
    },
    /// Windows of an image, zeros at its bottom and right: \[N, H, W, C\] → \[N·nh·nw, size, size, C\].
    Cut {
        /// \[N, H, W, C\].
        x: &'a Array,
        /// Edge of a window.
        size: i32,
    },
    /// Windows put together again and the zeros cut off: the inverse of [`Step::Cut`].
    Mend {
        /// \[N·nh·nw, size, size, C\].
        windows: &'a Array,
        /// N, H and W.
        image: [i32; 3],
    },
    /// \[N, h, w, C\] → \[N, h·w, C\].
    Flatten {
        /// \[N, h, w, C\].
        x: &'a Array,
    },
    /// One behind the other.
    Join {
        /// Alike but for `axis`.
        parts: &'a [Array],
        /// Along which.
        axis: i32,
    },
    /// Some of the tokens: \[N, T, C\] → \[N, end − start, C\].
    Take {
        /// \[N, T, C\].
        x: &'a Array,
        /// The first.
        start: i32,
        /// Behind the last.
        end: i32,
    },
    /// Tiles laid out in their grid, row by row: \[P, edge², C\] → \[down·edge, across·edge, C\].
    Lay {
        /// \[P, edge², C\].
        tiles: &'a Array,
        /// Side by side.
        across: i32,
        /// One above the other.
        down: i32,
    },
    /// A router's scores of its logits \[T, experts\], float32.
    Score {
        /// \[T, experts\].
        logits: &'a Array,
        /// By which function.
        function: Scoring,
    },
    /// The numbers of the `k` best: \[T, n\] → \[T, k\] int32, in no order.
    Choose {
        /// \[T, n\].
        scores: &'a Array,
        /// How many.
        k: i32,
    },
    /// How much each chosen expert counts: \[T, k\], float32.
    Weigh {
        /// \[T, experts\].
        logits: &'a Array,
        /// \[T, experts\]: the scores among which they were chosen.
        scores: &'a Array,
        /// \[T, k\].
        chosen: &'a Array,
    },
    /// What one expert is given: its rows.
    Dispatch {
        /// \[m, hidden\].
        rows: &'a Array,
        /// The weights of all choices, \[T, k\].
        weights: &'a Array,
        /// Which of these choices each row is.
        slots: &'a [i32],
    },
    /// Experts' results times their weights, summed in float32 and rounded once, and the shared experts' added: \[T, hidden\].
    Combine {
        /// \[T, k, hidden\].
        outputs: &'a Array,
        /// \[T, k\], float32.
        weights: &'a Array,
        /// \[T, hidden\].
        shared: Option<&'a Array>,
    },
}

/// Who computes.
pub trait Steps {
    /// Computes one step.
    ///
    /// # Errors
    /// MLX's; operands that do not fit.
    fn run(&self, at: At, step: Step) -> Result<Array>;

    /// Whether work that PyTorch does one after the other is done together where no one listens: views side by side, projections of one
    /// input as one product, experts gathered from their stack.
    fn together(&self) -> bool;

    /// Whether what depends on weights alone (resampled tables) may be kept for later passes, and taken from earlier ones. Only for steps
    /// that compute what the released arithmetic computes.
    fn keeps(&self) -> bool {
        false
    }
}
