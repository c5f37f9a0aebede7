//! A recipe file as TOML or JSON spells it. Nothing is interpreted here; unknown fields are refused so that a typo cannot pass for a default.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::value::{ExprText, distinct};

/// The schema this build reads.
pub const SCHEMA: u32 = 1;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRecipe {
    pub schema: u32,
    pub name: String,
    #[serde(default)]
    pub description: String,
    pub layouts: Vec<String>,
    pub fits: RawFits,
    #[serde(default)]
    pub config: RawConfig,
    #[serde(default)]
    pub dims: Vec<RawDim>,
    #[serde(default, deserialize_with = "distinct")]
    pub indices: BTreeMap<String, RawIndex>,
    #[serde(default)]
    pub require: Vec<RawRequire>,
    #[serde(default)]
    pub quantize: RawPacking,
    pub table: RawTable,
}

/// The rows, under a name of their own so that they can come last.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTable {
    pub rows: Vec<RawRow>,
}

/// Which configs it is for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawFits {
    pub model_type: Vec<String>,
    #[serde(default)]
    pub architectures: Vec<String>,
}

/// How config.json is read and written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    #[serde(default)]
    pub write: WriteMode,
    #[serde(default)]
    pub drop: Vec<String>,
    #[serde(default)]
    pub dtype_fields: Vec<String>,
    #[serde(default)]
    pub fields: Vec<RawField>,
}

/// Which config.json the converted directory gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// The release's, with every listed field made explicit.
    #[default]
    Complete,
    /// The release's, unchanged: fields are only read and checked.
    AsIs,
    /// The listed fields alone.
    Listed,
}

/// One config field.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawField {
    pub path: String,
    #[serde(default)]
    pub also: Vec<String>,
    #[serde(default)]
    pub mirror: bool,
    pub kind: Kind,
    pub dim: Option<String>,
    /// The dim of a number: `int(number * share_of)`.
    pub share_of: Option<String>,
    pub default: Option<Value>,
    pub value: Option<Value>,
    #[serde(default, rename = "override")]
    pub overrides: bool,
    #[serde(default)]
    pub only: Vec<Value>,
    pub null_means: Option<String>,
    /// What strings (and the strings of a list) are read as.
    #[serde(default, deserialize_with = "distinct")]
    pub words: BTreeMap<String, Value>,
    /// Members of an object that are left out.
    #[serde(default)]
    pub without: Vec<String>,
    /// Members of an object that take the value of another where they are missing.
    #[serde(default, deserialize_with = "distinct")]
    pub adds: BTreeMap<String, String>,
    /// An object with one of these members counts as null.
    #[serde(default, deserialize_with = "distinct")]
    pub null_where: BTreeMap<String, Value>,
    pub when: Option<String>,
    pub why: Option<String>,
}

/// What a config field may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An integer from 1.
    Size,
    /// An integer from 0.
    Count,
    /// `Size`, or null (which counts as 0 in expressions).
    SizeOrNull,
    /// `Count`, or null; 0 is written as null.
    CountOrNull,
    /// Any finite number.
    Number,
    /// A finite number above 0.
    Positive,
    /// true or false.
    Flag,
    /// A string.
    Text,
    /// A list of strings.
    Texts,
    /// A list of `Size`.
    Sizes,
    /// A list of `Count`.
    Counts,
    /// An object, or null.
    ObjectOrNull,
    /// Null only.
    Null,
    /// Anything; carried along.
    Any,
}

impl Kind {
    /// Whether the field is a list, so that its dim is one.
    pub fn is_list(self) -> bool {
        matches!(self, Self::Sizes | Self::Counts | Self::Texts)
    }
}

/// A dim made of others.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawDim {
    pub name: String,
    pub is: ExprText,
}

/// A named set of numbers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawIndex {
    pub count: ExprText,
    #[serde(rename = "where")]
    pub filter: Option<String>,
    #[serde(default)]
    pub may_be_empty: bool,
}

/// A condition that the config must meet.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRequire {
    pub check: String,
    pub when: Option<String>,
    pub why: String,
}

