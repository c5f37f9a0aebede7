//! config.json: read in whatever form a release has it, written complete and explicit.
//!
//! A recipe lists the fields that matter. Each is looked up at every place it may stand (PyTorch reads the first of them); all places
//! that have it must agree; a missing one takes the default of the release's configuration class. Fields with a `dim` name become the
//! numbers that shapes and index sets are made of. Fields that the recipe does not list are carried along as they are, unless it says
//! `write = "listed"`; with `write = "as_is"` nothing is changed at all.

mod path;
mod reading;
mod translate;
mod value;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::Violation;

use super::checker::Checker;
use super::expr::{Dims, Expr};
use super::table::{Kind, RawConfig, RawField, RawRecipe, WriteMode};

pub use path::{lookup, set};

/// The config part of a recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigSpec {
    write: WriteMode,
    drop: Vec<String>,
    dtype_fields: Vec<String>,
    fields: Vec<Field>,
    dims: Vec<(String, Expr)>,
    require: Vec<Require>,
}

#[derive(Debug, Clone, PartialEq)]
struct Field {
    raw: RawField,
    /// What a missing field is.
    default: Option<Source>,
    /// What the field always is.
    value: Option<Source>,
    null_means: Option<Expr>,
    when: Option<Expr>,
    share_of: Option<Expr>,
    only: Vec<Value>,
}

#[derive(Debug, Clone, PartialEq)]
enum Source {
    Literal(Value),
    Computed(Expr),
}

#[derive(Debug, Clone, PartialEq)]
struct Require {
    check: Expr,
    when: Option<Expr>,
    why: String,
}

/// A config as the converted directory will have it, and the numbers it gives to the plan.
#[derive(Debug, Clone)]
pub struct Normalized {
    /// The whole config.json.
    pub json: Value,
    /// The recipe's dims.
    pub dims: Dims,
    /// What was changed that a person may want to know.
    pub notes: Vec<String>,
    /// Everything wrong with the source.
    pub violations: Vec<Violation>,
}

impl ConfigSpec {
    pub(super) fn check(raw: &RawRecipe, checker: &mut Checker) -> Self {
        check_write(&raw.config, checker);
        let (mut fields, mut conditional) = (Vec::new(), BTreeMap::new());
        for field in &raw.config.fields {
            fields.push(check_field(field, checker));
            let Some(name) = &field.dim else { continue };
            // A field that is listed again under another condition may give the same dim.
            let list = field.kind.is_list();
            if field.when.is_none() || conditional.get(name) != Some(&list) {
                checker.declare(name, field.kind);
            }
            if field.when.is_some() {
                conditional.insert(name, list);
            }
        }
        let mut dims = Vec::new();
        for dim in &raw.dims {
            dims.push((dim.name.clone(), checker.expr(&dim.is, false, &format!("dim {}", dim.name))));
            checker.declare(&dim.name, Kind::Count);
        }
        let require = raw
            .require
            .iter()
            .map(|require| Require {
                check: checker.expr(&require.check, false, "require"),
                when: require.when.as_ref().map(|text| checker.expr(text, false, "require")),
                why: require.why.clone(),
            })
            .collect();
        let RawConfig { write, drop, dtype_fields, .. } = &raw.config;
        Self { write: *write, drop: drop.clone(), dtype_fields: dtype_fields.clone(), fields, dims, require }
    }

    /// Reads `source`, which may be a release's config or one that this function wrote.
    pub fn normalize(&self, source: &Value) -> Normalized {
        reading::normalize(self, source)
    }

    /// Writes the dtype that the converted weights have into the fields that state it.
    pub fn set_dtype(&self, json: &mut Value, torch_name: &str) {
        for path in &self.dtype_fields {
            set(json, path, Value::String(torch_name.to_owned()));
        }
    }
}

/// What would change a config that is to stay as it is, or take from one that begins empty.
fn check_write(raw: &RawConfig, checker: &mut Checker) {
    if raw.write != WriteMode::Complete && !raw.drop.is_empty() {
        checker.complain("config", "drop only where the release's fields are carried along and may change", "it");
    }
    let changes = |field: &&RawField| raw.write == WriteMode::AsIs && (field.mirror || field.overrides);
    for field in raw.fields.iter().filter(changes) {
        checker.complain(&field.path, "no mirror and no override in a config written as_is", "one");
    }
}

fn check_field(raw: &RawField, checker: &mut Checker) -> Field {
    let mut source = |value: &Option<Value>| {
        let value = value.as_ref()?;
        let numeric = !matches!(raw.kind, Kind::Text | Kind::Texts | Kind::Any);
        Some(match value {
            Value::String(text) if numeric => Source::Computed(checker.expr(text, false, &raw.path)),
            other => Source::Literal(other.clone()),
        })
    };
    let (default, value) = (source(&raw.default), source(&raw.value));
    let mut expr = |text: &Option<String>| text.as_ref().map(|text| checker.expr(text, false, &raw.path));
    let (null_means, when, share_of) = (expr(&raw.null_means), expr(&raw.when), expr(&raw.share_of));
    if raw.overrides && value.is_none() && raw.kind != Kind::Null {
        checker.complain(&raw.path, "a value to override with", "none");
    }
    translate::check(raw, checker);
    let is_share = matches!(raw.kind, Kind::Number | Kind::Positive) && raw.share_of.is_some();
    if raw.share_of.is_some() && (!is_share || raw.dim.is_none()) {
        checker.complain(&raw.path, "share_of only for the dim of a number", "it");
    }
    let no_number =
        matches!(raw.kind, Kind::Number | Kind::Positive | Kind::ObjectOrNull | Kind::Null | Kind::Any) && !is_share;
    let uncounted = matches!(raw.kind, Kind::Text | Kind::Texts) && raw.only.is_empty();
    if raw.dim.is_some() && (no_number || uncounted) {
        checker.complain(&raw.path, "no dim for a field that is no integer", "a dim name");
    }
    Field { raw: raw.clone(), default, value, null_means, when, share_of, only: raw.only.clone() }
}
