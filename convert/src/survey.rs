//! The first half of a conversion: open the checkpoint, choose the recipe, read the config, make the plan, collect everything wrong.

use std::path::PathBuf;

use serde_json::Value;

use crate::checkpoint::form::stands_for;
use crate::checkpoint::{Checkpoint, MAX_JSON_BYTE_LEN, TensorSource};
use crate::dtype::DtypeChoice;
use crate::error::{ConvertError, Violation, ViolationKind};
use crate::files::read_bounded;
use crate::manifest::{MANIFEST_FILE, Manifest};
use crate::plan::pack::pack;
use crate::plan::unpack::unpack;
use crate::plan::{Plan, plan};
use crate::prefix;
use crate::progress::{Progress, Silent};
use crate::recipe::Recipe;
use crate::recipe::packing::Wish;
use crate::writer::{self, WriteOptions};

/// What to convert, and into what.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// A checkpoint directory, or one `.safetensors`, `.bin`, `.pt` or `.pth` file.
    pub source: PathBuf,
    /// A built-in recipe's name or a recipe file; `None` takes the built-in one that fits the config.
    pub recipe: Option<String>,
    /// A layout of the recipe; `None` takes its first.
    pub layout: Option<String>,
    /// What float tensors become.
    pub dtype: DtypeChoice,
    /// How weights are packed; `None` leaves them as they are.
    pub quantize: Option<Wish>,
    /// Turn a quantized MLX directory back into float weights; no recipe takes part.
    pub dequantize: bool,
    /// Which dict of a PyTorch file is the state dict, dotted where it is in another (`a.b`); `None` takes the one there is.
    pub state_dict: Option<String>,
    /// What every key begins with and the recipe's keys do not; `None` takes off what all keys carry where the recipe then fits.
    pub strip_prefix: Option<String>,
}

/// A checkpoint with its plan as far as one could be made, and everything that is wrong.
#[derive(Debug)]
pub struct Survey {
    checkpoint: Checkpoint,
    /// The plan; `None` when no recipe or config could be had.
    pub plan: Option<Plan>,
    /// Everything wrong, in the order of the checks: files, config, keys.
    pub violations: Vec<Violation>,
}

/// A conversion that may be carried out: nothing was wrong.
#[derive(Debug)]
pub struct Prepared {
    checkpoint: Checkpoint,
    /// What will be written.
    pub plan: Plan,
}

