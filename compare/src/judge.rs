//! One pair of tensors, judged: both to metrics, the reference's floors to a tolerance, all to a record.

use std::cell::{Cell, RefCell};

use mlxport_fixtures::{Data, Point, Tensor};
use mlxport_verdict::hints::hints;
use mlxport_verdict::{
    Detail, Element, Failure, Floors, Header, Keeper, Mode, Precision, Reference, ReferenceKind, TapRecord, compare,
    compare_exact, compare_sets, ulp_floor,
};

use crate::elements::{Common, common, place};
use crate::error::Result;
use crate::experts::{self, Experts};
use crate::pairs::{Side, tap_id};
use crate::runtime::RuntimeFloors;

/// How many failures are looked into for their cause: what comes after them inherits.
const HINTED_FAILURES: usize = 3;

/// What became of a pair.
pub(crate) enum Outcome {
    /// A record, passed or failed.
    Judged(Box<TapRecord>),
    /// Why it cannot be judged, in words that many points share.
    NotCompared(&'static str),
}

/// Judges a candidate's tensors by a reference's.
pub(crate) struct Judge<'a> {
    reference: &'a Side<'a>,
    candidate: &'a Side<'a>,
    ours: Experts,
    theirs: Experts,
    k: f64,
    mode: Mode,
    runtime: RuntimeFloors,
    /// How many more failures are looked into.
    hints_left: Cell<usize>,
    /// Which taps are worth a picture.
    keeper: RefCell<Keeper>,
}

impl<'a> Judge<'a> {
    /// A judge that allows `k` floors.
    ///
    /// # Errors
    /// A recording cannot be read.
    pub fn new(
        reference: &'a Side<'a>,
        candidate: &'a Side<'a>,
        k: f64,
        (mode, runtime): (Mode, RuntimeFloors),
    ) -> Result<Self> {
        let ours = Experts::read(reference.fixture, &reference.points, |point, _| Some(point.noise_floor))?;
        let theirs = Experts::read(candidate.fixture, &candidate.points, |point, _| Some(point.noise_floor))?;
        Ok(Self {
            reference,
            candidate,
            ours,
            theirs,
            k,
            mode,
            runtime,
            hints_left: Cell::new(HINTED_FAILURES),
            keeper: RefCell::default(),
        })
    }

    /// Judges one pair: against the float64 run where the reference has it.
    ///
    /// # Errors
    /// A tensor cannot be read, or the reference's holds a NaN. A candidate's NaN is a failed record.
    pub fn judge(&self, ours: &Point, theirs: &Point) -> Result<Outcome> {
        let truth = self.reference.fixture.truth(ours)?;
        let kind = if truth.is_some() { ReferenceKind::Truth } else { ReferenceKind::Recorded };
        let header = header(ours, kind, self.mode);
        if theirs.shape != ours.shape {
            let (expected, found) = (ours.shape.clone(), theirs.shape.clone());
            return Ok(failed(header, Failure::ShapeMismatch { expected, found }));
        }
        if theirs.dtype != ours.dtype {
            let (expected, found) = (ours.dtype.to_string(), theirs.dtype.to_string());
            return Ok(failed(header, Failure::DtypeMismatch { expected, found }));
        }
        let reference = match truth {
            Some(truth) => truth,
            None => self.reference.fixture.recorded(ours)?,
        };
        let candidate = self.candidate.fixture.recorded_as_is(theirs)?;
        Ok(self.values(header, ours, theirs, reference, candidate))
    }

    fn values(&self, header: Header, ours: &Point, theirs: &Point, reference: Tensor, candidate: Tensor) -> Outcome {
        let kept = reference.data.len();
        let shared = common(ours, kept, theirs, candidate.data.len());
        let (count, numel) = (shared.count(kept), ours.numel());
        if count == 0 && numel > 0 {
            return Outcome::NotCompared("sampled: the two recordings kept no element in common");
        }
        let mut values = candidate.data;
        if experts::is_inside(ours) {
            if count < numel {
                return Outcome::NotCompared("sampled: an expert's rows have no known order in a sample");
            }
            match self.ours.in_this_order(ours, &self.theirs, &values) {
                Some(ordered) => values = ordered,
                None => return Outcome::NotCompared("the order of an expert's rows is not known on both sides"),
            }
        }
        if ours.sets && count < numel {
            return Outcome::NotCompared("sampled: choices are compared in whole rows");
        }
        let (reference, candidate) = shared.pick(reference.data, values);
        // A sample has one axis; what is whole keeps its own.
        let shape = if count == numel { ours.shape.clone() } else { vec![count] };
        let mut record = self.record(header, ours, &shape, &reference, &candidate);
        if self.keeper.borrow_mut().wants(&record) {
            record.detail = detail((count == numel).then_some(&shape), &reference, &candidate);
        }
        if count == numel {
            self.look_into(&mut record, &shape, &reference, &candidate);
        } else {
            at_its_place(&mut record, ours, &shared);
            record = record.of_sample(count);
        }
        Outcome::Judged(Box::new(record))
    }

