//! Every target against its expectation, in parallel: what holds, and what is left to be explained.

use mlxport_convert::checkpoint::Checkpoint;
use mlxport_convert::error::ConvertError;
use rayon::prelude::*;
use safetensors::Dtype;

use crate::cause::{Cause, cause};
use crate::expect::{Expectation, Piece, Release};
use crate::stats::Stats;
use crate::target::{Format, Target};
use crate::verify::Pair;

/// What a target turned out to be.
#[derive(Debug, Clone)]
pub struct Judged {
    /// How it is made: `exact`, `cast`, `moved`, …; empty where it is not explained yet.
    pub how: String,
    /// The release's keys it is made of, or should be.
    pub sources: Vec<String>,
    /// What is wrong although its values are found where they belong.
    pub concern: Option<&'static str>,
    /// Runs that are not what they should be.
    pub suspects: Vec<Suspect>,
    /// Rows that it has more or fewer than the release's tensor.
    pub rows: Option<(u64, u64)>,
}

/// A run that is not what its name says.
#[derive(Debug, Clone)]
pub struct Suspect {
    /// Which target.
    pub target: usize,
    /// What it should be made of, where its name says.
    pub piece: Option<Piece>,
    /// The first value.
    pub first: u64,
    /// How many.
    pub len: u64,
    /// What the port adds to its values.
    pub shift: f32,
    /// Whether the expectation has the axes as the release stores them.
    pub order: Vec<usize>,
    /// How far it is from what it should be.
    pub stats: Option<Stats>,
    /// What was done to it, where the counts show it.
    pub cause: Option<Cause>,
}

/// All targets, in their order. Formats of packed targets whose values' dtype is not stored are settled on the way.
///
/// # Errors
/// Where a file cannot be read.
pub fn judge(pair: &Pair<'_>, release: &Release<'_>, targets: &mut [Target]) -> Result<Vec<Judged>, ConvertError> {
    targets.par_iter_mut().enumerate().map(|(at, target)| one(pair, release, at, target)).collect()
}

fn one(pair: &Pair<'_>, release: &Release<'_>, at: usize, target: &mut Target) -> Result<Judged, ConvertError> {
    let ways = release.expectations(target);
    for way in &ways {
        if let Some(format) = holding_format(pair, target, way)? {
            target.format = format;
            return Ok(held(release.checkpoint, target, way));
        }
    }
    if ways.is_empty() {
        return sized(pair, release, at, target);
    }
    let way = best(pair, target, &ways)?;
    let mut judged =
        Judged { how: String::new(), sources: sources(&way), concern: None, suspects: Vec::new(), rows: None };
    for piece in &way.pieces {
        if way.pieces.len() > 1 && pair.holds(target, piece, way.shift)? {
            continue;
        }
        judged.suspects.push(suspect(pair, at, target, piece, way.shift)?);
    }
    Ok(judged)
}

fn suspect(pair: &Pair<'_>, at: usize, target: &Target, piece: &Piece, shift: f32) -> Result<Suspect, ConvertError> {
    let stats = pair.stats(target, piece, shift)?;
    let mut cause = stats.as_ref().and_then(|stats| cause(target, stats));
    if shift != 0.0 && cause.as_ref().is_some_and(|cause| cause.kind == "shifted") {
        let detail = "the port's own one is missing or was added twice";
        cause = Some(Cause::new("shifted", crate::report::Severity::Fault, detail));
    }
    Ok(Suspect {
        target: at,
        piece: Some(piece.clone()),
        first: piece.first,
        len: piece.len,
        shift,
        order: order_of(piece),
        stats,
        cause,
    })
}

/// How a piece's view goes through the stored axes: descending strides are as stored.
fn order_of(piece: &Piece) -> Vec<usize> {
    let Some(view) = piece.assembly.views.first() else { return Vec::new() };
    let strides: Vec<u64> = view.axes.iter().filter(|axis| axis.len > 1).map(|axis| axis.stride).collect();
    let mut sorted: Vec<usize> = (0..strides.len()).collect();
    sorted.sort_by_key(|&at| std::cmp::Reverse(strides[at]));
    let mut order = vec![0; sorted.len()];
    for (place, &at) in sorted.iter().enumerate() {
        order[at] = place;
    }
    order
}

