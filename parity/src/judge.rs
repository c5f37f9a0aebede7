//! One tap, judged: candidate and reference to metrics, floors to tolerance, both to a record.

use std::collections::{BTreeMap, HashMap};

use mlx_rs::{Array, Dtype};
use mlxport_compare::Experts;
use mlxport_fixtures::{Data, Fixture, Kind as PointKind, Point, Tensor};
use mlxport_model::contract::{Module, Operation};
use mlxport_verdict::{
    Detail, Failure, Floors, Header, Keeper, Margins, Mode, Reference, ReferenceKind, TapId, TapRecord, Tolerance,
    compare, compare_exact, compare_logits, compare_sets,
    hints::{hints, ranked, tried},
    ulp_floor, ulps,
};

use crate::{
    calibrate::Calibration,
    error::Result,
    experts::in_recorded_order,
    floors::{self, Basis},
    host,
    routing::{self, Routing},
    ties::{Scores, needed_errors},
};

/// Judges taps against one fixture.
pub struct Judge<'a> {
    fixture: &'a Fixture,
    modules: &'a BTreeMap<&'a str, &'a dyn Module>,
    calibration: Calibration,
    experts: Experts,
    routing: Routing,
    basis: Basis,
    k: f64,
    /// How many more failures of each mode are looked into: the first ones say where it began.
    hints_left: HashMap<Mode, usize>,
    /// Whether the tap judged last was looked into.
    looked_into: bool,
    /// Which taps are worth a picture; none are where nobody looks at the record.
    keeper: Option<Keeper>,
}

impl<'a> Judge<'a> {
    /// A judge of runs on `basis` that allows `k` floors.
    ///
    /// # Errors
    /// When the fixture cannot be read.
    pub fn new(
        fixture: &'a Fixture,
        modules: &'a BTreeMap<&'a str, &'a dyn Module>,
        calibration: Calibration,
        (basis, k): (Basis, f64),
    ) -> Result<Self> {
        Ok(Self {
            fixture,
            modules,
            calibration,
            experts: Experts::read(fixture, fixture.points(), |point, mode| floors::recorded(point, basis, mode))?,
            routing: Routing::read(fixture)?,
            basis,
            k,
            hints_left: HashMap::new(),
            looked_into: false,
            keeper: Some(Keeper::default()),
        })
    }

    /// The same judge, whose records have no [`Detail`]: for runs of which only verdicts are read.
    #[must_use]
    pub fn without_details(self) -> Self {
        Self { keeper: None, ..self }
    }

    /// Judges the candidate for `point`. Cumulative runs are held against the float64 truth where the fixture has it; isolated
    /// ones start from a float32 recording and are held against what float32 PyTorch made of it.
    ///
    /// # Errors
    /// When fixture or MLX cannot be read; a candidate that is wrong is a failed record, not an error.
    pub fn judge(
        &mut self,
        point: &Point,
        mode: Mode,
        candidate: &Array,
        scores: Option<&Scores>,
    ) -> Result<TapRecord> {
        let truth = if mode != Mode::Isolated { self.fixture.truth(point)? } else { None };
        let (kind, reference) = match truth {
            Some(truth) => (ReferenceKind::Truth, truth),
            None => (ReferenceKind::Recorded, self.fixture.recorded(point)?),
        };
        let header = header(point, mode, kind);
        let found: Vec<usize> = candidate.shape().iter().map(|&d| d as usize).collect();
        if found != point.shape {
            let expected = point.shape.clone();
            return Ok(TapRecord::failed(header, Failure::ShapeMismatch { expected, found }));
        }
        match (&reference.data, scores) {
            (Data::F32(_) | Data::F64(_), _) => self.floats(point, header, &reference, candidate),
            (Data::I64(values), Some(scores)) => {
                let tolerance = self.router_tolerance(point, mode)?;
                chosen(header, values, candidate, scores, tolerance)
            }
            (Data::I64(values), None) => integers(header, values, candidate),
            (Data::Bool(values), _) => {
                let values: Vec<i64> = values.iter().map(|&v| i64::from(v)).collect();
                integers(header, &values, candidate)
            }
        }
    }

