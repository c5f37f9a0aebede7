//! A whole comparison: two recordings in, record out.

use std::path::PathBuf;

use mlxport_fixtures::{Fixture, Point};
use mlxport_verdict::{
    Candidate, Environment, FixtureId, K, Mode, ModelId, NOT_RECORDED, NotCompared, Points, Run, SCHEMA, Summary,
    TapRecord, Tool,
};

use crate::error::Result;
use crate::inputs;
use crate::judge::{Judge, Outcome};
use crate::pairs::{Pairs, Side, only_there, tap_id};
use crate::rename::Renames;
use crate::runtime::RuntimeFloors;

/// What to compare.
#[derive(Debug, Default)]
pub struct Request {
    /// The directory of the recording that judges; it must have floors.
    pub reference: PathBuf,
    /// The directory of the recording that is judged.
    pub candidate: PathBuf,
    /// How the candidate's points are called in the reference.
    pub renames: Renames,
    /// What the candidate's runtime cannot help being off by: a file that the recorder of the reference's operands wrote.
    pub runtime_floors: Option<PathBuf>,
    /// Whether each module was run by itself, on the reference's inputs.
    pub isolated: bool,
}

/// Judges every point of the reference that the candidate has, in the reference's execution order.
///
/// # Errors
/// A recording cannot be used, the reference has no floors or holds a NaN, the two were fed different inputs, or the names do not
/// fit. A candidate that differs is a failing record, not an error.
pub fn compare(request: &Request) -> Result<Run> {
    let reference = Fixture::open(&request.reference)?;
    let candidate = Fixture::open(&request.candidate)?;
    reference.require_floors()?;
    inputs::require_same(&reference, &candidate)?;
    let ours = Side::own(&reference);
    let theirs = Side::renamed(&candidate, &request.renames)?;
    let pairs = Pairs::of(&theirs);
    let mode = if request.isolated { Mode::Isolated } else { Mode::Cumulative };
    let runtime = match &request.runtime_floors {
        Some(path) => RuntimeFloors::read(path, &reference)?,
        None => RuntimeFloors::default(),
    };
    let judge = Judge::new(&ours, &theirs, K, (mode, runtime))?;
    let (mut taps, mut not_compared, mut mapped) = (Vec::new(), Vec::new(), 0);
    for point in &ours.points {
        match pairs.find(point) {
            Err(reason) => not_compared.push(left_out(point, reason)),
            Ok(found) => {
                mapped += 1;
                if point.numel() == 0 && found.shape == point.shape {
                    not_compared.push(left_out(point, "empty: it has no element"));
                    continue;
                }
                match judge.judge(point, found)? {
                    Outcome::Judged(tap) => taps.push(*tap),
                    Outcome::NotCompared(reason) => not_compared.push(left_out(point, reason)),
                }
            }
        }
    }
    let points = Points { recorded: ours.points.len(), mapped };
    Ok(record(&ours, &theirs, mode, (taps, not_compared)).concluded(points))
}

fn left_out(point: &Point, reason: &str) -> NotCompared {
    let id = tap_id(point);
    NotCompared { point: id.point, call: id.call, kind: id.kind, mode: None, reason: reason.to_owned() }
}

fn record(
    ours: &Side<'_>,
    theirs: &Side<'_>,
    mode: Mode,
    (taps, not_compared): (Vec<TapRecord>, Vec<NotCompared>),
) -> Run {
    let (reference, candidate) = (ours.fixture, theirs.fixture);
    Run {
        schema: SCHEMA,
        tool: Tool { name: "mlxport".into(), version: env!("CARGO_PKG_VERSION").into() },
        environment: environment(candidate),
        fixture: FixtureId {
            name: reference.name().to_owned(),
            manifest_sha256: reference.manifest_sha256().to_owned(),
            checkpoint_sha256: reference.checkpoint_sha256().to_owned(),
            torch: reference.torch().to_owned(),
        },
        model: ModelId {
            config_sha256: None,
            weights_hash: candidate.weights_sha256().unwrap_or("unknown").to_owned(),
            layout: "recorded".into(),
            recipe: "none".into(),
        },
        candidate: Some(Candidate {
            name: candidate.name().to_owned(),
            manifest_sha256: candidate.manifest_sha256().to_owned(),
            made_by: candidate.made_by().to_owned(),
            only_there: only_there(ours, theirs),
            coverage: None,
        }),
        modes: vec![mode],
        k: K,
        shard: None,
        repeats: None,
        lock: None,
        summary: Summary::empty(),
        taps,
        not_compared,
    }
}

/// Where the candidate was recorded, as far as it says.
fn environment(candidate: &Fixture) -> Environment {
    let on = candidate.recorded_on();
    let said = |field: &Option<String>| field.clone().unwrap_or_else(|| NOT_RECORDED.to_owned());
    Environment {
        mlx_version: said(&on.mlx),
        mlx_rs_version: "none".to_owned(),
        device: said(&on.device),
        dtype: said(&on.dtype),
        tf32: said(&on.tf32),
        threads: on.threads.unwrap_or(0),
        os: said(&on.os),
        arch: said(&on.arch),
        blas: None,
    }
}