/// Reads headers and config and makes the plan. What is wrong with the input comes back in the [`Survey`].
///
/// # Errors
/// What keeps any plan from being made: no such source, no such recipe or layout, a recipe that is wrong itself.
pub fn survey(request: &Request) -> Result<Survey, ConvertError> {
    let named = request.recipe.as_deref().map(Recipe::named).transpose()?;
    let scan = Checkpoint::scan_named(&request.source, request.state_dict.as_deref())?;
    let mut notes = scan.notes;
    let mut survey = Survey { checkpoint: scan.checkpoint, plan: None, violations: scan.violations };
    if let Some(prefix) = &request.strip_prefix {
        match prefix::strip_named(&mut survey.checkpoint, prefix) {
            Ok(note) => notes.push(note),
            Err(violation) => survey.violations.push(violation),
        }
    }
    if request.dequantize {
        survey.unpack(request.dtype);
        return Ok(survey);
    }
    if named.is_some() && !survey.checkpoint.root().join("config.json").exists() {
        notes.push("there is no config.json: the recipe's defaults stand for it".to_owned());
    }
    let chosen = survey.config(named.is_some()).and_then(|config| match named {
        Some(recipe) => Ok((config, recipe)),
        None => fitting(&config).map(|recipe| (config, recipe)),
    });
    let (config, recipe) = match chosen {
        Ok(chosen) => chosen,
        Err(violation) => {
            survey.violations.push(violation);
            return Ok(survey);
        }
    };
    let layout = recipe.layout(request.layout.as_deref())?;
    let normalized = recipe.config.normalize(&config);
    let planned = |checkpoint: &Checkpoint| {
        plan(&recipe, &layout, request.dtype, normalized.clone(), checkpoint.tensors(), &scan.unreadable)
    };
    let (mut made, mut violations) = planned(&survey.checkpoint);
    if request.strip_prefix.is_none() && scan.unreadable.is_empty() && has_wrong_keys(&violations) {
        for prefix in prefix::shared(survey.checkpoint.tensors()) {
            let mut stripped = survey.checkpoint.keys_alone();
            stripped.strip_prefix(&prefix);
            let (other, fewer) = planned(&stripped);
            // Half of what was wrong gone is no chance: what is left is then what is wrong.
            if fewer.len() * 2 <= violations.len() {
                survey.checkpoint.strip_prefix(&prefix);
                notes.push(prefix::note(&prefix));
                (made, violations) = (other, fewer);
                break;
            }
        }
    }
    made.notes.extend(notes);
    survey.violations.extend(violations);
    survey.violations.extend(survey.companions()?);
    if let Some(wish) = &request.quantize
        && survey.violations.is_empty()
    {
        // Rules speak of the finished plan's modules; on a broken one they would only add noise.
        survey.violations.extend(pack(&mut made, &recipe, wish));
    }
    survey.plan = Some(made);
    if survey.violations.is_empty() && !scan.unreadable.is_empty() {
        // What cannot be read always has a reason on the list; if ever it has not, it must still not pass for a whole checkpoint.
        let place = survey.checkpoint.root().display().to_string();
        survey.violations.push(Violation::new(
            ViolationKind::MissingFile,
            place,
            "every file readable",
            "one that is not",
        ));
    }
    Ok(survey)
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
            Some(plan) => Ok(Prepared { checkpoint: self.checkpoint, plan }),
            // Without a plan there is a violation that says why.
            None => Err(ConvertError::Violations(crate::error::Violations(Vec::new()))),
        }
    }

    /// The plan that unpacks a quantized MLX directory.
    fn unpack(&mut self, dtype: DtypeChoice) {
        match read_config(&self.checkpoint) {
            Err(violation) => self.violations.push(violation),
            Ok(config) => {
                let tensors = self.checkpoint.tensors();
                let (plan, violations) = unpack(&config, tensors, dtype);
                self.plan = Some(plan);
                self.violations.extend(violations);
            }
        }
    }

    /// What is wrong with the files that will come along.
    fn companions(&self) -> Result<Vec<Violation>, ConvertError> {
        let weights = self.checkpoint.files().iter().map(|file| file.name.as_str()).collect();
        Ok(writer::beside(self.checkpoint.root(), &weights)?.violations(self.checkpoint.root()))
    }

    /// The config of a checkpoint that has not been converted yet; an empty one where there is none and `may_miss`.
    fn config(&self, may_miss: bool) -> Result<Value, Violation> {
        let root = self.checkpoint.root();
        if root.join(MANIFEST_FILE).is_file() {
            let found = "a directory that mlxport has converted already";
            let place = root.display().to_string();
            return Err(Violation::new(ViolationKind::Unsupported, place, "a PyTorch checkpoint", found));
        }
        if may_miss && !root.join("config.json").exists() {
            return Ok(Value::Object(serde_json::Map::new()));
        }
        read_config(&self.checkpoint)
    }

    /// The checkpoint, as far as it could be read.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
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
        let root = self.checkpoint.root();
        writer::write(&self.plan, &self.checkpoint, Some(root), options, progress)
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
    crate::json::parse(&bytes).map_err(|error| Violation::new(ViolationKind::Config, "config.json", "JSON", error))
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
    let mut reasons = Vec::new();
    for (recipe, verdict) in verdicts {
        match verdict {
            Ok(()) => return Ok(recipe),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(unsupported(reasons.join("; ")))
}