    /// The choices that a run's routers must take, none of them handed out yet.
    pub fn routing(&self) -> Routing {
        self.routing.clone()
    }

    /// The experts that the router at `path` goes on with, where these are not `own`: the recorded ones, `given`. In float32 only
    /// those tokens take them whose own choice is a near tie, so that what follows it can be compared; a choice that is wrong is gone on with.
    ///
    /// # Errors
    /// When fixture or MLX cannot be read.
    pub fn replayed(
        &mut self,
        path: &str,
        mode: Mode,
        given: Option<Array>,
        own: &Array,
        scores: Option<&Scores>,
    ) -> Result<Option<Array>> {
        if !self.basis.is_exact() {
            return Ok(given);
        }
        let gate = self.fixture.point(path, 0, PointKind::Out);
        let (Some(given), Some(gate), Some(scores)) = (given, gate, scores) else { return Ok(None) };
        let tolerance = self.router_tolerance(gate, mode)?;
        routing::near_ties_replayed(&given, own, scores, tolerance)
    }

    /// Whether the run is in float32 with the weights as released.
    pub fn is_exact(&self) -> bool {
        self.basis.is_exact()
    }

    /// The record of decoding steps, which are no recorded points: `found` against `reference`, both \[steps, vocab\], within `floors`.
    pub fn steps(&self, name: String, shape: &[usize], reference: &[f32], found: &[f32], floors: Floors) -> TapRecord {
        let header = Header {
            id: TapId { point: name, call: 0, kind: "out".to_owned() },
            mode: Mode::Tuned,
            shape: shape.to_vec(),
            dtype: "f32".to_owned(),
            reference: ReferenceKind::Recorded,
        };
        let outcome = compare(shape, Reference::F32(reference), found);
        let mut record = TapRecord::measured(header, outcome, floors, self.k);
        record.logits = compare_logits(shape[1], Reference::F32(reference), found);
        record
    }

    /// What this runtime's own operation is off by.
    ///
    /// # Errors
    /// MLX's.
    pub fn runtime_floor(&mut self, operation: Operation) -> Result<f64> {
        self.calibration.floor(operation)
    }

    /// Whether `point` can be judged in `mode`.
    pub fn measured(&self, point: &Point, mode: Mode) -> bool {
        floors::measured(point, self.basis, mode)
    }

    /// The record of a tap for which there is no candidate.
    pub fn failed(&self, point: &Point, mode: Mode, failure: Failure) -> TapRecord {
        TapRecord::failed(header(point, mode, ReferenceKind::Recorded), failure)
    }

    /// The record of a tap that the run produced and PyTorch did not.
    pub fn extra(&self, path: &str, call: u32, kind: PointKind, value: &Array) -> TapRecord {
        let header = Header {
            id: TapId { point: path.to_owned(), call, kind: kind.to_string() },
            mode: Mode::Cumulative,
            shape: value.shape().iter().map(|&d| d as usize).collect(),
            dtype: dtype_name(value),
            reference: ReferenceKind::Recorded,
        };
        TapRecord::failed(header, Failure::Extra)
    }

