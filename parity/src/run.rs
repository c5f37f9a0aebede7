//! A whole parity run: model and fixture in, record out.

use std::path::{Path, PathBuf};

use mlx_rs::Dtype;
use mlxport_convert::checkpoint::MAX_JSON_BYTE_LEN;
use mlxport_fixtures::{Fixture, Kind, Point, sha256_hex};
use mlxport_model::{
    LoadOptions, Model,
    fault::{Fault, Variant},
    runtime::{self, Place},
};
use mlxport_verdict::{
    Environment, FixtureId, K, Mode, ModelId, NotCompared, Points, Precision, Run, SCHEMA, Shard, Summary, TapRecord,
    Tool,
};

use crate::{
    calibrate::Calibration,
    cumulative,
    driver::Driver,
    error::{Error, Result},
    floors::{self, Basis, NOT_MEASURED, measured},
    isolated,
    judge::Judge,
    select::Selection,
};

/// What to run.
#[derive(Debug, Clone)]
pub struct Request {
    /// The converted model's directory.
    pub model: PathBuf,
    /// The fixture's directory.
    pub fixture: PathBuf,
    /// Which modes, in the order of the record.
    pub modes: Vec<Mode>,
    /// Which taps.
    pub selection: Selection,
    /// Where to run.
    pub place: Place,
    /// What to compute in.
    pub precision: Precision,
    /// Which share of the isolated modules; all, where there is none.
    pub shard: Option<Shard>,
    /// What to plant; nothing for a verdict on the model.
    pub planted: Option<Fault>,
    /// Another correct way to compute the same, if one is asked for.
    pub variant: Option<Variant>,
    /// How a whole pass is made.
    pub driver: Driver,
}

/// Runs and judges.
///
/// # Errors
/// When model, fixture or device cannot be used; a model that computes something else is a failing record, not an error.
pub fn run(request: &Request) -> Result<Run> {
    run_on(&Fixture::open(&request.fixture)?, request)
}

/// The same on a fixture that is open already; `request.fixture` is not looked at.
///
/// # Errors
/// Those of [`run`].
pub fn run_on(fixture: &Fixture, request: &Request) -> Result<Run> {
    fixture.require_floors()?;
    let has_inputs = fixture.points().iter().any(|point| point.kind != Kind::Out);
    if request.modes.contains(&Mode::Isolated) && !has_inputs {
        let name = fixture.name();
        return Err(Error::Mismatch(format!(
            "{name} holds no inputs of modules: it can be used with --mode cumulative"
        )));
    }
    use_device(request.place)?;
    let share = request.shard.map(|shard| isolated::share(fixture, shard));
    if request.shard.is_some() && request.modes != [Mode::Isolated] {
        return Err(Error::Mismatch("--shard: only the isolated mode can be cut into shares".into()));
    }
    let options = LoadOptions {
        dtype: dtype_of(request.precision),
        keeps_widened: false,
        fault: request.planted.clone(),
        variant: request.variant,
        only: share.as_ref().map(|share| share.iter().map(|(path, _)| (*path).to_owned()).collect()),
    };
    let model = mlxport_model::load(&request.model, options)?;
    let basis = floors::basis(fixture, request.precision, model.facts(), &request.modes)?;
    let modules = model.modules();
    let tokens = fixture.input("input_ids")?.shape.last().copied().unwrap_or(0);
    // A CPU has no TF32.
    let tf32 = request.place == Place::Gpu && tf32().as_deref() != Some("0");
    let calibration = Calibration::new(model.facts().dtype, tokens).with_tf32(tf32);
    let mut judge = Judge::new(fixture, &modules, calibration, (basis, K))?;
    let mapped =
        |point: &Point| modules.contains_key(point.point.as_str()) || model.facts().whole.contains(&&*point.point);
    let (mut taps, mut not_compared) = (Vec::new(), not_covered(fixture, request, basis, mapped));
    let selection = &request.selection;
    for mode in &request.modes {
        match mode {
            Mode::Cumulative => {
                taps.extend(cumulative::run(&*model, fixture, selection, &mut judge, request.driver, mapped)?)
            }
            Mode::Isolated => {
                let (records, skipped) =
                    isolated::run(&*model, &modules, fixture, (selection, share.as_ref()), &mut judge)?;
                taps.extend(records);
                not_compared.extend(skipped);
            }
        }
    }
    let points =
        Points { recorded: fixture.points().len(), mapped: fixture.points().iter().filter(|p| mapped(p)).count() };
    record((request, basis), fixture, &*model, taps, not_compared, points)
}

