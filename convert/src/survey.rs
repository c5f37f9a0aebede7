//! The first half of a conversion: open the checkpoint, choose the recipe, read the config, make the plan, collect everything wrong.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::checkpoint::form::stands_for;
use crate::checkpoint::{Checkpoint, MAX_JSON_BYTE_LEN, Scan, TensorInfo, TensorSource, Unreadable};
use crate::error::{ConvertError, Violation, ViolationKind};
use crate::files::read_bounded;
use crate::manifest::Manifest;
use crate::opening::{self, Opening};
use crate::plan::copy::copy;
use crate::plan::pack::pack;
use crate::plan::{Plan, check_dtypes, complete_config, plan};
use crate::prefix;
use crate::prequantized::{Opened, repack};
use crate::progress::{Progress, Silent};
use crate::recipe::Recipe;
use crate::request::Request;
use crate::writer::{self, WriteOptions};

/// A checkpoint with its plan as far as one could be made, and everything that is wrong.
#[derive(Debug)]
pub struct Survey {
    source: Opened,
    /// The plan; `None` when no recipe or config could be had.
    pub plan: Option<Plan>,
    /// Everything wrong, in the order of the checks: files, config, keys.
    pub violations: Vec<Violation>,
}

/// A conversion that may be carried out: nothing was wrong.
#[derive(Debug)]
pub struct Prepared {
    source: Opened,
    /// What will be written.
    pub plan: Plan,
}

/// Reads headers and config and makes the plan. What is wrong with the input comes back in the [`Survey`].
///
/// # Errors
/// What keeps any plan from being made: no such source, no such recipe or layout, a recipe that is wrong itself.
pub fn survey(request: &Request) -> Result<Survey, ConvertError> {
    let named = request.recipe.as_deref().map(Recipe::named).transpose()?;
    survey_by(request, named)
}

/// The same by a recipe in memory, whatever the request names; `None` takes the built-in one that fits the config.
///
/// # Errors
/// As [`survey`].
pub fn survey_by(request: &Request, named: Option<Recipe>) -> Result<Survey, ConvertError> {
    let mut scan = Checkpoint::scan_named(&request.source, request.state_dict.as_deref())?;
    strip_as_told(request, &mut scan);
    let mut survey = Survey { source: Opened::plain(scan.checkpoint), plan: None, violations: scan.violations };
    let opened = config_of(survey.source.checkpoint(), named.is_some(), &mut scan.notes)
        .map_err(|violation| vec![violation])
        .and_then(|mut config| Ok((opening::open(request, &mut survey.source, &mut config)?, config)))
        .and_then(|(opening, config)| {
            let recipe = chosen(request, named.clone(), &opening, &config).map_err(|violation| vec![violation])?;
            Ok((opening, config, recipe))
        });
    let (opening, config, recipe) = match opened {
        Ok(opened) => opened,
        Err(violations) => {
            // Where there is no checkpoint at all, a config beside it is not what is missing.
            let is_said = survey.checkpoint().files().is_empty() && !survey.violations.is_empty();
            let is_news = |violation: &Violation| !is_said || violation.kind != ViolationKind::MissingFile;
            survey.violations.extend(violations.into_iter().filter(is_news));
            return Ok(survey);
        }
    };
    let (mut plan, violations) = match &recipe {
        Some(recipe) => survey.by_recipe(request, recipe, &config, &scan.unreadable, &mut scan.notes)?,
        None => copied(&config, &survey.source, request),
    };
    plan.notes.extend(scan.notes);
    survey.violations.extend(unfit_defaults(survey.checkpoint(), &violations));
    survey.violations.extend(violations);
    survey.violations.extend(survey.companions()?);
    survey.pack(request, &mut plan, recipe.as_ref().or(named.as_ref()), &opening, recipe.is_some());
    opening.record(&mut plan, &survey.source);
    survey.plan = Some(plan);
    survey.refuse_unreadable(&scan.unreadable);
    Ok(survey)
}

/// Takes off the prefix that a person named.
fn strip_as_told(request: &Request, scan: &mut Scan) {
    let Some(prefix) = &request.strip_prefix else { return };
    match prefix::strip_named(&mut scan.checkpoint, prefix) {
        Ok(note) => scan.notes.push(note),
        Err(violation) => scan.violations.push(violation),
    }
}

/// The config; an empty one, which a note tells, where there is none and a person named the recipe.
fn config_of(checkpoint: &Checkpoint, may_miss: bool, notes: &mut Vec<String>) -> Result<Value, Violation> {
    if may_miss && !checkpoint.root().join("config.json").exists() {
        notes.push("there is no config.json: the recipe's defaults stand for it".to_owned());
        return Ok(Value::Object(serde_json::Map::new()));
    }
    read_config(checkpoint)
}

