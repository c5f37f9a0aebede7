//! What a recipe says of a release: where every target comes from, and what is left out.

use std::collections::BTreeMap;

use mlxport_convert::error::ConvertError;
use mlxport_convert::transforms::Assembly;
use mlxport_convert::{Request as SurveyRequest, survey};
use serde_json::Value;

use crate::request::Request;

/// A plan as far as an audit needs it.
#[derive(Debug, Default)]
pub struct Planned {
    /// Target → its shape, its assembly and the keys that it is made of.
    pub outputs: BTreeMap<String, (Vec<u64>, Assembly, Vec<String>)>,
    /// The config as the recipe writes it.
    pub config: Value,
    /// Keys that the recipe leaves out, with the reason.
    pub dropped: BTreeMap<String, String>,
}

/// The plan of the recipe that is named, or of the built-in one that fits; `None` where none does.
///
/// # Errors
/// What is wrong with a recipe that was named.
pub fn plan(request: &Request) -> Result<Option<Planned>, ConvertError> {
    let wish =
        SurveyRequest { source: request.release.clone(), recipe: request.recipe.clone(), ..SurveyRequest::default() };
    let survey = match (survey(&wish), &request.recipe) {
        (Ok(survey), _) => survey,
        (Err(error), Some(_)) => return Err(error),
        (Err(_), None) => return Ok(None),
    };
    if !survey.violations.is_empty() {
        if request.recipe.is_some() {
            ConvertError::unless_empty(survey.violations)?;
        }
        return Ok(None);
    }
    let Some(plan) = survey.plan else { return Ok(None) };
    let mut planned = Planned { config: plan.config, ..Planned::default() };
    for output in plan.tensors {
        let keys = output.sources.iter().map(|source| source.key.clone()).collect();
        planned.outputs.insert(output.name, (output.shape, output.assembly, keys));
    }
    for dropped in plan.dropped {
        planned.dropped.insert(dropped.key, dropped.reason);
    }
    Ok(Some(planned))
}