/// One string, or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "a key pattern, or a list of key patterns")]
pub enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    /// All of them.
    pub fn list(&self) -> Vec<&str> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts.iter().map(String::as_str).collect(),
        }
    }
}

/// One shape, or a shape for each source or target.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "a shape (a list of integers and expressions), or a list of shapes")]
pub enum RawShape {
    Same(Vec<ExprText>),
    Each(Vec<Vec<ExprText>>),
}

/// One order of axes, or one for each target.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "an order of axes (a list of integers from 0), or a list of orders")]
pub enum RawOrder {
    Same(Vec<usize>),
    Each(Vec<Vec<usize>>),
}

/// One row: which keys, what shape, what becomes of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRow {
    pub from: OneOrMany,
    pub shape: Option<RawShape>,
    pub dtype: Option<Vec<String>>,
    pub when: Option<String>,
    #[serde(default)]
    pub optional: bool,
    pub zeros_if_missing: Option<String>,
    pub keep_dtype: Option<String>,
    pub op: Option<OpName>,
    pub to: Option<OneOrMany>,
    pub over: Option<String>,
    pub kernel: Option<[ExprText; 2]>,
    pub axis: Option<usize>,
    pub sizes: Option<Vec<ExprText>>,
    pub view: Option<Vec<ExprText>>,
    pub order: Option<RawOrder>,
    pub result: Option<RawShape>,
    pub number: Option<i32>,
    pub reason: Option<String>,
    pub same_as: Option<String>,
    #[serde(default, deserialize_with = "distinct")]
    pub layouts: BTreeMap<String, RawAction>,
}

/// What becomes of a row's tensors in a layout that differs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAction {
    pub op: Option<OpName>,
    pub to: Option<OneOrMany>,
    pub over: Option<String>,
    pub kernel: Option<[ExprText; 2]>,
    pub axis: Option<usize>,
    pub sizes: Option<Vec<ExprText>>,
    pub view: Option<Vec<ExprText>>,
    pub order: Option<RawOrder>,
    pub result: Option<RawShape>,
    pub number: Option<i32>,
    pub reason: Option<String>,
    pub same_as: Option<String>,
}

impl RawRow {
    /// The row's own action: what happens in layouts that it does not list.
    pub fn action(&self) -> RawAction {
        RawAction {
            op: self.op,
            to: self.to.clone(),
            over: self.over.clone(),
            kernel: self.kernel.clone(),
            axis: self.axis,
            sizes: self.sizes.clone(),
            view: self.view.clone(),
            order: self.order.clone(),
            result: self.result.clone(),
            number: self.number,
            reason: self.reason.clone(),
            same_as: self.same_as.clone(),
        }
    }
}

/// The operations, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpName {
    Copy,
    ConvOihwToOhwi,
    Transpose,
    Permute,
    PermuteUnfold,
    Split,
    SplitQkv,
    Stack,
    Concat,
    Add,
    Drop,
}

impl fmt::Display for OpName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Copy => "copy",
            Self::ConvOihwToOhwi => "conv_oihw_to_ohwi",
            Self::Transpose => "transpose",
            Self::Permute => "permute",
            Self::PermuteUnfold => "permute_unfold",
            Self::Split => "split",
            Self::SplitQkv => "split_qkv",
            Self::Stack => "stack",
            Self::Concat => "concat",
            Self::Add => "add",
            Self::Drop => "drop",
        })
    }
}

/// The `[quantize]` table as a recipe spells it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawPacking {
    /// Modules that MLX's layers can hold packed (linear, embedding, expert bank); no rule packs another.
    pub can: Vec<String>,
    /// The rules, the first match decides; what none matches is kept.
    pub rules: Vec<RawRule>,
}

/// One rule as it is spelled: `keep` with a reason, or what to pack with where it is not what was asked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRule {
    #[serde(rename = "match")]
    pub matches: OneOrMany,
    pub keep: Option<String>,
    pub mode: Option<String>,
    pub bits: Option<u32>,
    pub group_size: Option<u32>,
}
