//! How far one converted model is from another as a distribution over tokens: what quantization costs, say.

use std::path::Path;

use mlxport_fixtures::Fixture;
use mlxport_model::{LoadOptions, Pass, Tuned, runtime::DeviceKind};
use mlxport_verdict::{LogitMetrics, Reference, compare_logits};

use crate::{
    error::{Error, Result},
    host, inputs,
    run::use_device,
};

/// Runs both models in bfloat16 on the recording's inputs and compares the logits of every token: KL(reference ‖ candidate) in nats,
/// agreement of the first and the first five tokens. The recording's own values are not looked at.
///
/// # Errors
/// When a model, the recording or the device cannot be used, or logits are not finite.
pub fn distance(reference: &Path, candidate: &Path, fixture: &Path, device: DeviceKind) -> Result<LogitMetrics> {
    use_device(device)?;
    let fixture = Fixture::open(fixture)?;
    let mut vocabulary = 0;
    let mut logits = |dir: &Path| -> Result<Vec<f32>> {
        let model = mlxport_model::load(dir, LoadOptions::bfloat16())?;
        let logits = model.forward(&inputs::prompt(&*model, &fixture)?, None, &Pass::by(&Tuned))?;
        vocabulary = logits.dim(-1) as usize;
        host::floats(&logits)
    };
    let (expected, found) = (logits(reference)?, logits(candidate)?);
    compare_logits(vocabulary, Reference::F32(&expected), &found)
        .ok_or_else(|| Error::Mismatch("the two models' logits are not comparable".into()))
}
