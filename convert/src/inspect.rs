//! Inspection: what a path holds, grouped so that a person can read it, and which recipe fits and why the others do not.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::checkpoint::{Checkpoint, Scan, SourceFile, TensorSource};
use crate::dtype::{DtypeChoice, byte_len};
use crate::error::{ConvertError, Violation};
use crate::manifest::MANIFEST_FILE;
use crate::plan::plan;
use crate::recipe::Recipe;
use crate::survey::{Fit, read_config, verdicts};

/// What a path holds.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// Weight files.
    pub files: Vec<SourceFile>,
    /// Tensors.
    pub tensors: usize,
    /// Bytes of all tensors together.
    pub byte_len: u64,
    /// Tensors by dtype.
    pub dtypes: BTreeMap<String, usize>,
    /// Keys grouped by their form, in key order.
    pub groups: Vec<Group>,
    /// `model_type` of the config, where there is one.
    pub model_type: Option<String>,
    /// Whether it is a directory that mlxport wrote.
    pub converted: bool,
    /// Every built-in recipe's verdict.
    pub recipes: Vec<Verdict>,
    /// What is wrong with the files themselves.
    pub violations: Vec<Violation>,
}

/// Keys that differ only in their numbers, with one shape and dtype.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The key with `{n}` for each number.
    pub pattern: String,
    /// dtype.
    pub dtype: String,
    /// Shape.
    pub shape: Vec<u64>,
    /// How many tensors.
    pub count: usize,
    /// The first key.
    pub first: String,
}

/// What a recipe says of the path.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// The recipe.
    pub recipe: String,
    /// Whether the config is one it is for and every key, shape and dtype is as it demands.
    pub fits: bool,
    /// Why not, where the config is not one it is for.
    pub reason: Option<String>,
    /// Why not, where it is.
    pub violations: Vec<Violation>,
}

/// Reads headers and config of `path` and asks every recipe.
///
/// # Errors
/// [`ConvertError::NoSuchSource`], or when a built-in recipe cannot be parsed.
pub fn inspect(path: &Path) -> Result<Inspection, ConvertError> {
    inspect_named(path, None)
}

/// The same; of PyTorch's files, the state dict is the one that `state_dict` names, where it is given.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_named(path: &Path, state_dict: Option<&str>) -> Result<Inspection, ConvertError> {
    let mut scan = Checkpoint::scan_named(path, state_dict)?;
    let converted = scan.checkpoint.root().join(MANIFEST_FILE).is_file();
    let (mut recipes, mut model_type) = (Vec::new(), None);
    match read_config(&scan.checkpoint) {
        Err(violation) => scan.violations.push(violation),
        Ok(config) => {
            let named = config.get("model_type").and_then(|value| value.as_str());
            model_type = named.map(str::to_owned);
            for (recipe, fit) in verdicts(&config)? {
                let fit = if converted { Err("mlxport has converted this directory already".to_owned()) } else { fit };
                recipes.push(verdict(&scan, &config, &recipe, fit)?);
            }
        }
    }
    let violations = scan.violations;
    let tensors = scan.checkpoint.tensors();
    let mut dtypes = BTreeMap::new();
    for info in tensors.values() {
        *dtypes.entry(info.dtype.to_string()).or_default() += 1;
    }
    let sizes = tensors.values().filter_map(|info| byte_len(info.dtype, &info.shape));
    Ok(Inspection {
        files: scan.checkpoint.files().to_vec(),
        tensors: tensors.len(),
        // Repeated elements (stride 0) take no bytes in the file, so there is no bound on what tensors claim.
        byte_len: sizes.fold(0, u64::saturating_add),
        dtypes,
        groups: groups(&scan.checkpoint),
        model_type,
        converted,
        recipes,
        violations,
    })
}

/// The recipe's verdict: a plan that nothing is wrong with, or the reasons.
fn verdict(scan: &Scan, config: &Value, recipe: &Recipe, fit: Fit) -> Result<Verdict, ConvertError> {
    let mut violations = Vec::new();
    if fit.is_ok() {
        let normalized = recipe.config.normalize(config);
        let (layout, keep) = (recipe.layout(None)?, DtypeChoice::Keep);
        let tensors = scan.checkpoint.tensors();
        violations = plan(recipe, &layout, keep, normalized, tensors, &scan.unreadable).1;
    }
    Ok(Verdict {
        recipe: recipe.name.clone(),
        fits: fit.is_ok() && violations.is_empty() && scan.violations.is_empty(),
        reason: fit.err(),
        violations,
    })
}

/// Keys by form, shape and dtype, in the order of each group's first key.
fn groups(checkpoint: &Checkpoint) -> Vec<Group> {
    let mut groups: BTreeMap<(String, String, Vec<u64>), Group> = BTreeMap::new();
    for (key, info) in checkpoint.tensors() {
        let pattern = generalize(key);
        let dtype = info.dtype.to_string();
        groups
            .entry((pattern.clone(), dtype.clone(), info.shape.clone()))
            .or_insert_with(|| Group { pattern, dtype, shape: info.shape.clone(), count: 0, first: key.clone() })
            .count += 1;
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by(|a, b| a.first.cmp(&b.first));
    groups
}

/// The key with `{n}` for each part that is a number.
fn generalize(key: &str) -> String {
    let parts: Vec<&str> = key
        .split('.')
        .map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if digits { "{n}" } else { part }
        })
        .collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::generalize;

    #[test]
    fn numbers_are_generalized() {
        assert_eq!(generalize("a.0.b.12.c1"), "a.{n}.b.{n}.c1");
        assert_eq!(generalize("7"), "{n}");
    }
}
