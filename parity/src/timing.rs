//! How long a whole pass takes, and how much longer with everyone listening: what comparing costs.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use mlxport_fixtures::Fixture;
use mlxport_model::{LoadOptions, Pass, Plain, runtime::DeviceKind};
use mlxport_verdict::{K, Mode, Precision};

use crate::{
    calibrate::Calibration, cumulative, driver::Driver, error::Result, floors, host, inputs, judge::Judge,
    run::use_device, select::Selection,
};

/// What a float32 pass over a recording's inputs takes.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Opening fixture and model: headers, hashes, config.
    pub open: Duration,
    /// The pass alone; the weights are read in it.
    pub forward: Duration,
    /// The pass with every recorded point compared.
    pub compared: Duration,
    /// Measuring this runtime's floors, once for each kind and size of operation.
    pub calibration: Duration,
}

/// Runs the pass twice alone, keeping the second, then twice compared: the first of those measures the floors, too.
///
/// # Errors
/// When model, fixture or device cannot be used.
pub fn timing(model: &Path, fixture: &Path, device: DeviceKind) -> Result<Timing> {
    use_device(device)?;
    let begun = Instant::now();
    let fixture = Fixture::open(fixture)?;
    let model = mlxport_model::load(model, LoadOptions::default())?;
    let open = begun.elapsed();
    let prompt = inputs::prompt(&*model, &fixture)?;
    let alone = || -> Result<Duration> {
        let begun = Instant::now();
        host::floats(&model.forward(&prompt, None, &Pass::by(&Plain))?)?;
        Ok(begun.elapsed())
    };
    alone()?;
    let forward = alone()?;
    let modules = model.modules();
    let basis = floors::basis(&fixture, Precision::F32, model.facts(), &[Mode::Cumulative])?;
    let tokens = fixture.input("input_ids")?.shape.last().copied().unwrap_or(0);
    let mut judge = Judge::new(&fixture, &modules, Calibration::new(model.facts().dtype, tokens), (basis, K))?;
    let mut listened = || -> Result<Duration> {
        let begun = Instant::now();
        cumulative::run(&*model, &fixture, &Selection::default(), &mut judge, (Driver::Whole, &Plain), |_| true)?;
        Ok(begun.elapsed())
    };
    let (first, compared) = (listened()?, listened()?);
    Ok(Timing { open, forward, compared, calibration: first.saturating_sub(compared) })
}
