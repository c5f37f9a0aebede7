//! What a quantized weight is: its parts, and how they are stored.

use safetensors::Dtype;

use crate::checkpoint::TensorSource;
use crate::error::ConvertError;
use crate::plan::Part;
use crate::quantize::Quantization;

use super::block::{Area, Block};
use super::columns::Columns;
use super::grid::Grid;
use super::rows::Rows;

/// One quantized weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    /// The key of the float weight it stands for.
    pub key: String,
    /// That weight's shape.
    pub shape: Vec<u64>,
    /// The dtype the reference computes it in.
    pub arithmetic: Dtype,
    /// The dtype it is read as.
    pub dtype: Dtype,
    /// The keys it is stored under; the first holds the codes.
    pub parts: Vec<String>,
    /// How it is stored.
    pub form: Form,
}

/// How a quantized weight is stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// A code for each weight, a scale for each block.
    Grid(Grid),
    /// Packed along the rows.
    Rows(Rows),
    /// Packed along or across the columns, transposed.
    Columns(Columns),
    /// MLX's own: words, scales and (where the mode has them) biases, which are the parts in this order.
    Mlx(Quantization),
    /// One of the three parts that [`repack`](super::repack::repack) makes of another weight.
    Repacked(Box<Repacked>),
}

/// One part of a weight in MLX's packing.
#[derive(Debug, Clone, PartialEq)]
pub struct Repacked {
    /// The weight.
    pub of: Packed,
    /// How it is packed now.
    pub to: Quantization,
    /// Which part.
    pub part: Part,
    /// The dtype of scales and biases.
    pub scales: Dtype,
}

impl Form {
    /// Rows and columns that are well read at once.
    pub fn block_size(&self) -> (u64, u64) {
        match self {
            Self::Grid(grid) => grid.block_size(),
            Self::Rows(rows) => rows.block_size(),
            Self::Columns(columns) => columns.block_size(),
            Self::Mlx(_) | Self::Repacked(_) => (1, 32),
        }
    }

    /// How many codes there are.
    pub fn code_count(&self) -> usize {
        match self {
            Self::Rows(rows) => 1 << rows.bits,
            Self::Columns(columns) => 1 << columns.bits,
            Self::Grid(_) | Self::Mlx(_) | Self::Repacked(_) => 256,
        }
    }

    /// What each code is worth before scale and zero point.
    pub fn table(&self) -> [f32; 256] {
        match self {
            Self::Grid(grid) => grid.table(),
            Self::Rows(rows) => rows.table(),
            Self::Columns(columns) => columns.table(),
            Self::Mlx(_) | Self::Repacked(_) => [0.0; 256],
        }
    }

    /// Reads a block.
    pub fn fill(
        &self,
        source: &dyn TensorSource,
        area: &Area,
        block: &mut Block,
        buffer: &mut Vec<u8>,
    ) -> Result<(), ConvertError> {
        match self {
            Self::Grid(grid) => grid.fill(source, area, block, buffer),
            Self::Rows(rows) => rows.fill(source, area, block, buffer),
            Self::Columns(columns) => columns.fill(source, area, block, buffer),
            Self::Mlx(_) | Self::Repacked(_) => Ok(()),
        }
    }
}
