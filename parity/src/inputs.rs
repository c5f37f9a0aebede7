//! What the model is fed, from a fixture's `inputs.safetensors`.

use mlx_rs::Dtype;
use mlxport_fixtures::Fixture;
use mlxport_model::{Model, Prompt, contract::Recorded};

use crate::{error::Result, host};

/// The prompt that was recorded; what its tensors mean is the model's to say.
///
/// # Errors
/// When the fixture's inputs are not those of one prompt.
pub fn prompt(model: &dyn Model, fixture: &Fixture) -> Result<Prompt> {
    let tensor = |name: &str| Ok((name.to_owned(), host::array(&fixture.input(name)?, Dtype::Float32)?));
    let recorded: Recorded = fixture.input_names().map(tensor).collect::<Result<_>>()?;
    Ok(model.prompt(&recorded)?)
}
