//! Weight matrices as they are stored: floats, or codes of MLX's affine quantization with a scale and a bias per group.
//!
//! Products take either; a stack of matrices (an expert's each) is multiplied by number ([`Matrix::gather`]), in one kernel where the
//! release has a loop.

use mlx_rs::{Array, Dtype, ops, ops::indexing::TryIndexOp};

use super::Param;
use crate::error::Result;

/// A matrix \[out, in\], or a stack of them \[count, out, in\].
#[derive(Debug, Clone)]
pub enum Matrix {
    /// As stored, widened when used.
    Floats(Param),
    /// Packed codes.
    Packed(Packed),
}

/// Codes \[…, out, in · bits / 32\] (uint32) with scales and biases \[…, out, in / group_size\]: weight = code · scale + bias.
#[derive(Debug, Clone)]
pub struct Packed {
    /// The codes, lowest bits first.
    pub codes: Array,
    /// One per group.
    pub scales: Array,
    /// One per group.
    pub biases: Array,
    /// Weights along the last axis that share a scale.
    pub group_size: i32,
    /// Bits per weight.
    pub bits: i32,
}

impl Packed {
    /// The same done to codes, scales and biases, which have the same rows.
    fn each(&self, f: impl Fn(&Array) -> std::result::Result<Array, mlx_rs::error::Exception>) -> Result<Self> {
        Ok(Self { codes: f(&self.codes)?, scales: f(&self.scales)?, biases: f(&self.biases)?, ..*self })
    }

    fn floats(&self, dtype: Dtype) -> Result<Array> {
        let (scales, biases) = (self.scales.as_dtype(dtype)?, self.biases.as_dtype(dtype)?);
        Ok(ops::dequantize(&self.codes, scales, &biases, self.group_size, self.bits)?)
    }
}

impl Matrix {
    /// Length of a row.
    pub fn depth(&self) -> i32 {
        match self {
            Self::Floats(weight) => weight.stored().shape().last().copied().unwrap_or(1),
            Self::Packed(packed) => packed.codes.dim(-1) * 32 / packed.bits,
        }
    }

    /// Rows of each matrix.
    pub fn rows(&self) -> i32 {
        match self {
            Self::Floats(weight) => weight.stored().shape().iter().nth_back(1).copied().unwrap_or(1),
            Self::Packed(packed) => packed.codes.dim(-2),
        }
    }

    /// The weights as floats.
    ///
    /// # Errors
    /// MLX's.
    pub fn floats(&self, dtype: Dtype) -> Result<Array> {
        match self {
            Self::Floats(weight) => weight.to(dtype),
            Self::Packed(packed) => packed.floats(dtype),
        }
    }

    /// x Wᵀ: \[…, in\] → \[…, out\].
    pub fn product(&self, x: &Array) -> Result<Array> {
        match self {
            Self::Floats(weight) => Ok(ops::matmul(x, weight.turned(x.dtype())?)?),
            Self::Packed(p) => {
                let (scales, biases) = (p.scales.as_dtype(x.dtype())?, p.biases.as_dtype(x.dtype())?);
                Ok(ops::quantized_matmul(x, &p.codes, scales, &biases, true, p.group_size, p.bits)?)
            }
        }
    }

    /// Every \[m, in\] of `x` by the matrix that `experts` names: \[…, m, out\]. `rows` says which of `x` is meant, by its number (both
    /// uint32, of one shape); without it they come one after the other, and the experts' numbers never fall.
    pub fn gather(&self, x: &Array, experts: &Array, rows: Option<&Array>) -> Result<Array> {
        let sorted = rows.is_none();
        match self {
            Self::Floats(weight) => Ok(ops::gather_mm(x, weight.turned(x.dtype())?, rows, experts, sorted)?),
            Self::Packed(p) => {
                let (scales, biases) = (p.scales.as_dtype(x.dtype())?, p.biases.as_dtype(x.dtype())?);
                Ok(ops::gather_qmm(x, &p.codes, scales, &biases, rows, experts, true, p.group_size, p.bits, sorted)?)
            }
        }
    }

