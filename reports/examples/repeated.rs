//! Makes a larger record of one: its taps again and again, as further calls, and writes the report of it into a directory.
//!
//! `cargo run -p mlxport-reports --example repeated -- record.json 2000 DIR`: the page that the browser check opens.

use mlxport_reports::{from_json, write_report};
use mlxport_verdict::Points;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [record, count, out] = &arguments[..] else { return Err("expected RECORD COUNT DIR".into()) };
    let count: usize = count.parse()?;
    let mut run = from_json(&std::fs::read_to_string(record)?)?;
    let (once, mut turn) = (run.taps.clone(), 0);
    while run.taps.len() < count && !once.is_empty() {
        turn += 100;
        let again = once.iter().take(count - run.taps.len()).cloned();
        run.taps.extend(again.map(|mut tap| {
            tap.call += turn;
            tap
        }));
    }
    // Every tap is a point; those not compared stay what they are.
    let points = Points { recorded: run.summary.points_recorded, mapped: run.summary.points_mapped };
    write_report(out, &run.concluded(points))?;
    Ok(())
}