/// Where the recipe's defaults stand for a config that is not there, and something is wrong, that comes first.
fn unfit_defaults(checkpoint: &Checkpoint, violations: &[Violation]) -> Option<Violation> {
    let is_absent = !violations.is_empty() && !checkpoint.root().join("config.json").exists();
    is_absent.then(|| {
        let expected = "a config beside the weights: the recipe's defaults do not fit them";
        Violation::new(ViolationKind::MissingFile, "config.json", expected, "none")
    })
}

/// The recipe that takes part: the named one, else the built-in one that fits. `None`: names and layouts are MLX's already, or a quantized
/// release is one that no recipe fits.
fn chosen(
    request: &Request,
    named: Option<Recipe>,
    opening: &Opening,
    config: &Value,
) -> Result<Option<Recipe>, Violation> {
    let unquantized = request.dequantize || request.keep_quantized;
    match named {
        _ if opening.is_mlx => Ok(None),
        Some(recipe) => Ok(Some(recipe)),
        None => match fitting(config) {
            Ok(recipe) => Ok(Some(recipe)),
            Err(_) if unquantized => Ok(None),
            Err(violation) => Err(violation),
        },
    }
}

/// The plan without a recipe.
fn copied(config: &Value, source: &Opened, request: &Request) -> (Plan, Vec<Violation>) {
    let (mut plan, mut violations) = copy(config, source, request.dtype);
    if let Ok(made) = Manifest::read(source.checkpoint().root()) {
        // Who reads it later still needs to know by which recipe it came to be.
        (plan.recipe, plan.recipe_hash, plan.layout) = (made.recipe, made.recipe_blake3, made.layout);
    }
    if let Some(layout) = &request.layout {
        let expected = "no layout where no recipe takes part";
        violations.push(Violation::new(ViolationKind::Unsupported, "--layout", expected, layout));
    }
    violations.extend(check_dtypes(&plan));
    complete_config(&mut plan, None);
    plan.notes.push("no recipe takes part: names and layouts stay what they are".to_owned());
    (plan, violations)
}

/// The same, where anything wrong is the end.
///
/// # Errors
/// As [`survey`], and [`ConvertError::Violations`] with everything wrong.
pub fn prepare(request: &Request) -> Result<Prepared, ConvertError> {
    survey(request)?.into_prepared()
}

impl Survey {
    /// The conversion, when nothing is wrong.
    ///
    /// # Errors
    /// [`ConvertError::Violations`] with everything wrong.
    pub fn into_prepared(self) -> Result<Prepared, ConvertError> {
        ConvertError::unless_empty(self.violations)?;
        match self.plan {
            Some(plan) => Ok(Prepared { source: self.source, plan }),
            // Without a plan there is a violation that says why.
            None => Err(ConvertError::Violations(crate::error::Violations(Vec::new()))),
        }
    }

    /// The plan that a recipe makes. A prefix that all keys carry comes off where the recipe then fits.
    fn by_recipe(
        &mut self,
        request: &Request,
        recipe: &Recipe,
        config: &Value,
        unreadable: &Unreadable,
        notes: &mut Vec<String>,
    ) -> Result<(Plan, Vec<Violation>), ConvertError> {
        let layout = recipe.layout(request.layout.as_deref())?;
        let normalized = recipe.config.normalize(config);
        let planned = |tensors: &BTreeMap<String, TensorInfo>| {
            plan(recipe, &layout, request.dtype, normalized.clone(), tensors, unreadable)
        };
        let (made, violations) = planned(self.source.tensors());
        let is_told = request.strip_prefix.is_some() || !unreadable.is_empty() || !has_wrong_keys(&violations);
        if is_told || !self.source.is_plain() {
            return Ok((made, violations));
        }
        for prefix in prefix::shared(self.source.tensors()) {
            let mut stripped = self.checkpoint().keys_alone();
            stripped.strip_prefix(&prefix);
            let (other, fewer) = planned(stripped.tensors());
            // Half of what was wrong gone is no chance: what is left is then what is wrong.
            if fewer.len() * 2 <= violations.len() {
                self.source.strip_prefix(&prefix);
                notes.push(prefix::note(&prefix));
                return Ok((other, fewer));
            }
        }
        Ok((made, violations))
    }

    /// Packs what the plan makes, where that was asked for and nothing is wrong: on a broken plan rules would only add noise.
    fn pack(&mut self, request: &Request, made: &mut Plan, named: Option<&Recipe>, opening: &Opening, by_recipe: bool) {
        if let Some(wish) = &request.quantize
            && self.violations.is_empty()
        {
            let rules = match named {
                Some(recipe) if by_recipe => recipe.packing.clone(),
                named => opening.packing(named, &self.source),
            };
            self.violations.extend(pack(made, &rules, wish));
        }
        if request.keep_quantized && self.violations.is_empty() {
            self.violations.extend(repack(made, &mut self.source, request.dtype));
        }
    }

