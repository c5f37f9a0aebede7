//! Whether model and recording are of one checkpoint.

use std::path::Path;

/// A warning that the model was made from another checkpoint than the recording's, where both can be read. A model that says nothing of where it comes
/// from, and a recording without its checkpoint, tell nothing.
#[must_use]
pub fn other_origin(model: &Path, fixture: &Path) -> Option<String> {
    let checkpoint = fixture.join("checkpoint");
    let origin = mlxport_convert::origin::compare(model, &checkpoint).ok()?;
    let first = origin.differing.first()?;
    Some(format!(
        "{} was converted from another checkpoint than the recording's: {} of {} tensors compared have other numbers, {first} the first. \
         What follows compares two models; convert {}, or record the release that the model was made from",
        model.display(),
        origin.differing.len(),
        origin.compared,
        checkpoint.display(),
    ))
}
