//! What a plan states in the config: the dtype the weights have.

use std::collections::BTreeMap;

use safetensors::Dtype;
use serde_json::Value;

use crate::dtype::{DtypeChoice, from_torch_name, is_float, torch_name};
use crate::recipe::Recipe;

use super::outputs::Plan;

/// The fields that state a dtype; transformers 5 writes the first, what came before it the second.
const FIELDS: [&str; 2] = ["dtype", "torch_dtype"];
/// How deep models are nested in a config.
const MAX_DEPTH: usize = 4;

/// States the dtype that most bytes of the float weights have, wherever the config states one, and in the fields the recipe names. A
/// nested model's own is left where the weights differ and each keeps its dtype.
pub fn state_dtype(plan: &mut Plan, recipe: Option<&Recipe>) {
    let mut bytes: BTreeMap<&'static str, (u64, Dtype)> = BTreeMap::new();
    for tensor in plan.tensors.iter().filter(|tensor| is_float(tensor.dtype) || tensor.dtype == Dtype::F64) {
        let name = torch_name(tensor.dtype).unwrap_or_default();
        bytes.entry(name).or_insert((0, tensor.dtype)).0 += tensor.byte_len();
    }
    let uniform = bytes.len() == 1;
    let Some((name, _)) = bytes.into_iter().max_by_key(|(_, (bytes, _))| *bytes) else { return };
    if let (Some(recipe), true) = (recipe, uniform || plan.dtype != DtypeChoice::Keep) {
        recipe.config.set_dtype(&mut plan.config, name);
    }
    let nested = uniform || plan.dtype != DtypeChoice::Keep;
    restate(&mut plan.config, name, if nested { MAX_DEPTH } else { 0 });
}

fn restate(config: &mut Value, name: &str, depth: usize) {
    let Value::Object(object) = config else { return };
    for field in FIELDS {
        if let Some(value) = object.get_mut(field)
            && value.as_str().and_then(from_torch_name).is_some()
        {
            *value = Value::from(name);
        }
    }
    if depth > 0 {
        object.values_mut().for_each(|value| restate(value, name, depth - 1));
    }
}
