//! One tap, one mode: what was compared, how far off it was, and whether that passes.
//!
//! A [`TapRecord`] is made by its constructors, which apply the rule; its fields are public to be read (and deserialized).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::choices::Choices;
use crate::detail::Detail;
use crate::exact::Exact;
use crate::growth::Growth;
use crate::hints::Hint;
use crate::logits::LogitMetrics;
use crate::metrics::{CompareError, Metrics};
use crate::nonfinite;
use crate::tolerance::{Floors, Tolerance};
use crate::ulp::Ulps;

/// From where a tap's input came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// From the fixture's inputs, through everything before: what the port as a whole is off by.
    Cumulative,
    /// From the recorded input of that very module: what the module alone is off by.
    Isolated,
    /// From the fixture's inputs, computed as users run the model: what leaves it.
    Tuned,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Cumulative, Self::Isolated, Self::Tuned];
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cumulative => "cumulative",
            Self::Isolated => "isolated",
            Self::Tuned => "tuned",
        })
    }
}

/// What a candidate was compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReferenceKind {
    /// The float64 run.
    Truth,
    /// The float32 run.
    Recorded,
}

/// Pass or fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Within the tolerance, or equal where equality is asked.
    Pass,
    /// Anything else.
    Fail,
}

/// Which tensor of which call of which module, in PyTorch's names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TapId {
    /// The PyTorch module's path, `model.norm`.
    pub point: String,
    /// The how-manieth call of that module, from 0.
    pub call: u32,
    /// `in`, `in1`, … or `out`.
    pub kind: String,
}

impl fmt::Display for TapId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}.{}", self.point, self.call, self.kind)
    }
}

/// What is known of a tap before it is compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Which tensor.
    pub id: TapId,
    /// In which mode.
    pub mode: Mode,
    /// The reference's shape.
    pub shape: Vec<usize>,
    /// The reference's dtype (`f32`, `i64`, …).
    pub dtype: String,
    /// Which reference.
    pub reference: ReferenceKind,
}

/// Why a tap failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Failure {
    /// The relative RMS error is above the tolerance, or not known to be below.
    ToleranceExceeded,
    /// NaN or Inf on either side.
    NonFinite {
        /// Elements of the reference.
        reference: usize,
        /// Elements of the candidate.
        candidate: usize,
    },
    /// The candidate has another shape.
    ShapeMismatch {
        /// The reference's shape.
        expected: Vec<usize>,
        /// The candidate's.
        found: Vec<usize>,
    },
    /// The candidate has another dtype.
    DtypeMismatch {
        /// The dtype asked for.
        expected: String,
        /// The candidate's.
        found: String,
    },
    /// The fixture has this tap and the port maps it, but the run never produced it.
    Missing,
    /// The run produced a tap that the fixture does not have.
    Extra,
    /// The experts chosen differ by more than near ties.
    ChoicesDiffer {
        /// Tokens whose sets differ and are not near ties.
        rows: usize,
    },
    /// Integers differ.
    ValuesDiffer {
        /// How many.
        elements: usize,
    },
    /// The comparison itself was impossible (nothing in it, or lengths that do not fit).
    NotComparable {
        /// Why, in words.
        message: String,
    },
    /// The module could not be run.
    RunFailed {
        /// What the runtime said.
        message: String,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ToleranceExceeded => f.write_str("tolerance exceeded"),
            Self::NonFinite { reference, candidate } => {
                write!(f, "NaN or Inf: {candidate} elements of the port, {reference} of the reference")
            }
            Self::ShapeMismatch { expected, found } => {
                write!(f, "shape {found:?}, expected {expected:?}")
            }
            Self::DtypeMismatch { expected, found } => {
                write!(f, "dtype {found}, expected {expected}")
            }
            Self::Missing => f.write_str("missing: recorded and mapped, but the run never produced it"),
            Self::Extra => f.write_str("extra: produced by the run, but not in the fixture"),
            Self::ChoicesDiffer { rows } => {
                write!(f, "other experts chosen for {rows} token{}", plural(*rows))
            }
            Self::ValuesDiffer { elements } => {
                write!(f, "{elements} integer{} differ", plural(*elements))
            }
            Self::NotComparable { message } => write!(f, "not comparable: {message}"),
            Self::RunFailed { message } => write!(f, "the module could not be run: {message}"),
        }
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// The outcome of one tap in one mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TapRecord {
    /// The PyTorch module's path.
    pub point: String,
    /// The how-manieth call, from 0.
    pub call: u32,
    /// `in`, `in1`, … or `out`.
    pub kind: String,
    /// From where the input came.
    pub mode: Mode,
    /// The reference's shape.
    pub shape: Vec<usize>,
    /// The reference's dtype.
    pub dtype: String,
    /// How many elements were compared, where the recording kept only samples of the tensor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampled: Option<usize>,
    /// What it was compared with.
    pub reference: ReferenceKind,
    /// Pass or fail.
    pub status: Status,
    /// Why, if it failed.
    pub failure: Option<Failure>,
    /// The numbers, where floats were compared.
    pub metrics: Option<Metrics>,
    /// The distributions, where logits were compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logits: Option<LogitMetrics>,
    /// Steps of float32, where a single operation was run by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ulps: Option<Ulps>,
    /// The experts, where choices were compared.
    pub choices: Option<Choices>,
    /// The differences, where integers were compared.
    pub exact: Option<Exact>,
    /// The measured floors (floats only).
    pub floors: Option<Floors>,
    /// What was allowed (floats only).
    pub tolerance: Option<Tolerance>,
    /// What a lockfile allows, where the run was judged by one: then it is the tolerance's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked: Option<f64>,
    /// `metrics.rel_rms / tolerance.value`: above 1 fails, NaN fails.
    #[serde(default, with = "nonfinite::option")]
    pub ratio: Option<f64>,
    /// The module's own error ÷ the error it inherited: see [`crate::amplification`].
    #[serde(default, with = "nonfinite::option")]
    pub amplification: Option<f64>,
    /// Causes that explain the error, tried on the recorded tensors, best first; only the first failures have any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<Hint>,
    /// How much larger the error is than the one that reached this tap, where two recordings were compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
    /// What the tensors look like; only of taps that are worth a look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
}

