//! A whole parity run: tool, environment, fixture, model, every tap, the summary. What `record.json` holds.

use serde::{Deserialize, Serialize};

use crate::amplification::fill_amplification;
use crate::growth::fill_growth;
use crate::nonfinite;
use crate::record::{Mode, TapId, TapRecord};
use crate::summary::{Points, Summary};

/// The version of the record's shape. A reader refuses every other.
pub const SCHEMA: u32 = 1;

/// What stands in an [`Environment`] for what a recording does not say; its threads are then 0.
pub const NOT_RECORDED: &str = "not recorded";

/// Who made the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// `mlxport`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// Where the port ran: part of the verdict, for the same port is off by other amounts elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// MLX itself.
    pub mlx_version: String,
    /// The Rust bindings.
    pub mlx_rs_version: String,
    /// `cpu` or `gpu`.
    pub device: String,
    /// The compute dtype: `f32`, `bf16`.
    pub dtype: String,
    /// What `MLX_ENABLE_TF32` was (`0` where f32 is f32).
    pub tf32: String,
    /// Threads the runtime may use.
    pub threads: usize,
    /// `linux`, `macos`.
    pub os: String,
    /// `x86_64`, `aarch64`.
    pub arch: String,
    /// The BLAS that the CPU device calls, where known.
    #[serde(default)]
    pub blas: Option<String>,
}

/// What it was compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixtureId {
    /// The directory's name.
    pub name: String,
    /// SHA-256 of manifest.json, lower-case hex.
    pub manifest_sha256: String,
    /// SHA-256 of the checkpoint that was recorded, lower-case hex.
    pub checkpoint_sha256: String,
    /// The PyTorch version that recorded it.
    pub torch: String,
}

/// What was run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelId {
    /// SHA-256 of the converted config.json, where known.
    #[serde(default)]
    pub config_sha256: Option<String>,
    /// The hash of the converted weights, as the conversion's manifest gives it.
    pub weights_hash: String,
    /// `mlx-vlm` or `split`.
    pub layout: String,
    /// The recipe that converted it.
    pub recipe: String,
}

/// The recording that was judged, where two recordings were compared and nothing was run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The directory's name.
    pub name: String,
    /// SHA-256 of manifest.json, lower-case hex.
    pub manifest_sha256: String,
    /// Framework and version that recorded it.
    pub made_by: String,
    /// Points that only it has, under the reference's names; no verdict depends on them.
    pub only_there: Vec<TapId>,
}

/// A recorded point that was not compared, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotCompared {
    /// The PyTorch module's path.
    pub point: String,
    /// The how-manieth call, from 0.
    pub call: u32,
    /// `in`, `in1`, … or `out`.
    pub kind: String,
    /// In which mode; none: in no mode.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// Why, in words that many points share: reports count by them.
    pub reason: String,
}

impl NotCompared {
    /// Which tensor this is.
    #[must_use]
    pub fn id(&self) -> TapId {
        TapId { point: self.point.clone(), call: self.call, kind: self.kind.clone() }
    }
}

/// A whole parity run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Who made the record.
    pub tool: Tool,
    /// Where the port ran.
    pub environment: Environment,
    /// What it was compared with.
    pub fixture: FixtureId,
    /// What was run.
    pub model: ModelId,
    /// The recording that was judged, where nothing was run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate>,
    /// The modes that were asked for.
    pub modes: Vec<Mode>,
    /// How many floors were allowed.
    #[serde(with = "nonfinite")]
    pub k: f64,
    /// The verdict and its counts; follows from everything below.
    pub summary: Summary,
    /// Every tap, in execution order (within each mode).
    pub taps: Vec<TapRecord>,
    /// Every recorded point that was not compared, in execution order.
    pub not_compared: Vec<NotCompared>,
}

impl Run {
    /// Fills in amplifications, growth (of recordings) and the summary from the taps: the last step of making a record.
    #[must_use]
    pub fn concluded(mut self, points: Points) -> Self {
        fill_amplification(&mut self.taps);
        if self.candidate.is_some() {
            fill_growth(&mut self.taps);
        }
        self.summary = Summary::of(&self.modes, &self.taps, &self.not_compared, points);
        self
    }
}
