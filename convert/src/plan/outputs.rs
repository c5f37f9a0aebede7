//! What a plan says: every tensor that will be written, what it is made of, and what is left out.

use std::ops::Range;

use safetensors::Dtype;
use serde_json::Value;

use crate::checkpoint::TensorInfo;
use crate::dtype::{DtypeChoice, byte_len};
use crate::quantize::Quantization;
use crate::transforms::{Assembly, View};

/// One source tensor of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedSource {
    /// Its key.
    pub key: String,
    /// dtype as stored.
    pub dtype: Dtype,
    /// Shape as stored.
    pub shape: Vec<u64>,
    /// Stored elements per step along each axis.
    pub strides: Vec<u64>,
}

impl PlannedSource {
    /// A tensor as the checkpoint has it.
    pub(crate) fn stored(key: &str, info: &TensorInfo) -> Self {
        Self { key: key.to_owned(), dtype: info.dtype, shape: info.shape.clone(), strides: info.strides.clone() }
    }

    /// The whole of it, as it is stored.
    pub(crate) fn view(&self) -> View {
        View::stored(&self.key, self.dtype, &self.shape, &self.strides)
    }
}

/// One tensor that will be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputTensor {
    /// Its key in the converted model.
    pub name: String,
    /// dtype as written.
    pub dtype: Dtype,
    /// Shape as written, row-major.
    pub shape: Vec<u64>,
    /// What it is made of, in order.
    pub sources: Vec<PlannedSource>,
    /// The operation's name.
    pub op: String,
    /// The recipe row (from 1).
    pub row: usize,
    /// How its elements are read.
    pub assembly: Assembly,
    /// What is done with them on the way.
    pub making: Making,
}

/// What happens to the elements that an assembly reads before they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Making {
    /// They are written, as the output's dtype.
    Store,
    /// Nothing is read: zeros are written.
    Zeros,
    /// They are read as `values` and packed; this output is one part of the result. The parts of one tensor stand in a row in the plan.
    Quantize {
        /// How.
        to: Quantization,
        /// The dtype they are rounded to before they are packed.
        values: Dtype,
        /// Which part.
        part: Part,
    },
    /// As [`Store`](Self::Store): a part of a weight that came quantized and is packed as MLX packs.
    Repack {
        /// How.
        to: Quantization,
    },
}

/// A part of a quantized tensor, as MLX names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The packed words (`weight`, U32).
    Weight,
    /// The scale of each group (`scales`).
    Scales,
    /// The offset of each group (`biases`).
    Biases,
}

impl OutputTensor {
    /// Bytes it will take. Plans hold no tensor whose bytes cannot be counted.
    pub fn byte_len(&self) -> u64 {
        byte_len(self.dtype, &self.shape).unwrap_or(0)
    }
}

/// A source tensor that is left out on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Its key.
    pub key: String,
    /// The recipe row (from 1).
    pub row: usize,
    /// Why it may be left out.
    pub reason: String,
    /// It and the tensor that it must equal element by element, where that is why.
    pub same_as: Option<(PlannedSource, PlannedSource)>,
}

/// Everything a conversion will do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The recipe's name.
    pub recipe: String,
    /// BLAKE3 of the recipe's text.
    pub recipe_hash: String,
    /// The layout.
    pub layout: String,
    /// What float tensors become.
    pub dtype: DtypeChoice,
    /// How weights are packed unless a rule says otherwise, where they are.
    pub quantization: Option<Quantization>,
    /// Output tensors in recipe order.
    pub tensors: Vec<OutputTensor>,
    /// Source tensors left out.
    pub dropped: Vec<Dropped>,
    /// The converted config.json.
    pub config: Value,
    /// What was changed that a person may want to know.
    pub notes: Vec<String>,
}

impl Plan {
    /// Which outputs are made together, from one reading of their sources: the parts of a quantized tensor, or one tensor.
    pub fn jobs(&self) -> Vec<Range<usize>> {
        let mut jobs: Vec<Range<usize>> = Vec::new();
        for (at, tensor) in self.tensors.iter().enumerate() {
            match (tensor.making, jobs.last_mut()) {
                (Making::Quantize { part: Part::Scales | Part::Biases, .. }, Some(job)) => job.end = at + 1,
                _ => jobs.push(at..at + 1),
            }
        }
        jobs
    }

    /// Bytes of all output tensors together.
    pub fn byte_len(&self) -> u64 {
        self.tensors.iter().map(OutputTensor::byte_len).sum()
    }
}
