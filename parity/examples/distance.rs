//! Prints how far a converted model's logits are from another's: `distance REFERENCE CANDIDATE FIXTURE cpu|gpu`.

use std::io::Write;

use mlxport_model::runtime::DeviceKind;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [reference, candidate, fixture, device] = &arguments[..] else {
        return Err("expected REFERENCE CANDIDATE FIXTURE cpu|gpu".into());
    };
    let place = if device == "gpu" { DeviceKind::Gpu } else { DeviceKind::Cpu };
    let found = mlxport_parity::distance(reference.as_ref(), candidate.as_ref(), fixture.as_ref(), place)?;
    writeln!(
        std::io::stdout(),
        "{{\"kl_mean_nats\": {:.3e}, \"kl_max_nats\": {:.3e}, \"top1_rows\": {}, \"top5_rows\": {}, \"rows\": {}}}",
        found.kl_mean,
        found.kl_max,
        found.top1_rows,
        found.top5_rows,
        found.rows
    )?;
    Ok(())
}
