//! What a recording says PyTorch itself is off by, in the precision of the run and the mode of the comparison.

use mlxport_fixtures::{Fixture, Kind, NoiseFloor, Point};
use mlxport_verdict::{Mode, Precision};

use crate::error::{Error, Result};

/// Why a point of a bfloat16 run is not compared.
pub const NOT_MEASURED: &str = "no bfloat16 floor recorded";

/// PyTorch's floor at `point`; none where it was not measured.
///
/// In float32 a module alone is off by no more than the whole pass was there, so that one floor serves both modes. In bfloat16 the
/// difference is the whole point: a pass is off by per cents where a module alone is off by its last rounding. What an isolated
/// module is *given* differs from the recording by being rounded only, which one ulp covers.
pub fn recorded(point: &Point, precision: Precision, mode: Mode) -> Option<NoiseFloor> {
    match (precision, mode, point.kind) {
        (Precision::F32, ..) => Some(point.noise_floor),
        (Precision::Bf16, Mode::Cumulative, _) => point.noise_floor_bf16,
        (Precision::Bf16, Mode::Isolated, Kind::Out) => point.noise_floor_bf16_isolated,
        (Precision::Bf16, Mode::Isolated, Kind::In(_)) => {
            Some(NoiseFloor { max_abs: 0.0, rms: 0.0, ..point.noise_floor })
        }
    }
}

/// The same as relative RMS: the larger one where two kernels were recorded, 0 where nothing was.
pub fn relative(point: &Point, precision: Precision, mode: Mode) -> f64 {
    match precision {
        Precision::F32 => point.relative_floor(),
        Precision::Bf16 => recorded(point, precision, mode).map_or(0.0, |floor| floor.relative()),
    }
}

/// What a router's scores are off by, as a share of their spread, for the token that is furthest off; 0 where it was not measured.
pub fn relative_of_choices(gate: &Point, precision: Precision, mode: Mode) -> f64 {
    if precision == Precision::F32 { 0.0 } else { relative(gate, precision, mode) }
}

/// Whether `point` can be judged: integers always, floats where PyTorch's floor was measured.
pub fn measured(point: &Point, precision: Precision, mode: Mode) -> bool {
    !point.dtype.is_float() || recorded(point, precision, mode).is_some()
}

/// Refuses a recording that cannot judge one of `modes` at all.
///
/// # Errors
/// With what would add the floors.
pub fn require(fixture: &Fixture, precision: Precision, modes: &[Mode]) -> Result<()> {
    let outputs = || fixture.points().iter().filter(|p| p.dtype.is_float() && p.kind == Kind::Out);
    let lacking = modes.iter().find(|&&mode| !outputs().any(|point| recorded(point, precision, mode).is_some()));
    let Some(mode) = lacking else { return Ok(()) };
    let (name, dir) = (fixture.name(), fixture.dir().display());
    Err(Error::Mismatch(format!(
        "--dtype bf16: {name} holds no bfloat16 floors for the {mode} mode, so there is no tolerance to judge by. Add them: \
         python fixtures/capture/bf16_floors.py --code RELEASE {dir} (RELEASE: the directory of the release's .py files; \
         record.py --bf16 measures them while recording); or use --dtype f32"
    )))
}
