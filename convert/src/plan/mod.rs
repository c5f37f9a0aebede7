//! The plan: from headers, recipe and config to the list of output tensors, or to everything that is wrong. No tensor byte is read.
//!
//! Rows are expanded over their index sets into the exact keys they demand, so that a missing key, an extra key and a wrong shape are
//! found by name and never by guess.

mod expand;
mod operate;
pub mod pack;
mod rearrange;
mod render;
mod rows;
pub mod unpack;

use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::Dtype;
use serde_json::Value;

use crate::checkpoint::{TensorInfo, Unreadable};
use crate::dtype::{DtypeChoice, byte_len};
use crate::error::{Violation, ViolationKind};
use crate::quantize::Quantization;
use crate::recipe::Recipe;
use crate::recipe::config::Normalized;
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
    fn stored(key: &str, info: &TensorInfo) -> Self {
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
    /// They are read as `values` and packed; this output is one part of the result. The parts of one tensor stand in a row in the plan.
    Quantize {
        /// How.
        to: Quantization,
        /// The dtype they are rounded to before they are packed.
        values: Dtype,
        /// Which part.
        part: Part,
    },
    /// The assembly's views are packed words, scales and (where the mode has them) biases; the values they stand for are written.
    Dequantize {
        /// How they were packed.
        from: Quantization,
        /// The dtype MLX makes of them, before they are rounded to the output's.
        values: Dtype,
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

/// Makes the plan as far as it can be made; it may be carried out only when no violation comes with it.
pub fn plan(
    recipe: &Recipe,
    layout: &str,
    dtype: DtypeChoice,
    normalized: Normalized,
    tensors: &BTreeMap<String, TensorInfo>,
    unreadable: &Unreadable,
) -> (Plan, Vec<Violation>) {
    let Normalized { json, dims, notes, mut violations } = normalized;
    let mut planner = rows::Planner::new(recipe, layout, dtype, &dims, tensors, unreadable);
    planner.all_rows();
    let blind = planner.is_blind();
    let (outputs, dropped, found) = planner.finish();
    violations.extend(found);
    if blind && violations.is_empty() {
        // A row that could not be expanded always has a reason on the list; if ever it has not, the plan must still not pass.
        violations.push(Violation::new(ViolationKind::Recipe, &recipe.name, "every row expanded", "one that was not"));
    }
    let mut plan = Plan {
        recipe: recipe.name.clone(),
        recipe_hash: recipe.hash.clone(),
        layout: layout.to_owned(),
        dtype,
        quantization: None,
        tensors: outputs,
        dropped,
        config: json,
        notes,
    };
    complete_config(&mut plan, recipe);
    (plan, violations)
}

/// States in the config what the weights are and who wrote them.
fn complete_config(plan: &mut Plan, recipe: &Recipe) {
    let mut dtypes = plan.tensors.iter().map(|tensor| tensor.dtype);
    if let Some(first) = dtypes.next()
        && dtypes.all(|dtype| dtype == first)
    {
        let name = match first {
            Dtype::F64 => "float64",
            Dtype::F32 => "float32",
            Dtype::F16 => "float16",
            _ => "bfloat16",
        };
        recipe.config.set_dtype(&mut plan.config, name);
    }
    let stamp = serde_json::json!({
        "schema": crate::manifest::SCHEMA,
        "recipe": plan.recipe,
        "layout": plan.layout,
        "version": env!("CARGO_PKG_VERSION"),
    });
    crate::recipe::config::set(&mut plan.config, "mlxport", stamp);
}