impl TapRecord {
    /// A float tap: passes if all is finite and `rel_rms <= k · largest floor`.
    #[must_use]
    pub fn measured(header: Header, outcome: Result<Metrics, CompareError>, floors: Floors, k: f64) -> Self {
        let tolerance = Tolerance::new(&floors, k);
        let mut record = Self::blank(header);
        record.floors = Some(floors);
        record.tolerance = Some(tolerance);
        match outcome {
            Ok(metrics) => {
                record.ratio = Some(ratio(metrics.rel_rms, tolerance.value));
                if !metrics.all_finite() {
                    record.failure = Some(Failure::NonFinite {
                        reference: metrics.finite.reference_nonfinite,
                        candidate: metrics.finite.candidate_nonfinite,
                    });
                } else if !tolerance.passes(metrics.rel_rms) {
                    record.failure = Some(Failure::ToleranceExceeded);
                }
                record.metrics = Some(metrics);
            }
            Err(error) => record.failure = Some(not_comparable(&error)),
        }
        record.settled()
    }

    /// A router tap: passes if every token's experts are the same, near ties aside.
    #[must_use]
    pub fn chosen(header: Header, outcome: Result<Choices, CompareError>) -> Self {
        let mut record = Self::blank(header);
        match outcome {
            Ok(choices) => {
                if !choices.passes() {
                    let rows = choices.differing_rows.saturating_sub(choices.near_ties);
                    record.failure = Some(Failure::ChoicesDiffer { rows });
                }
                record.choices = Some(choices);
            }
            Err(error) => record.failure = Some(not_comparable(&error)),
        }
        record.settled()
    }

    /// An integer tap: passes if every element is equal.
    #[must_use]
    pub fn exact(header: Header, outcome: Result<Exact, CompareError>) -> Self {
        let mut record = Self::blank(header);
        match outcome {
            Ok(exact) => {
                if !exact.passes() {
                    record.failure = Some(Failure::ValuesDiffer { elements: exact.differing });
                }
                record.exact = Some(exact);
            }
            Err(error) => record.failure = Some(not_comparable(&error)),
        }
        record.settled()
    }

    /// A tap that failed before any number: missing, extra, another shape or dtype, a module that could not run.
    #[must_use]
    pub fn failed(header: Header, failure: Failure) -> Self {
        let mut record = Self::blank(header);
        record.failure = Some(failure);
        record.settled()
    }

    /// Judges the tap anew, by what a lockfile allows.
    pub fn lock_to(&mut self, locked: f64) {
        let (Some(metrics), Some(tolerance)) = (&self.metrics, &mut self.tolerance) else { return };
        self.locked = Some(locked);
        tolerance.value = locked;
        self.ratio = Some(ratio(metrics.rel_rms, locked));
        self.failure = match self.failure.take() {
            None | Some(Failure::ToleranceExceeded) => {
                (!tolerance.passes(metrics.rel_rms)).then_some(Failure::ToleranceExceeded)
            }
            other => other,
        };
        self.status = if self.failure.is_none() { Status::Pass } else { Status::Fail };
    }

    /// Notes that only so many elements of the tensor were compared.
    #[must_use]
    pub fn of_sample(mut self, count: usize) -> Self {
        self.sampled = Some(count);
        self
    }

    /// Which tensor this is.
    #[must_use]
    pub fn id(&self) -> TapId {
        TapId { point: self.point.clone(), call: self.call, kind: self.kind.clone() }
    }

    /// Whether it passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.status == Status::Pass
    }

    /// Whether values were compared at all, whatever came of it.
    #[must_use]
    pub fn compared(&self) -> bool {
        self.metrics.is_some() || self.choices.is_some() || self.exact.is_some()
    }

    /// The error that was judged: relative RMS, floats only.
    #[must_use]
    pub fn error(&self) -> Option<f64> {
        self.metrics.as_ref().map(|metrics| metrics.rel_rms)
    }

    fn blank(header: Header) -> Self {
        Self {
            point: header.id.point,
            call: header.id.call,
            kind: header.id.kind,
            mode: header.mode,
            shape: header.shape,
            dtype: header.dtype,
            sampled: None,
            reference: header.reference,
            status: Status::Fail,
            failure: None,
            metrics: None,
            logits: None,
            ulps: None,
            choices: None,
            exact: None,
            floors: None,
            tolerance: None,
            locked: None,
            ratio: None,
            amplification: None,
            hints: Vec::new(),
            growth: None,
            detail: None,
        }
    }

    /// Passes only what was compared and has no failure.
    fn settled(mut self) -> Self {
        let passes = self.failure.is_none() && self.compared();
        self.status = if passes { Status::Pass } else { Status::Fail };
        self
    }
}

fn not_comparable(error: &CompareError) -> Failure {
    Failure::NotComparable { message: error.to_string() }
}

/// `error / tolerance`, where an exact match is 0 even of a zero tolerance.
pub(crate) fn ratio(error: f64, tolerance: f64) -> f64 {
    if error == 0.0 && tolerance >= 0.0 { 0.0 } else { error / tolerance }
}
