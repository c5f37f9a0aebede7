//! A whole parity run: tool, environment, fixture, model, every tap, the summary. What `record.json` holds.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::amplification::fill_amplification;
use crate::coverage::Coverage;
use crate::growth::fill_growth;
use crate::nonfinite;
use crate::record::{Mode, TapId, TapRecord};
use crate::summary::{Points, Summary, Verdict};

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
    /// The compute dtype, and how weights are packed: `f32`, `bf16`, `bf16+affine-4-64` (bits, group size).
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
    /// How much of the reference the verdict rests on, where that was asked for (`check`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
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

/// Which share of the isolated mode's modules a run was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// From 1.
    pub index: u32,
    /// How many shares there are.
    pub count: u32,
}

impl std::str::FromStr for Shard {
    type Err = String;

    /// Reads `K/N`, 1 ≤ K ≤ N.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse =
            |(index, count): (&str, &str)| Some(Self { index: index.parse().ok()?, count: count.parse().ok()? });
        let shard = text.split_once('/').and_then(parse);
        shard
            .filter(|s| (1..=s.count).contains(&s.index))
            .ok_or_else(|| format!("expected K/N with 1 ≤ K ≤ N, found {text:?}"))
    }
}

impl Shard {
    /// Which of `len` things in a row are this share: every thing is in one.
    #[must_use]
    pub fn range(self, len: usize) -> std::ops::Range<usize> {
        let cut = |part: u32| (len as u128 * u128::from(part) / u128::from(self.count.max(1))) as usize;
        cut(self.index - 1)..cut(self.index)
    }
}

/// The lockfile that a run was judged by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockUse {
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
    /// Taps that it allows far more than today's floors ask for: see [`crate::lock::STALE`].
    pub stale: usize,
}

/// Repeated runs of the same model on the same input, compared bit for bit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeats {
    /// How often it was run, this record's run included.
    pub count: u32,
    /// The taps whose metrics were not the same in all of them.
    pub disagreeing: Vec<RepeatedTap>,
}

/// A tap that was not the same in every repeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepeatedTap {
    /// Which tensor.
    #[serde(flatten)]
    pub id: TapId,
    /// In which mode.
    pub mode: Mode,
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
    /// Which share of the modules this run was about; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// The lockfile it was judged by, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<LockUse>,
    /// Repeated runs, if there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeats: Option<Repeats>,
    /// Every tap, in execution order (within each mode).
    pub taps: Vec<TapRecord>,
    /// Every recorded point that was not compared, in execution order.
    pub not_compared: Vec<NotCompared>,
}

impl Run {
    /// Fills in amplifications, growth (of recordings) and the summary from the taps, and keeps the details that are worth it: the
    /// last step of making a record.
    #[must_use]
    pub fn concluded(mut self, points: Points) -> Self {
        fill_amplification(&mut self.taps);
        crate::detail::keep(&mut self.taps);
        if self.candidate.is_some() {
            fill_growth(&mut self.taps);
        }
        self.summary = self.summed(points);
        self
    }

    /// How many points the recording has, and how many the port can produce.
    #[must_use]
    pub fn points(&self) -> Points {
        Points { recorded: self.summary.points_recorded, mapped: self.summary.points_mapped }
    }

    /// The summary that follows from everything else. Repeats that disagree are a verdict of their own, whatever each said.
    #[must_use]
    pub fn summed(&self, points: Points) -> Summary {
        let mut summary = Summary::of(&self.modes, &self.taps, &self.not_compared, points);
        let coverage = self.candidate.as_ref().and_then(|candidate| candidate.coverage.as_ref());
        if summary.verdict == Verdict::Pass && coverage.is_some_and(|coverage| !coverage.is_complete()) {
            summary.verdict = Verdict::Incomplete;
        }
        if self.repeats.as_ref().is_some_and(|repeats| !repeats.disagreeing.is_empty()) {
            summary.verdict = Verdict::Nondeterministic;
        }
        summary
    }

    /// Adds what a repeat of the same run gave: taps that are not the same are noted. A repeat that fails where this one passed
    /// takes its place: a failure is never retried away.
    #[must_use]
    pub fn repeated(self, again: Self) -> Self {
        let points = self.points();
        let mut repeats = self.repeats.clone().unwrap_or(Repeats { count: 1, disagreeing: Vec::new() });
        repeats.count += 1;
        let name = |tap: &TapRecord| RepeatedTap { id: tap.id(), mode: tap.mode };
        let text = |tap: &TapRecord| serde_json::to_string(tap).unwrap_or_default();
        let mut others: HashMap<_, _> = again.taps.iter().map(|tap| ((tap.id(), tap.mode), text(tap))).collect();
        let mut differ: Vec<RepeatedTap> = Vec::new();
        for tap in &self.taps {
            if others.remove(&(tap.id(), tap.mode)).as_ref() != Some(&text(tap)) {
                differ.push(name(tap));
            }
        }
        differ.extend(again.taps.iter().filter(|tap| others.contains_key(&(tap.id(), tap.mode))).map(name));
        for tap in differ {
            if !repeats.disagreeing.contains(&tap) {
                repeats.disagreeing.push(tap);
            }
        }
        let failed = |run: &Self| run.taps.iter().any(|tap| !tap.passed());
        let mut kept = if failed(&again) && !failed(&self) { again } else { self };
        kept.repeats = Some(repeats);
        kept.summary = kept.summed(points);
        kept
    }
}