    /// Rows by number, as floats: ids \[…\] → \[…, in\]; only these are widened.
    pub fn take(&self, ids: &Array, dtype: Dtype) -> Result<Array> {
        match self {
            Self::Floats(weight) => Ok(weight.stored().take_axis(ids, 0)?.as_dtype(dtype)?),
            Self::Packed(packed) => packed.each(|part| part.take_axis(ids, 0))?.floats(dtype),
        }
    }

    /// Whether a product with activations of `dtype` needs no widened copy.
    pub fn is_ready_for(&self, dtype: Dtype) -> bool {
        match self {
            Self::Floats(weight) => weight.stored().dtype() == dtype,
            Self::Packed(_) => true,
        }
    }

    /// Whether it holds codes.
    pub fn is_packed(&self) -> bool {
        matches!(self, Self::Packed(_))
    }

    /// The matrices of a stack, sharing this one's memory: ranges are views, single numbers would be copies.
    pub fn split(&self, count: i32) -> Result<Vec<Self>> {
        (0..count).map(|at| self.map(|part| part.try_index(at..at + 1)?.squeeze_axes(&[0]))).collect()
    }

    /// Rows `start..end` of every matrix, sharing this one's memory.
    fn part(&self, start: i32, end: i32) -> Result<Self> {
        self.map(|part| part.try_index((mlx_rs::ops::indexing::Ellipsis, start..end, ..)))
    }

    fn map(&self, f: impl Fn(&Array) -> std::result::Result<Array, mlx_rs::error::Exception>) -> Result<Self> {
        Ok(match self {
            Self::Floats(weight) => Self::Floats(Param::new(f(weight.stored())?)),
            Self::Packed(packed) => Self::Packed(packed.each(f)?),
        })
    }

    /// One matrix of all rows; each of `parts` becomes a view of it, so that the weights are held once. None where they are not alike.
    pub fn join_in_place(parts: &mut [&mut Self]) -> Result<Option<Self>> {
        let Some(joined) = Self::joined(&parts.iter().map(|part| &**part).collect::<Vec<_>>())? else {
            return Ok(None);
        };
        let mut start = 0;
        for part in parts {
            let end = start + part.rows();
            **part = joined.part(start, end)?;
            start = end;
        }
        Ok(Some(joined))
    }

    fn joined(parts: &[&Self]) -> Result<Option<Self>> {
        let floats: Vec<&Array> =
            parts.iter().filter_map(|p| if let Self::Floats(w) = p { Some(w.stored()) } else { None }).collect();
        let packed: Vec<&Packed> =
            parts.iter().filter_map(|p| if let Self::Packed(w) = p { Some(w) } else { None }).collect();
        let alike = |arrays: &[&Array]| arrays.iter().all(|a| a.ndim() >= 2 && a.dtype() == arrays[0].dtype());
        let join = |arrays: &[&Array]| -> Result<Array> {
            let all = ops::concatenate(arrays, -2)?;
            // Now, so that what it was made of can go.
            all.eval()?;
            Ok(all)
        };
        if floats.len() == parts.len() && alike(&floats) {
            return Ok(Some(Self::Floats(Param::new(join(&floats)?))));
        }
        let of = |f: fn(&Packed) -> &Array| packed.iter().map(|p| f(p)).collect::<Vec<_>>();
        let same = packed.len() == parts.len()
            && packed.iter().all(|p| (p.bits, p.group_size) == (packed[0].bits, packed[0].group_size));
        if !same || !alike(&of(|p| &p.codes)) || !alike(&of(|p| &p.scales)) {
            return Ok(None);
        }
        Ok(Some(Self::Packed(Packed {
            codes: join(&of(|p| &p.codes))?,
            scales: join(&of(|p| &p.scales))?,
            biases: join(&of(|p| &p.biases))?,
            ..*packed[0]
        })))
    }
}