    /// Tries the usual causes on one of the first failures; on whole tensors only, for a sample has no axes.
    fn look_into(&self, record: &mut TapRecord, shape: &[usize], ours: &Data, theirs: &Data) {
        let left = self.hints_left.get();
        let reference = match ours {
            Data::F32(values) => Reference::F32(values),
            Data::F64(values) => Reference::F64(values),
            Data::I64(_) | Data::Bool(_) => return,
        };
        if let (Some(Failure::ToleranceExceeded), Data::F32(values), 1..) = (&record.failure, theirs, left) {
            let tolerance = record.tolerance.map_or(0.0, |tolerance| tolerance.value);
            record.hints = hints(shape, reference, values, tolerance);
            self.hints_left.set(left - 1);
        }
    }

    fn record(&self, header: Header, point: &Point, shape: &[usize], ours: &Data, theirs: &Data) -> TapRecord {
        match (ours, theirs) {
            (Data::F32(r), Data::F32(c)) => self.floats(header, point, shape, Reference::F32(r), c),
            (Data::F64(r), Data::F32(c)) => self.floats(header, point, shape, Reference::F64(r), c),
            (Data::F64(r), Data::F64(c)) => self.floats(header, point, shape, Reference::F64(r), c),
            (Data::F32(r), Data::F64(c)) => self.floats(header, point, shape, Reference::F32(r), c),
            (Data::I64(r), Data::I64(c)) if point.sets => {
                let (rows, k) = rows_of_sets(shape);
                TapRecord::chosen(header, compare_sets(rows, k, r, c, None))
            }
            (Data::I64(r), Data::I64(c)) => TapRecord::exact(header, compare_exact(shape, r, c)),
            (Data::Bool(r), Data::Bool(c)) => {
                let wide = |flags: &[bool]| flags.iter().map(|&flag| i64::from(flag)).collect::<Vec<_>>();
                TapRecord::exact(header, compare_exact(shape, &wide(r), &wide(c)))
            }
            (expected, found) => {
                let (expected, found) = (expected.dtype().to_string(), found.dtype().to_string());
                TapRecord::failed(header, Failure::DtypeMismatch { expected, found })
            }
        }
    }

    fn floats<C: Element>(
        &self,
        header: Header,
        point: &Point,
        shape: &[usize],
        reference: Reference<'_>,
        candidate: &[C],
    ) -> TapRecord {
        let inside = [self.ours.pooled_floor(point, Mode::Cumulative), self.ours.inherited_floor(point)];
        let floors = Floors {
            torch: inside.into_iter().flatten().fold(point.relative_floor(), f64::max),
            // 0 where nothing was measured; what a candidate says of itself is never taken.
            runtime: self.runtime.of(point),
            ulp: ulp_floor(point.noise_floor.ref_rms, Precision::F32),
        };
        TapRecord::measured(header, compare(shape, reference, candidate), floors, self.k)
    }
}

/// What the two tensors look like, where both are floats.
fn detail(shape: Option<&Vec<usize>>, ours: &Data, theirs: &Data) -> Option<Detail> {
    let shape = shape.map(Vec::as_slice);
    let reference = match ours {
        Data::F32(values) => Reference::F32(values),
        Data::F64(values) => Reference::F64(values),
        Data::I64(_) | Data::Bool(_) => return None,
    };
    match theirs {
        Data::F32(values) => Some(Detail::of(shape, reference, values)),
        Data::F64(values) => Some(Detail::of(shape, reference, values)),
        Data::I64(_) | Data::Bool(_) => None,
    }
}

/// Rows and their length; a scalar is one set of one.
fn rows_of_sets(shape: &[usize]) -> (usize, usize) {
    let k = shape.last().copied().unwrap_or(1);
    (shape.iter().rev().skip(1).product(), k)
}

/// The worst element of a sample, where it stands in the whole tensor.
fn at_its_place(record: &mut TapRecord, point: &Point, shared: &Common) {
    let whole = |index: usize| coordinate(place(point, shared.of_reference(index)), &point.shape);
    if let Some(metrics) = &mut record.metrics {
        metrics.max_abs.coordinate = whole(metrics.max_abs.coordinate[0]);
    }
    for difference in record.exact.iter_mut().flat_map(|exact| &mut exact.first) {
        difference.coordinate = whole(difference.coordinate[0]);
    }
}

/// Row-major index → one index per axis.
fn coordinate(mut index: usize, shape: &[usize]) -> Vec<usize> {
    let mut places: Vec<usize> = shape.iter().rev().map(|&axis| (index % axis, index /= axis).0).collect();
    places.reverse();
    places
}

fn failed(header: Header, failure: Failure) -> Outcome {
    Outcome::Judged(Box::new(TapRecord::failed(header, failure)))
}

fn header(point: &Point, reference: ReferenceKind, mode: Mode) -> Header {
    Header { id: tap_id(point), mode, shape: point.shape.clone(), dtype: point.dtype.to_string(), reference }
}
