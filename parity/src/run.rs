//! A whole parity run: model and fixture in, record out.

use std::{
    path::{Path, PathBuf},
    rc::Rc,
};

use mlx_rs::Dtype;
use mlxport_convert::checkpoint::MAX_JSON_BYTE_LEN;
use mlxport_fixtures::{Fixture, Kind, Point, sha256_hex};
use mlxport_model::{
    LoadOptions, Model, Plain, Tuned,
    contract::Steps,
    loading::Files,
    registry,
    runtime::{self, DeviceKind},
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
    fault::Fault,
    floors::{self, Basis, NOT_MEASURED, measured},
    isolated,
    judge::Judge,
    select::Selection,
    steps::{Edited, StepEdit},
    tuned,
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
    pub device: DeviceKind,
    /// What to compute in.
    pub precision: Precision,
    /// Which share of the isolated modules; all, where there is none.
    pub shard: Option<Shard>,
    /// What to plant; nothing for a verdict on the model.
    pub planted: Option<Fault>,
    /// What to plant in the tuned steps alone.
    pub planted_in_tuned: Vec<StepEdit>,
    /// How a whole pass is made.
    pub driver: Driver,
    /// Whether the record holds pictures of the failing and the worst taps (heat maps, histograms).
    pub details: bool,
}

impl Request {
    /// The whole model as it is, on a CPU in float32, in all modes.
    #[must_use]
    pub fn new(model: PathBuf, fixture: PathBuf) -> Self {
        Self {
            model,
            fixture,
            modes: vec![Mode::Cumulative, Mode::Tuned, Mode::Isolated],
            selection: Selection::default(),
            device: DeviceKind::Cpu,
            precision: Precision::F32,
            shard: None,
            planted: None,
            planted_in_tuned: Vec::new(),
            driver: Driver::Whole,
            details: true,
        }
    }
}

/// Runs and judges.
///
/// # Errors
/// When model, fixture or device cannot be used; a model that computes something else is a failing record, not an error.
pub fn run(request: &Request) -> Result<Run> {
    Session::open(request)?.run(request)
}

/// A recording and a model's files, for one run or many: weights are read and floors measured once.
pub struct Session {
    fixture: Fixture,
    files: Rc<Files>,
    calibration: Calibration,
    /// The model as it is.
    model: Option<Box<dyn Model>>,
}

impl Session {
    /// Opens what `request` names.
    ///
    /// # Errors
    /// When model, fixture or device cannot be used.
    pub fn open(request: &Request) -> Result<Self> {
        let fixture = Fixture::open(&request.fixture)?;
        fixture.require_floors()?;
        use_device(request.device)?;
        let tokens = fixture.input("input_ids")?.shape.last().copied().unwrap_or(0);
        // A CPU has no TF32.
        let tf32 = request.device == DeviceKind::Gpu && tf32().as_deref() != Some("0");
        let calibration = Calibration::new(dtype_of(request.precision), tokens).with_tf32(tf32);
        // What config.json says comes before what the files hold.
        registry::facts(&request.model)?;
        let files = Files::open(&request.model)?;
        Ok(Self { fixture, files, calibration, model: None })
    }

    /// The recording.
    #[must_use]
    pub fn fixture(&self) -> &Fixture {
        &self.fixture
    }

    /// The model as it is, with all of its weights; loaded once.
    ///
    /// # Errors
    /// When files and config do not fit each other.
    pub fn model(&mut self, request: &Request) -> Result<&dyn Model> {
        if self.model.is_none() {
            let options = LoadOptions { dtype: dtype_of(request.precision), ..LoadOptions::default() };
            self.model = Some(registry::load_from(&self.files, options)?);
        }
        self.model.as_deref().ok_or_else(|| Error::Mismatch("no model".into()))
    }

    /// Runs and judges; `request` names the same model, recording, device and precision as the session was opened with.
    ///
    /// # Errors
    /// Those of [`run`].
    pub fn run(&mut self, request: &Request) -> Result<Run> {
        let has_inputs = self.fixture.points().iter().any(|point| point.kind != Kind::Out);
        if request.modes.contains(&Mode::Isolated) && !has_inputs {
            let name = self.fixture.name();
            return Err(Error::Mismatch(format!(
                "{name} holds no inputs of modules: it can be used with --mode cumulative"
            )));
        }
        if request.shard.is_some() && request.modes != [Mode::Isolated] {
            return Err(Error::Mismatch("--shard: only the isolated mode can be cut into shares".into()));
        }
        let edits = request.planted.as_ref().map(Fault::edits).unwrap_or_default();
        if request.shard.is_none() && edits.is_empty() {
            self.model(request)?;
            let model = self.model.as_deref().ok_or_else(|| Error::Mismatch("no model".into()))?;
            return judged(&self.fixture, request, model, &self.calibration);
        }
        let share = request.shard.map(|shard| isolated::share(&self.fixture, shard));
        let only = share.map(|share| share.iter().map(|(path, _)| (*path).to_owned()).collect());
        let options = LoadOptions { dtype: dtype_of(request.precision), edits, only, ..LoadOptions::default() };
        judged(&self.fixture, request, &*registry::load_from(&self.files, options)?, &self.calibration)
    }
}