    fn floats(&mut self, point: &Point, header: Header, reference: &Tensor, candidate: &Array) -> Result<TapRecord> {
        if !is_float(candidate.dtype()) {
            return Ok(of_another_dtype(header, candidate));
        }
        let candidate = match header.mode {
            Mode::Cumulative | Mode::Tuned => &in_recorded_order(&self.experts, point, candidate)?,
            Mode::Isolated => candidate,
        };
        let mut values = host::floats(candidate)?;
        let mut shape = point.shape.clone();
        if let Some(sampling) = point.sampling {
            let count = reference.data.len();
            values = (0..count).map(|index| values[sampling.place(index)]).collect();
            shape = vec![count];
        }
        let mut outcome = match &reference.data {
            Data::F64(reference_values) => compare(&shape, Reference::F64(reference_values), &values),
            Data::F32(reference_values) => compare(&shape, Reference::F32(reference_values), &values),
            _ => unreachable!("the caller matched floats"),
        };
        if let (Some(sampling), Ok(metrics)) = (point.sampling, &mut outcome) {
            metrics.max_abs.coordinate = coordinate(sampling.place(metrics.max_abs.coordinate[0]), &point.shape);
        }
        let floors = self.floors(point, header.mode)?;
        let mut record = TapRecord::measured(header, outcome, floors, self.k);
        self.add_meanings(&mut record, point, reference, &values);
        let wants_detail = self.keeper.as_mut().is_some_and(|keeper| keeper.wants(&record));
        if let (Some(reference), true) = (floats_of(reference), wants_detail) {
            let whole = point.sampling.is_none().then_some(shape.as_slice());
            record.detail = Some(Detail::of(whole, reference, &values));
        }
        self.looked_into = false;
        if record.failure == Some(Failure::ToleranceExceeded)
            && point.sampling.is_none()
            && self.looks_into(record.mode)
        {
            let tolerance = record.tolerance.map_or(0.0, |tolerance| tolerance.value);
            if let Some(reference) = floats_of(reference) {
                record.hints = hints(&shape, reference, &values, tolerance);
            }
        }
        Ok(if point.sampling.is_some() { record.of_sample(values.len()) } else { record })
    }

    /// What the error means, where the tap is of a kind that has a meaning of its own: logits, a single operation.
    fn add_meanings(&self, record: &mut TapRecord, point: &Point, reference: &Tensor, values: &[f32]) {
        let Some(reference) = floats_of(reference) else { return };
        let vocabulary = point.shape.last().copied().unwrap_or(0);
        // Of samples, only those that are whole rows.
        let whole_rows = point.sampling.is_none_or(|sampling| {
            sampling.stride == 1
                && sampling.first.is_multiple_of(vocabulary.max(1))
                && values.len().is_multiple_of(vocabulary.max(1))
        });
        if whole_rows && LOGITS.contains(&&*point.point) && point.kind == PointKind::Out {
            record.logits = compare_logits(vocabulary, reference, values);
        }
        let module = self.modules.get(point.point.as_str());
        let is_single = module.is_some_and(|module| module.children().is_empty() && module.operations().len() == 1);
        if record.mode == Mode::Isolated && is_single {
            record.ulps = ulps(reference, values);
        }
    }

    fn looks_into(&mut self, mode: Mode) -> bool {
        let left = self.hints_left.entry(mode).or_insert(HINTED_FAILURES);
        self.looked_into = *left > 0;
        *left = left.saturating_sub(1);
        self.looked_into
    }

    /// Whether the tap judged last is one of the first failures of its mode.
    pub fn has_looked_into_it(&self) -> bool {
        self.looked_into
    }

    /// Adds to the hints of a failed record what the module's own alternatives explain.
    ///
    /// # Errors
    /// When fixture or MLX cannot be read.
    pub fn hint(&self, record: &mut TapRecord, point: &Point, alternatives: Vec<(String, Array)>) -> Result<()> {
        let reference = self.fixture.recorded(point)?;
        let (Some(error), Some(tolerance)) = (record.error(), record.tolerance) else { return Ok(()) };
        let mut found = std::mem::take(&mut record.hints);
        for (cause, output) in alternatives {
            let shape: Vec<usize> = output.shape().iter().map(|&d| d as usize).collect();
            let Some(values) = floats_of(&reference).filter(|_| shape == point.shape) else { continue };
            found.extend(tried(&cause, &shape, values, &host::floats(&output)?, (error, tolerance.value)));
        }
        record.hints = ranked(found);
        Ok(())
    }

