//! A recipe whose every expression, pattern and name is resolved: rows, their operations, and which config it is for.

use std::collections::BTreeMap;
use std::fmt;

use safetensors::Dtype;

use crate::error::ConvertError;

use super::config::ConfigSpec;
use super::expr::Expr;
use super::packing::Packing;
use super::pattern::Pattern;

/// A checked recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Its name.
    pub name: String,
    /// What it is for, in a line; empty where the file does not say.
    pub description: String,
    /// BLAKE3 of the file's text, in hex.
    pub hash: String,
    /// The layouts it can write; the first is the default.
    pub layouts: Vec<String>,
    /// `model_type` values it is for.
    pub model_types: Vec<String>,
    /// `architectures` values it is for (empty: any).
    pub architectures: Vec<String>,
    /// How config.json is read and written.
    pub config: ConfigSpec,
    /// Named index sets.
    pub indices: BTreeMap<String, IndexSet>,
    /// The rows, in checkpoint order.
    pub rows: Vec<Row>,
    /// Which modules may be quantized, and which are.
    pub packing: Packing,
}

/// A named set of numbers: those below `count` that pass `filter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexSet {
    /// How many numbers there are to choose from.
    pub count: Expr,
    /// Which of them (`i`) belong to it.
    pub filter: Option<Expr>,
    /// Whether rows over it may match nothing.
    pub may_be_empty: bool,
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its place in the file, from 1.
    pub number: usize,
    /// Source key patterns with the shapes they must have. Several only for `concat`.
    pub sources: Vec<(Pattern, Vec<Expr>)>,
    /// Accepted dtypes.
    pub dtypes: Vec<Dtype>,
    /// A `drop` row without shapes: it takes whatever has its form and lies in its index sets, shape and dtype unseen.
    pub unseen: bool,
    /// A `drop` row whose keys may be missing.
    pub optional: bool,
    /// A row whose target is zeros where the key is missing: why that is right.
    pub zeros_if_missing: Option<String>,
    /// Whether it keeps its dtype, whatever the others are cast to.
    pub keeps_dtype: bool,
    /// The row holds only where this is true.
    pub when: Option<Expr>,
    /// What becomes of it, by layout.
    pub actions: BTreeMap<String, Action>,
}

impl Row {
    /// How messages and the manifest name it.
    pub fn label(&self) -> String {
        format!("row {}: {}", self.number, self.sources[0].0)
    }
}

/// What a row does in one layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// The operation.
    pub op: Op,
    /// Target key patterns: as many as parts for `split`, three for `split_qkv`, none for `drop`, one or more for `copy`, else one.
    pub targets: Vec<Pattern>,
}

/// How a tensor, or a part of one, is laid out as a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lay {
    /// Axis `k` of the result is axis `order[k]` of what is read; `None` keeps the order.
    pub order: Option<Vec<usize>>,
    /// The shape the result is written with, where it is not that of its axes: the same elements in the same order.
    pub result: Option<Vec<Expr>>,
}

/// An operation on whole tensors. All but [`Op::Add`] rearrange elements and compute none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// As it is.
    Copy,
    /// Convolution kernel `[O, I, H, W]` → `[O, H, W, I]`.
    ConvOihwToOhwi,
    /// `[R, C]` → `[C, R]`.
    Transpose,
    /// Axes in another order.
    Permute {
        /// The shape to read the source in, where it is not its own.
        view: Option<Vec<Expr>>,
        /// What becomes of the axes.
        lay: Lay,
    },
    /// Columns of a linear weight behind `F.unfold`: `[O, C·kh·kw]` → `[O, kh·kw·C]`.
    PermuteUnfold {
        /// Kernel height.
        kernel_height: Expr,
        /// Kernel width.
        kernel_width: Expr,
    },
    /// Parts along an axis, each a target.
    Split {
        /// The shape to read the source in, where it is not its own.
        view: Option<Vec<Expr>>,
        /// The axis (of the view) that is cut.
        axis: usize,
        /// The parts' sizes along it; equal ones where none are given.
        sizes: Option<Vec<Expr>>,
        /// What becomes of each part's axes, in the order of the targets.
        lays: Vec<Lay>,
    },
    /// `[3·D, …]` → three of `[D, …]`: query, key, value.
    SplitQkv,
    /// One tensor per number of an index set, in order, on a new leading axis.
    Stack {
        /// The index set's name.
        over: String,
    },
    /// Several tensors joined along an axis they need not agree in.
    Concat {
        /// The axis.
        axis: usize,
    },
    /// A whole number added to every value, in the dtype that it is stored in: norms that a port keeps as weight + 1.
    Add {
        /// The number.
        number: i32,
    },
    /// Left out.
    Drop {
        /// Why it may be.
        reason: String,
        /// The tensor that it must equal, element by element.
        same_as: Option<Pattern>,
    },
}

impl fmt::Display for Op {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Copy => "copy",
            Self::ConvOihwToOhwi => "conv_oihw_to_ohwi",
            Self::Transpose => "transpose",
            Self::Permute { .. } => "permute",
            Self::Split { .. } => "split",
            Self::PermuteUnfold { .. } => "permute_unfold",
            Self::SplitQkv => "split_qkv",
            Self::Stack { .. } => "stack",
            Self::Concat { .. } => "concat",
            Self::Add { .. } => "add",
            Self::Drop { .. } => "drop",
        })
    }
}

impl Recipe {
    /// Whether it is for the model type that a config states, whatever the architecture.
    pub fn is_for_type(&self, config: &serde_json::Value) -> bool {
        let model_type = config.get("model_type").and_then(|value| value.as_str());
        model_type.is_some_and(|found| self.model_types.iter().any(|known| known == found))
    }

    /// Why this recipe is not for that config, or `Ok`.
    ///
    /// # Errors
    /// The reason, in words.
    pub fn fits(&self, config: &serde_json::Value) -> Result<(), String> {
        if !self.is_for_type(config) {
            return Err(format!(
                "config.json says model_type {}, {} is for {}",
                config.get("model_type").and_then(|value| value.as_str()).unwrap_or("nothing"),
                self.name,
                self.model_types.join(", ")
            ));
        }
        let found: Vec<&str> = config
            .get("architectures")
            .and_then(|value| value.as_array())
            .into_iter()
            .flatten()
            .filter_map(|value| value.as_str())
            .collect();
        let known = |name: &&str| self.architectures.iter().any(|arch| arch == name);
        if found.is_empty() || self.architectures.is_empty() || found.iter().any(known) {
            return Ok(());
        }
        Err(format!(
            "config.json says architectures {}, {} is for {}",
            found.join(", "),
            self.name,
            self.architectures.join(", ")
        ))
    }

    /// The layout of that name, or the default one.
    ///
    /// # Errors
    /// [`ConvertError::NoSuchLayout`].
    pub fn layout(&self, name: Option<&str>) -> Result<String, ConvertError> {
        let name = name.unwrap_or(&self.layouts[0]);
        if self.layouts.iter().any(|known| known == name) {
            return Ok(name.to_owned());
        }
        Err(ConvertError::NoSuchLayout {
            name: name.to_owned(),
            recipe: self.name.clone(),
            known: self.layouts.join(", "),
        })
    }
}