/// Points that no mode of this run is going to compare, with the reason.
fn not_covered(
    fixture: &Fixture,
    request: &Request,
    basis: Basis,
    mapped: impl Fn(&Point) -> bool,
) -> Vec<NotCompared> {
    let isolated_only = !request.modes.contains(&Mode::Cumulative);
    let reason = |point: &Point| {
        if !request.selection.holds(&point.point) {
            Some("not selected")
        } else if !mapped(point) {
            Some("not mapped: the port has no such module")
        } else if isolated_only && point.kind != Kind::Out {
            Some("an input: given in isolated mode, compared in cumulative mode")
        } else {
            None
        }
    };
    let entry = |point: &Point| reason(point).map(|reason| not_compared(point, None, reason));
    let unmeasured = |point: &Point| {
        let skipped = !isolated_only && reason(point).is_none() && !measured(point, basis, Mode::Cumulative);
        skipped.then(|| not_compared(point, Some(Mode::Cumulative), NOT_MEASURED))
    };
    fixture.points().iter().flat_map(|point| entry(point).into_iter().chain(unmeasured(point))).collect()
}

fn not_compared(point: &Point, mode: Option<Mode>, reason: &str) -> NotCompared {
    let (name, kind) = (point.point.clone(), point.kind.to_string());
    NotCompared { point: name, call: point.call, kind, mode, reason: reason.to_owned() }
}

/// What MLX was told about TF32; where it was told nothing, it is on.
fn tf32() -> Option<String> {
    std::env::var("MLX_ENABLE_TF32").ok()
}

pub(crate) fn dtype_of(precision: Precision) -> Dtype {
    match precision {
        Precision::F32 => Dtype::Float32,
        Precision::Bf16 => Dtype::Bfloat16,
    }
}

fn record(
    (request, basis): (&Request, Basis),
    fixture: &Fixture,
    model: &dyn Model,
    taps: Vec<TapRecord>,
    not_compared: Vec<NotCompared>,
    points: Points,
) -> Result<Run> {
    let run = Run {
        schema: SCHEMA,
        tool: Tool { name: "mlxport".into(), version: env!("CARGO_PKG_VERSION").into() },
        environment: environment(request.place, basis),
        fixture: FixtureId {
            name: fixture.name().to_owned(),
            manifest_sha256: fixture.manifest_sha256().to_owned(),
            checkpoint_sha256: fixture.checkpoint_sha256().to_owned(),
            torch: fixture.torch().to_owned(),
        },
        model: model_id(&request.model, model)?,
        candidate: None,
        modes: request.modes.clone(),
        k: K,
        shard: request.shard,
        repeats: None,
        lock: None,
        summary: Summary::empty(),
        taps,
        not_compared,
    };
    Ok(run.concluded(points))
}

/// Runs everything from now on at `place`.
///
/// # Errors
/// When this MLX cannot.
pub(crate) fn use_device(place: Place) -> Result<()> {
    let cannot = |error| Error::Environment(format!("this MLX cannot run on {}: {error}", place_name(place)));
    runtime::use_device(place).map_err(cannot)
}

fn place_name(place: Place) -> &'static str {
    match place {
        Place::Cpu => "cpu",
        Place::Gpu => "gpu",
    }
}

fn environment(place: Place, basis: Basis) -> Environment {
    Environment {
        mlx_version: runtime::mlx_version(),
        mlx_rs_version: MLX_RS_VERSION.into(),
        device: place_name(place).into(),
        dtype: basis.name(),
        tf32: tf32().unwrap_or_else(|| "unset".into()),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        os: std::env::consts::OS.into(),
        arch: std::env::consts::ARCH.into(),
        blas: None,
    }
}

/// The bindings that the workspace pins.
const MLX_RS_VERSION: &str = "0.33.0";

/// What was run: hashes of config.json and of the conversion's manifest, which holds every weight's hash.
fn model_id(dir: &Path, model: &dyn Model) -> Result<ModelId> {
    let config = mlxport_convert::files::read_bounded(&dir.join("config.json"), MAX_JSON_BYTE_LEN).ok();
    let manifest = dir.join(mlxport_convert::manifest::MANIFEST_FILE);
    let manifest = mlxport_convert::files::read_bounded(&manifest, MAX_JSON_BYTE_LEN).ok();
    let facts = model.facts();
    Ok(ModelId {
        config_sha256: config.map(|bytes| sha256_hex(&bytes)),
        weights_hash: manifest.map_or_else(|| "unknown".into(), |bytes| sha256_hex(&bytes)),
        layout: facts.layout.into(),
        recipe: facts.recipe.clone().unwrap_or_else(|| "unknown".into()),
    })
}