    /// What cannot be read always has a reason on the list; if ever it has not, it must still not pass for a whole checkpoint.
    fn refuse_unreadable(&mut self, unreadable: &Unreadable) {
        if self.violations.is_empty() && !unreadable.is_empty() {
            let place = self.checkpoint().root().display().to_string();
            let (expected, found) = ("every file readable", "one that is not");
            self.violations.push(Violation::new(ViolationKind::MissingFile, place, expected, found));
        }
    }

    /// What is wrong with the files that will come along.
    fn companions(&self) -> Result<Vec<Violation>, ConvertError> {
        let checkpoint = self.checkpoint();
        let weights = checkpoint.files().iter().map(|file| file.name.as_str()).collect();
        Ok(writer::beside(checkpoint.root(), &weights)?.violations(checkpoint.root()))
    }

    /// The checkpoint, as far as it could be read.
    pub fn checkpoint(&self) -> &Checkpoint {
        self.source.checkpoint()
    }
}

impl Prepared {
    /// Carries the plan out.
    ///
    /// # Errors
    /// Anything that goes wrong leaves the target as it was and no other file behind.
    pub fn write(&self, options: &WriteOptions) -> Result<Manifest, ConvertError> {
        self.write_watched(options, &Silent)
    }

    /// The same, with someone told how far it is.
    ///
    /// # Errors
    /// As [`Prepared::write`].
    pub fn write_watched(&self, options: &WriteOptions, progress: &dyn Progress) -> Result<Manifest, ConvertError> {
        let root = self.source.checkpoint().root();
        writer::write(&self.plan, &self.source, Some(root), options, progress)
    }
}

/// The checkpoint's config.json, or what is wrong with it.
pub(crate) fn read_config(checkpoint: &Checkpoint) -> Result<Value, Violation> {
    let path = checkpoint.root().join("config.json");
    let bytes = read_bounded(&path, MAX_JSON_BYTE_LEN).map_err(|error| {
        let kind = ViolationKind::MissingFile;
        Violation::new(kind, "config.json", "a config beside the weights", error.to_string())
    })?;
    if let Some(what) = stands_for(&bytes) {
        return Err(Violation::new(ViolationKind::Config, "config.json", "JSON", what));
    }
    let config = crate::json::parse(&bytes);
    let config = config.map_err(|error| Violation::new(ViolationKind::Config, "config.json", "JSON", error))?;
    if !config.is_object() {
        let found = "JSON that is no object";
        return Err(Violation::new(ViolationKind::Config, "config.json", "an object of the model's settings", found));
    }
    Ok(config)
}

/// Whether keys are missing or without a row: what a prefix would make of a checkpoint that fits.
fn has_wrong_keys(violations: &[Violation]) -> bool {
    violations.iter().any(|violation| matches!(violation.kind, ViolationKind::MissingKey | ViolationKind::ExtraKey))
}

/// `Ok`, or why a recipe is not for a config.
pub(crate) type Fit = Result<(), String>;

/// Every built-in recipe with its verdict on a config: `Ok`, or why it does not fit.
pub(crate) fn verdicts(config: &Value) -> Result<Vec<(Recipe, Fit)>, ConvertError> {
    let mut verdicts = Vec::new();
    for name in Recipe::builtin_names() {
        let recipe = Recipe::named(name)?;
        let verdict = recipe.fits(config);
        verdicts.push((recipe, verdict));
    }
    Ok(verdicts)
}

fn fitting(config: &Value) -> Result<Recipe, Violation> {
    let unsupported = |found: String| {
        let expected = "a config that a recipe fits (or --recipe)";
        Violation::new(ViolationKind::Unsupported, "config.json", expected, found)
    };
    let verdicts = verdicts(config).map_err(|error| unsupported(error.to_string()))?;
    let (mut reasons, mut known) = (Vec::new(), BTreeSet::new());
    for (recipe, verdict) in verdicts {
        match verdict {
            Ok(()) => return Ok(recipe),
            // Recipes for other types say nothing of this one.
            Err(reason) if recipe.is_for_type(config) => reasons.push(reason),
            Err(_) => known.extend(recipe.model_types),
        }
    }
    if reasons.is_empty() {
        let found = config.get("model_type").and_then(Value::as_str).unwrap_or("none");
        let known: Vec<String> = known.into_iter().collect();
        reasons.push(format!("model_type {found}; built-in recipes are for {}", known.join(", ")));
    }
    Err(unsupported(reasons.join("; ")))
}
