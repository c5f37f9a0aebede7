//! Prints what comparing costs beside a pass alone: `overhead MODEL FIXTURE cpu|gpu`.

use std::io::Write;

use mlxport_model::runtime::DeviceKind;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, fixture, device] = &arguments[..] else { return Err("expected MODEL FIXTURE cpu|gpu".into()) };
    let place = if device == "gpu" { DeviceKind::Gpu } else { DeviceKind::Cpu };
    let found = mlxport_parity::timing(model.as_ref(), fixture.as_ref(), place)?;
    let [open, forward, compared, calibration] =
        [found.open, found.forward, found.compared, found.calibration].map(|took| took.as_secs_f64());
    writeln!(
        std::io::stdout(),
        "{{\"open_s\": {open:.2}, \"forward_s\": {forward:.2}, \"compared_s\": {compared:.2}, \"calibration_s\": {calibration:.2}, \"overhead\": {:.3}}}",
        compared / forward - 1.0
    )?;
    Ok(())
}
