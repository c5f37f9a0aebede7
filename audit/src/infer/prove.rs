//! The recipe, run: the converter's own checks, then every planned tensor against the MLX side's, bit by bit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mlxport_convert::dtype::{DtypeChoice, is_float};
use mlxport_convert::error::ConvertError;
use mlxport_convert::plan::{Making, OutputTensor};
use mlxport_convert::recipe::Recipe;
use mlxport_convert::{Request, survey_by};
use rayon::prelude::*;
use safetensors::Dtype;
use serde_json::Value;

use super::example::{Example, Inexpressible};
use super::way::piece;
use crate::target::Target;
use crate::verify::{Pair, values_of};

/// What running a recipe showed.
#[derive(Debug, Default)]
pub struct Proof {
    /// Tensors that come out as the MLX side's.
    pub identical: usize,
    /// Those that do not, or that are on one side only.
    pub different: Vec<Inexpressible>,
    /// Members of config.json that come out otherwise.
    pub config: Vec<String>,
}

/// What float tensors become: what `--dtype` has to say.
pub fn cast(example: &Example) -> DtypeChoice {
    let mut to: BTreeMap<String, (usize, Dtype)> = BTreeMap::new();
    let mut kept = true;
    for instance in example.instances.iter().filter(|instance| is_float(instance.dtype) || instance.dtype == Dtype::F64)
    {
        for dtype in instance.targets.iter().filter_map(|target| example.dtype_of(target)) {
            kept &= dtype == instance.dtype;
            to.entry(dtype.to_string()).or_insert((0, dtype)).0 += 1;
        }
    }
    let usual = to.into_values().max_by_key(|(count, _)| *count).map(|(_, dtype)| dtype);
    match usual.filter(|_| !kept) {
        Some(Dtype::BF16) => DtypeChoice::Bf16,
        Some(Dtype::F16) => DtypeChoice::F16,
        Some(Dtype::F32) => DtypeChoice::F32,
        _ => DtypeChoice::Keep,
    }
}

/// Runs a recipe on an example's release.
///
/// # Errors
/// What the recipe's own checks and the plan's say, and files that cannot be read.
pub fn prove(recipe: &Recipe, example: &Example, release: &Path, window: u64) -> Result<Proof, ConvertError> {
    let request = Request { source: release.to_owned(), dtype: cast(example), ..Request::default() };
    let survey = survey_by(&request, Some(recipe.clone()))?;
    ConvertError::unless_empty(survey.violations)?;
    let Some(plan) = survey.plan else { return Ok(Proof::default()) };
    let targets: BTreeMap<&str, &Target> =
        example.targets.iter().map(|target| (target.name.as_str(), target)).collect();
    let pair = Pair { mlx: &example.mlx, release: &example.release, window };
    let compared: Vec<Option<Inexpressible>> =
        plan.tensors.par_iter().map(|made| compared(&pair, &targets, made)).collect::<Result<_, _>>()?;
    let mut different: Vec<Inexpressible> = compared.into_iter().flatten().collect();
    let identical = plan.tensors.len() - different.len();
    let made: BTreeSet<&str> = plan.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    for name in targets.keys().filter(|name| !made.contains(*name)) {
        different.push(Inexpressible { key: (*name).to_owned(), why: "no row makes it".to_owned() });
    }
    Ok(Proof { identical, different, config: differing(&plan.config, &example.configs.1) })
}

/// What is wrong with a planned tensor.
fn compared(
    pair: &Pair<'_>,
    targets: &BTreeMap<&str, &Target>,
    made: &OutputTensor,
) -> Result<Option<Inexpressible>, ConvertError> {
    let differs = |why: String| Ok(Some(Inexpressible { key: made.name.clone(), why }));
    let Some(target) = targets.get(made.name.as_str()) else {
        return differs("the MLX side does not have it".to_owned());
    };
    let dtype = values_of(target.format);
    if made.shape != target.shape || made.making != Making::Store {
        return differs(format!("the recipe makes {:?} of it, the MLX side has {:?}", made.shape, target.shape));
    }
    if made.dtype != dtype {
        return differs(format!(
            "a recipe cannot keep one dtype and cast others: it makes {}, the MLX side has {dtype}",
            made.dtype
        ));
    }
    let key = made.sources.first().map_or("", |source| source.key.as_str());
    match pair.holds(target, &piece(made.assembly.clone(), target, key), 0.0)? {
        true => Ok(None),
        false => differs("the recipe's values are not the MLX side's".to_owned()),
    }
}

/// Members of the two configs that differ.
fn differing(made: &Value, wanted: &Value) -> Vec<String> {
    const OURS: &[&str] = &["quantization", "quantization_config", "mlxport", "transformers_version", "_name_or_path"];
    let names =
        |config: &Value| config.as_object().map(|all| all.keys().cloned().collect::<BTreeSet<_>>()).unwrap_or_default();
    let all: BTreeSet<String> = names(made).union(&names(wanted)).cloned().collect();
    let differs = |name: &String| !OURS.contains(&name.as_str()) && made.get(name) != wanted.get(name);
    all.into_iter().filter(differs).collect()
}