/// The format in which a way holds for the whole target. Modes whose scales have a byte do not say which dtype was packed.
pub(crate) fn holding_format(
    pair: &Pair<'_>,
    target: &Target,
    way: &Expectation,
) -> Result<Option<Format>, ConvertError> {
    let formats: Vec<Format> = match target.format {
        Format::Packed { q, values } if !q.has_biases() => {
            let others = [Dtype::BF16, Dtype::F32, Dtype::F16].into_iter().filter(|&dtype| dtype != values);
            [values].into_iter().chain(others).map(|values| Format::Packed { q, values }).collect()
        }
        format => vec![format],
    };
    for format in formats {
        let tried = Target { format, ..target.clone() };
        let mut holds = true;
        for piece in &way.pieces {
            holds = holds && pair.holds(&tried, piece, way.shift)?;
            if !holds {
                break;
            }
        }
        if holds {
            return Ok(Some(format));
        }
    }
    Ok(None)
}

fn sources(way: &Expectation) -> Vec<String> {
    way.pieces.iter().flat_map(|piece| piece.sources.clone()).collect()
}

fn held(release: &Checkpoint, target: &Target, way: &Expectation) -> Judged {
    let sources = sources(way);
    let stored = sources
        .first()
        .and_then(|key| mlxport_convert::checkpoint::TensorSource::tensors(release).get(key).map(|info| info.dtype));
    let same = matches!(target.format, Format::Plain(dtype) if Some(dtype) == stored);
    let how = match way.how {
        _ if way.shift != 0.0 => "computed",
        "same" if target.is_packed() => "quantized",
        "same" if same => "exact",
        "same" => "cast",
        other => other,
    };
    Judged { how: how.to_owned(), sources, concern: way.concern, suspects: Vec::new(), rows: None }
}

/// Of several ways that do not hold, the one whose values are nearest.
fn best(pair: &Pair<'_>, target: &Target, ways: &[Expectation]) -> Result<Expectation, ConvertError> {
    let fitting: Vec<&Expectation> = ways.iter().filter(|way| way.concern.is_none()).collect();
    let fitting = if fitting.is_empty() { ways.iter().collect() } else { fitting };
    let mut best: Option<(f64, &Expectation)> = None;
    if fitting.len() > 1 {
        for way in fitting.iter().take(6) {
            let mut piece = way.pieces[0].clone();
            let whole = piece.assembly.len() == piece.len && piece.len <= 1 << 24;
            if !whole {
                continue;
            }
            piece.raw = None;
            let near = pair.stats(target, &piece, way.shift)?.map_or(0.0, |stats| stats.correlation());
            if best.is_none_or(|(most, _)| near > most + 1e-6) {
                best = Some((near, way));
            }
        }
    }
    Ok(best.map_or(fitting[0], |(_, way)| way).clone())
}

/// No expectation fits: perhaps the release's tensor has more rows, or fewer.
fn sized(pair: &Pair<'_>, release: &Release<'_>, at: usize, target: &Target) -> Result<Judged, ConvertError> {
    let lost = |first, len| Suspect {
        target: at,
        piece: None,
        first,
        len,
        shift: 0.0,
        order: Vec::new(),
        stats: None,
        cause: None,
    };
    let mut judged = Judged {
        how: String::new(),
        sources: Vec::new(),
        concern: None,
        suspects: vec![lost(0, target.len())],
        rows: None,
    };
    let mut keys: Vec<String> = release.lookup.find(&target.name).into_iter().map(str::to_owned).collect();
    if keys.is_empty() && crate::names::is_head(&target.name) {
        let tensors = mlxport_convert::checkpoint::TensorSource::tensors(release.checkpoint);
        keys.extend(tensors.keys().filter(|key| crate::names::is_embedding(key)).cloned());
    }
    for key in keys {
        let Some(view) = release.whole(&key) else { continue };
        let shape: Vec<u64> = view.axes.iter().map(|axis| axis.len).collect();
        if shape.len() != target.shape.len() || shape.len() < 2 || shape[1..] != target.shape[1..] {
            continue;
        }
        let rows = shape[0].min(target.shape[0]);
        let len = rows * target.shape[1..].iter().product::<u64>();
        let view = view.narrowed(0, 0, rows);
        let assembly = mlxport_convert::transforms::Assembly::of(view);
        let piece = Piece { first: 0, len, assembly, raw: None, sources: vec![key.clone()], expert: None };
        judged.sources = vec![key.clone()];
        if pair.holds(target, &piece, 0.0)? {
            judged.rows = Some((shape[0], target.shape[0]));
            judged.suspects.clear();
        } else {
            judged.rows = Some((shape[0], target.shape[0]));
            judged.suspects = vec![suspect(pair, at, target, &piece, 0.0)?];
        }
    }
    Ok(judged)
}
