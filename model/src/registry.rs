//! From `model_type` of config.json to a model.

use std::{path::Path, rc::Rc};

use serde::Deserialize;

use crate::{
    architectures::{deepseek_ocr, deepseek_ocr2, unlimited_ocr},
    contract::{Facts, Model},
    error::{Error, Result},
    loading::{Files, LoadOptions, config},
};

/// Loads a converted model from its open files.
type Load = fn(&Rc<Files>, LoadOptions) -> Result<Box<dyn Model>>;

/// A family of models.
struct Family {
    /// The names that its config.json may have.
    model_types: &'static [&'static str],
    /// What its config.json alone says.
    facts: fn(&Path, &LoadOptions) -> Result<Facts>,
    /// Loads a converted model.
    load: Load,
}

/// Every family.
const FAMILIES: [Family; 3] = [
    Family { model_types: &deepseek_ocr::MODEL_TYPES, facts: deepseek_ocr::read_facts, load: deepseek_ocr::load },
    Family { model_types: &unlimited_ocr::MODEL_TYPES, facts: unlimited_ocr::read_facts, load: unlimited_ocr::load },
    Family { model_types: &deepseek_ocr2::MODEL_TYPES, facts: deepseek_ocr2::read_facts, load: deepseek_ocr2::load },
];

/// The one field that all families have.
#[derive(Deserialize)]
struct Named {
    model_type: String,
}

/// Loads a converted model, strictly: every tensor of the files is used, every tensor of the model is there, with the
/// shape that `config.json` demands.
///
/// # Errors
/// When the family is not known, or config or files cannot be read or do not fit each other; all violations are listed.
pub fn load(dir: &Path, options: LoadOptions) -> Result<Box<dyn Model>> {
    // What config.json says comes before what the files hold.
    let family = family(dir)?;
    (family.facts)(dir, &options)?;
    (family.load)(&Files::open(dir)?, options)
}

/// The same of files that are open: models made of the same files share what is read.
///
/// # Errors
/// Those of [`load`].
pub fn load_from(files: &Rc<Files>, options: LoadOptions) -> Result<Box<dyn Model>> {
    (family(files.dir())?.load)(files, options)
}

/// What config.json alone says of the model in `dir`, with activations in float32.
///
/// # Errors
/// When the family is not known, or config.json cannot be read or contradicts itself.
pub fn facts(dir: &Path) -> Result<Facts> {
    (family(dir)?.facts)(dir, &LoadOptions::default())
}

fn family(dir: &Path) -> Result<&'static Family> {
    let Named { model_type } = config::read(dir, &[])?;
    FAMILIES.iter().find(|family| family.model_types.contains(&&*model_type)).ok_or_else(|| unknown(dir, &model_type))
}

fn unknown(dir: &Path, model_type: &str) -> Error {
    let known: Vec<&str> = FAMILIES.iter().flat_map(|family| family.model_types.iter().copied()).collect();
    let expected = format!("one of {} (`mlxport check` judges any other MLX model, in Python)", known.join(", "));
    Error::input(&format!("{}: model_type", dir.join("config.json").display()), expected, model_type)
}