    /// What the router's logits may be off by, relative to their spread: what its input may be off by, and its own product.
    fn router_tolerance(&mut self, gate: &Point, mode: Mode) -> Result<f64> {
        let Some(input) = self.fixture.point(&gate.point, gate.call, PointKind::In(0)) else { return Ok(0.0) };
        let mut floors = self.floors(input, Mode::Isolated)?;
        // Measured on the very scores, of the token that is furthest off.
        floors.torch = floors.torch.max(floors::relative_of_choices(gate, self.basis, mode));
        if let Some(module) = self.modules.get(gate.point.as_str()) {
            floors.runtime = self.calibration.chain(&module.chain())?;
        }
        Ok(Tolerance::new(&floors, self.k).value)
    }

    /// The three floors of a tap, as relative RMS.
    fn floors(&mut self, point: &Point, mode: Mode) -> Result<Floors> {
        let inherited = if mode != Mode::Isolated { self.experts.inherited_floor(point) } else { None };
        let at_least = inherited.unwrap_or(0.0).max(self.experts.pooled_floor(point, mode).unwrap_or(0.0));
        let operations = match (point.kind, self.modules.get(point.point.as_str())) {
            (PointKind::Out, Some(module)) => module.chain(),
            _ => Vec::new(),
        };
        Ok(Floors {
            torch: floors::relative(point, self.basis, mode).max(at_least),
            runtime: self.calibration.chain(&operations)?,
            ulp: ulp_floor(point.noise_floor.ref_rms, self.basis.precision),
        })
    }
}

/// Taps that hold scores over the vocabulary.
const LOGITS: [&str; 2] = ["logits", "lm_head"];

/// How many failures of a mode get hints.
const HINTED_FAILURES: usize = 3;

fn floats_of(tensor: &Tensor) -> Option<Reference<'_>> {
    match &tensor.data {
        Data::F64(values) => Some(Reference::F64(values)),
        Data::F32(values) => Some(Reference::F32(values)),
        _ => None,
    }
}

fn of_another_dtype(header: Header, candidate: &Array) -> TapRecord {
    let failure = Failure::DtypeMismatch { expected: header.dtype.clone(), found: dtype_name(candidate) };
    TapRecord::failed(header, failure)
}

/// MLX's name of an array's dtype, lower case.
fn dtype_name(array: &Array) -> String {
    format!("{:?}", array.dtype()).to_lowercase()
}

/// Row-major index → one index per axis.
fn coordinate(mut index: usize, shape: &[usize]) -> Vec<usize> {
    let mut places: Vec<usize> = shape.iter().rev().map(|&axis| (index % axis, index /= axis).0).collect();
    places.reverse();
    places
}

fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::Float32 | Dtype::Float16 | Dtype::Bfloat16)
}

fn header(point: &Point, mode: Mode, reference: ReferenceKind) -> Header {
    Header {
        id: TapId { point: point.point.clone(), call: point.call, kind: point.kind.to_string() },
        mode,
        shape: point.shape.clone(),
        dtype: point.dtype.to_string(),
        reference,
    }
}

fn integers(header: Header, reference: &[i64], candidate: &Array) -> Result<TapRecord> {
    if is_float(candidate.dtype()) {
        return Ok(of_another_dtype(header, candidate));
    }
    let outcome = compare_exact(&header.shape, reference, &host::integers(candidate)?);
    Ok(TapRecord::exact(header, outcome))
}

/// Expert choices: equal as sets, unless the logits were closer than the tolerance of the router's input can tell.
fn chosen(header: Header, reference: &[i64], candidate: &Array, scores: &Scores, tolerance: f64) -> Result<TapRecord> {
    let [rows, k] = header.shape[..] else {
        let failure = Failure::NotComparable { message: format!("choices of shape {:?}", header.shape) };
        return Ok(TapRecord::failed(header, failure));
    };
    let candidate = host::integers(candidate)?;
    let per_row = needed_errors(scores, k, reference, &candidate)?;
    let outcome = compare_sets(rows, k, reference, &candidate, Some(Margins { per_row: &per_row, floor: tolerance }));
    Ok(TapRecord::chosen(header, outcome))
}

#[cfg(test)]
pub(crate) mod tests;
