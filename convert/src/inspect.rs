//! Inspection: what a path holds, grouped so that a person can read it, and which recipe fits and why the others do not.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::checkpoint::{Checkpoint, Scan, SourceFile, TensorSource};
use crate::digest;
use crate::dtype::{DtypeChoice, byte_len};
use crate::error::{ConvertError, Violation, ViolationKind, count};
use crate::keys::generalize;
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
    /// The verdict of every recipe that was asked: those that fit, then by how little is wrong.
    pub recipes: Vec<Verdict>,
    /// What is wrong with the files themselves.
    pub violations: Vec<Violation>,
    /// What a person may want to know of the files.
    pub notes: Vec<String>,
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
    /// The recipe: its name, or that of its file.
    pub recipe: String,
    /// Whether it is built in, so that `convert` finds it by itself.
    pub builtin: bool,
    /// Whether the config is one it is for and every key, shape and dtype is as it demands.
    pub fits: bool,
    /// Why not, where the config is not one it is for.
    pub reason: Option<String>,
    /// What its checks found: with its own file, or with the path's config, keys, shapes and dtypes. A built-in recipe is not checked
    /// against a config that it is not for.
    pub violations: Vec<Violation>,
}

/// Reads headers and config of `path` and asks every built-in recipe.
///
/// # Errors
/// [`ConvertError::NoSuchSource`], or when a built-in recipe cannot be parsed.
pub fn inspect(path: &Path) -> Result<Inspection, ConvertError> {
    inspect_with(path, None, &[])
}

/// The same. Of PyTorch's files, the state dict is the one that `state_dict` names, where it is given. `more` are recipe files to ask too (a
/// built-in one may be named again: then it is checked whatever the config says).
///
/// # Errors
/// As [`inspect`]; [`ConvertError::NoSuchRecipe`] or [`ConvertError::Io`] for a recipe that cannot be read. One that is wrong itself is no
/// error here: its verdict says what is wrong with it.
pub fn inspect_with(path: &Path, state_dict: Option<&str>, more: &[String]) -> Result<Inspection, ConvertError> {
    let mut scan = Checkpoint::scan_named(path, state_dict)?;
    let converted = scan.checkpoint.root().join(MANIFEST_FILE).is_file();
    let (mut recipes, mut model_type) = (Vec::new(), None);
    let is_lone = path.is_file() && !scan.checkpoint.root().join("config.json").exists();
    let config = match read_config(&scan.checkpoint) {
        Ok(config) => Some(config),
        // A file by itself is listed; which recipe it fits is not asked.
        Err(_) if is_lone => {
            scan.notes.push("there is no config.json beside it: only recipes that were named are asked".to_owned());
            None
        }
        Err(violation) => {
            scan.violations.push(violation);
            None
        }
    };
    if let Some(config) = &config {
        model_type = config.get("model_type").and_then(Value::as_str).map(str::to_owned);
        for (recipe, fit) in verdicts(config)? {
            if !more.contains(&recipe.name) {
                let violations = if fit.is_ok() { checked(&scan, config, &recipe)? } else { Vec::new() };
                recipes.push(Verdict::new(&recipe.name, true, fit, violations));
            }
        }
    }
    let nothing = Value::Object(serde_json::Map::new());
    let asked = if is_lone { Some(&nothing) } else { config.as_ref() };
    for name in more {
        recipes.extend(named(&scan, asked, name)?);
    }
    for verdict in &mut recipes {
        verdict.fits &= scan.violations.is_empty() && !converted;
        if converted {
            verdict.reason = Some("mlxport has converted this directory already".to_owned());
        }
    }
    // Stable: what is equally near stays in the order in which it was asked.
    recipes.sort_by_key(|verdict| (!verdict.fits, verdict.reason.is_some(), verdict.violations.len()));
    Ok(found(scan, converted, model_type, recipes))
}

impl Verdict {
    fn new(recipe: &str, builtin: bool, fit: Fit, violations: Vec<Violation>) -> Self {
        let fits = fit.is_ok() && violations.is_empty();
        Self { recipe: recipe.to_owned(), builtin, fits, reason: fit.err(), violations }
    }

    /// Whether it is a built-in recipe that was not even checked, for the config is of another model.
    pub fn is_for_another(&self) -> bool {
        self.builtin && self.reason.is_some() && self.violations.is_empty()
    }

    /// For people: one line, and where it does not fit the first `shown` forms of what is wrong.
    pub fn text(&self, shown: usize) -> String {
        let name = &self.recipe;
        if self.fits {
            return format!("recipe {name}: fits\n");
        }
        let mut out = format!("recipe {name}: does not fit");
        if let Some(reason) = &self.reason {
            out.push_str(&format!(": {reason}"));
        }
        let broken = self.violations.iter().any(|violation| violation.kind == ViolationKind::Recipe);
        if !self.violations.is_empty() {
            out.push_str(&format!(": {}\n", count(&self.violations)));
            // What is missing from another model is no news.
            if self.reason.is_none() || broken {
                out.push_str(&digest::lines(&self.violations, shown, "--json"));
            }
        } else if self.reason.is_none() {
            out.push_str(": the files themselves are wrong\n");
        } else {
            out.push('\n');
        }
        out
    }
}

/// The verdict of a recipe that was asked for by name, which is checked whatever the config says: `convert --recipe` takes it so too.
fn named(scan: &Scan, config: Option<&Value>, name: &str) -> Result<Option<Verdict>, ConvertError> {
    let builtin = Recipe::builtin_names().contains(&name);
    let recipe = match Recipe::named(name) {
        Ok(recipe) => recipe,
        Err(ConvertError::Violations(list)) => {
            let reason = "the recipe itself is wrong".to_owned();
            return Ok(Some(Verdict::new(name, builtin, Err(reason), list.0)));
        }
        Err(error) => return Err(error),
    };
    let Some(config) = config else { return Ok(None) };
    let fit = recipe.fits(config);
    Ok(Some(Verdict::new(name, builtin, fit, checked(scan, config, &recipe)?)))
}

/// What the recipe's checks find.
fn checked(scan: &Scan, config: &Value, recipe: &Recipe) -> Result<Vec<Violation>, ConvertError> {
    let normalized = recipe.config.normalize(config);
    let (layout, keep) = (recipe.layout(None)?, DtypeChoice::Keep);
    Ok(plan(recipe, &layout, keep, normalized, scan.checkpoint.tensors(), &scan.unreadable).1)
}

fn found(scan: Scan, converted: bool, model_type: Option<String>, recipes: Vec<Verdict>) -> Inspection {
    let tensors = scan.checkpoint.tensors();
    let mut dtypes = BTreeMap::new();
    for info in tensors.values() {
        *dtypes.entry(info.dtype.to_string()).or_default() += 1;
    }
    let sizes = tensors.values().filter_map(|info| byte_len(info.dtype, &info.shape));
    Inspection {
        files: scan.checkpoint.files().to_vec(),
        tensors: tensors.len(),
        // Repeated elements (stride 0) take no bytes in the file, so there is no bound on what tensors claim.
        byte_len: sizes.fold(0, u64::saturating_add),
        dtypes,
        groups: groups(&scan.checkpoint),
        model_type,
        converted,
        recipes,
        violations: scan.violations,
        notes: scan.notes,
    }
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