fn judged(fixture: &Fixture, request: &Request, model: &dyn Model, calibration: &Calibration) -> Result<Run> {
    let basis = floors::basis(fixture, request.precision, model.facts(), &request.modes)?;
    let share = request.shard.map(|shard| isolated::share(fixture, shard));
    let modules = model.modules();
    let mut judge = Judge::new(fixture, &modules, calibration.clone(), (basis, K))?;
    if !request.details {
        judge = judge.without_details();
    }
    let mapped =
        |point: &Point| modules.contains_key(point.point.as_str()) || model.facts().whole.contains(&&*point.point);
    // Why a point is compared alone and not in a whole pass, where it is so.
    let alone = |point: &Point| {
        let mut entries = model.facts().alone.iter();
        entries.find(|(ending, _)| point.point.ends_with(ending)).map(|(_, reason)| *reason)
    };
    let in_pass = |point: &Point| mapped(point) && alone(point).is_none();
    let (mut taps, mut not_compared) = (Vec::new(), not_covered(fixture, request, basis, (mapped, alone)));
    let (selection, mut modes) = (&request.selection, request.modes.clone());
    let edits = request.planted.as_ref().map_or(&[][..], Fault::steps);
    let steps = Edited::new(&Plain, edits);
    for mode in &request.modes {
        match mode {
            Mode::Cumulative => {
                let how = (request.driver, &steps as &dyn Steps);
                taps.extend(cumulative::run(model, fixture, selection, &mut judge, how, in_pass)?);
            }
            Mode::Isolated => {
                let (which, how) = ((selection, share.as_ref()), (&Plain as &dyn Steps, edits));
                let (records, skipped) = isolated::run(model, &modules, fixture, which, &mut judge, how)?;
                taps.extend(records);
                not_compared.extend(skipped);
            }
            Mode::Tuned => {
                let edits = [edits, &request.planted_in_tuned].concat();
                let steps = Edited::new(&Tuned, &edits);
                let (records, skipped) = tuned::run(model, fixture, selection, &mut judge, &steps)?;
                let has_nothing = records.is_empty() && request.modes.len() > 1;
                modes.retain(|mode| *mode != Mode::Tuned || !has_nothing);
                taps.extend(records);
                not_compared.extend(skipped);
            }
        }
    }
    let points =
        Points { recorded: fixture.points().len(), mapped: fixture.points().iter().filter(|p| mapped(p)).count() };
    record((request, basis), fixture, (model, modes), (taps, not_compared), points)
}

/// Points that no mode of this run is going to compare, with the reason.
fn not_covered(
    fixture: &Fixture,
    request: &Request,
    basis: Basis,
    (mapped, alone): (impl Fn(&Point) -> bool, impl Fn(&Point) -> Option<&'static str>),
) -> Vec<NotCompared> {
    let isolated_only = !request.modes.contains(&Mode::Cumulative);
    let tuned_only = request.modes == [Mode::Tuned];
    let reason = |point: &Point| {
        if !request.selection.holds(&point.point) {
            Some("not selected")
        } else if !mapped(point) {
            Some("not mapped: the port has no such module")
        } else if tuned_only {
            Some("inside the model: the tuned steps are compared at what leaves it")
        } else if isolated_only && point.kind != Kind::Out {
            Some("an input: given in isolated mode, compared in cumulative mode")
        } else {
            None
        }
    };
    let entry = |point: &Point| {
        let in_one_mode = || alone(point).filter(|_| !isolated_only).map(|reason| (Some(Mode::Cumulative), reason));
        let found = reason(point).map(|reason| (None, reason)).or_else(in_one_mode);
        found.map(|(mode, reason)| not_compared(point, mode, reason))
    };
    let unmeasured = |point: &Point| {
        let skipped = !isolated_only
            && reason(point).is_none()
            && alone(point).is_none()
            && !measured(point, basis, Mode::Cumulative);
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
    (model, modes): (&dyn Model, Vec<Mode>),
    (taps, not_compared): (Vec<TapRecord>, Vec<NotCompared>),
    points: Points,
) -> Result<Run> {
    let run = Run {
        schema: SCHEMA,
        tool: Tool { name: "mlxport".into(), version: env!("CARGO_PKG_VERSION").into() },
        environment: environment(request.device, basis),
        fixture: FixtureId {
            name: fixture.name().to_owned(),
            manifest_sha256: fixture.manifest_sha256().to_owned(),
            checkpoint_sha256: fixture.checkpoint_sha256().to_owned(),
            torch: fixture.torch().to_owned(),
        },
        model: model_id(&request.model, model)?,
        candidate: None,
        modes,
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

/// Runs everything from now on on `device`.
///
/// # Errors
/// When this MLX cannot.
pub(crate) fn use_device(device: DeviceKind) -> Result<()> {
    let cannot = |error| Error::Environment(format!("this MLX cannot run on {}: {error}", device_name(device)));
    runtime::use_device(device).map_err(cannot)
}

fn device_name(device: DeviceKind) -> &'static str {
    match device {
        DeviceKind::Cpu => "cpu",
        DeviceKind::Gpu => "gpu",
    }
}

fn environment(device: DeviceKind, basis: Basis) -> Environment {
    Environment {
        mlx_version: runtime::mlx_version(),
        mlx_rs_version: MLX_RS_VERSION.into(),
        device: device_name(device).into(),
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
