//! The whole of an audit: headers, expectations, content, what was left out, config, verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use globset::{Glob, GlobSet, GlobSetBuilder};
use mlxport_convert::checkpoint::{Checkpoint, Scan, TensorSource};
use mlxport_convert::error::{ConvertError, Violation, ViolationKind, Violations};
use serde_json::Value;

use crate::config;
use crate::dropped;
use crate::expect::Release;
use crate::explain::{Known, Outcome, experts};
use crate::finish::finish;
use crate::judge::{Judged, Suspect, judge};
use crate::names::{self, Lookup};
use crate::report::{Finding, Report, SCHEMA, Severity, TensorVerdict, merged};
use crate::request::{Request, window};
use crate::search::{Lost, origin, search, searchable};
use crate::target::{Format, Target, targets};
use crate::verify::Pair;

/// Audits a conversion.
///
/// # Errors
/// What keeps any verdict from being given: no such directory, files that cannot be read, a broken header, a config that is no JSON.
pub fn audit(request: &Request) -> Result<Report, ConvertError> {
    let globs = globs(&request.may_drop)?;
    let (mlx_scan, release_scan) = (Checkpoint::scan(&request.mlx)?, Checkpoint::scan(&request.release)?);
    let mut findings = sound(mlx_scan.violations.clone())?;
    ConvertError::unless_empty(release_scan.violations.clone())?;
    findings.extend(stray_files(&request.mlx, &mlx_scan));
    let notes: Vec<String> = mlx_scan.notes.iter().chain(&release_scan.notes).cloned().collect();
    let (mlx, checkpoint) = (mlx_scan.checkpoint, release_scan.checkpoint);
    let (mlx_config, release_config) = (config::read(mlx.root())?, config::read(checkpoint.root())?);
    let lookup = Lookup::new(checkpoint.tensors().keys());
    let plan = crate::recipes::plan(request)?;
    let release = Release { checkpoint: &checkpoint, config: &release_config, lookup: &lookup, plan: plan.as_ref() };
    let pair = Pair { mlx: &mlx, release: &checkpoint, window: window(request.memory) };
    let (mut targets, more) = targets(&mlx, &mlx_config, &checkpoint, &lookup);
    findings.extend(more);
    let mut judged = judge(&pair, &release, &mut targets)?;
    findings.extend(concerns(&targets, &judged));
    findings.extend(explained(&pair, &targets, &mut judged, config::head_len(&release_config))?);
    findings.extend(sizes(&targets, &judged, &release_config, &mlx_config));
    findings.extend(crate::policy::findings(&targets, &release_config));
    let left = dropped::Left {
        release: &release,
        mlx_config: &mlx_config,
        targets: &targets,
        judged: &judged,
        may_drop: &globs,
    };
    let (dropped, missing) = left.judge(&pair, &findings)?;
    findings.extend(missing);
    let written = plan.as_ref().map(|plan| &plan.config);
    findings.extend(config::findings(&release_config, &mlx_config, written, &dropped));
    changed(&mlx)?;
    changed(&checkpoint)?;
    let findings = merged(findings);
    let worst = findings.iter().map(|finding| finding.severity).max();
    let fails = worst == Some(Severity::Fault) || request.strict && worst.is_some();
    let byte_len = mlx.files().iter().chain(checkpoint.files()).map(|file| file.byte_len).sum();
    let matches = verdicts(&targets, &judged, &findings);
    Ok(Report {
        schema: SCHEMA,
        verdict: if fails { "fail" } else { "pass" },
        mlx: request.names.0.clone(),
        release: request.names.1.clone(),
        tensors: counted(&matches, dropped.len()),
        quantization: quantizations(&targets),
        findings,
        matches,
        dropped,
        byte_len,
        notes,
    })
}

fn globs(patterns: &[String]) -> Result<GlobSet, ConvertError> {
    let mut builder = GlobSetBuilder::new();
    let wrong = |pattern: &str, error: String| {
        let violation =
            Violation::new(ViolationKind::Unsupported, "--may-drop", "a glob of keys", format!("{pattern}: {error}"));
        ConvertError::Violations(Violations(vec![violation]))
    };
    for pattern in patterns {
        builder.add(Glob::new(pattern).map_err(|error| wrong(pattern, error.to_string()))?);
    }
    builder.build().map_err(|error| wrong("", error.to_string()))
}

/// Contradictions between index and shards are findings; whatever keeps files from being read is an error.
fn sound(violations: Vec<Violation>) -> Result<Vec<Finding>, ConvertError> {
    let listed = |violation: &Violation| {
        matches!(violation.kind, ViolationKind::IndexMismatch | ViolationKind::DuplicateKey)
            || violation.kind == ViolationKind::MissingFile && violation.place.ends_with(".safetensors")
    };
    let (findings, errors): (Vec<Violation>, Vec<Violation>) = violations.into_iter().partition(listed);
    ConvertError::unless_empty(errors)?;
    let finding = |violation: Violation| {
        let detail = format!("index and shards disagree: expected {}, found {}", violation.expected, violation.found);
        Finding::new("index", Severity::Fault, detail).at([violation.place]).grouped(violation.kind.to_string())
    };
    Ok(findings.into_iter().map(finding).collect())
}

/// Weight files that the index does not name: loaders that take every `model*.safetensors` read them all the same.
fn stray_files(root: &Path, scan: &Scan) -> Vec<Finding> {
    let known: BTreeSet<&str> = scan.checkpoint.files().iter().map(|file| file.name.as_str()).collect();
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let names = entries.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned());
    let stray = names
        .filter(|name| name.starts_with("model") && name.ends_with(".safetensors") && !known.contains(name.as_str()));
    let finding = |name: String| {
        let detail = "a weight file that the index does not name; mlx-lm reads every model*.safetensors";
        Finding::new("stray-file", Severity::Fault, detail).at([name])
    };
    stray.map(finding).collect()
}

fn changed(checkpoint: &Checkpoint) -> Result<(), ConvertError> {
    let files = checkpoint.changed_files()?;
    if files.is_empty() { Ok(()) } else { Err(ConvertError::SourceChanged { files }) }
}

/// Values that are where they belong, but lie otherwise than the port takes them.
fn concerns(targets: &[Target], judged: &[Judged]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (target, judged) in targets.iter().zip(judged) {
        let Some(concern) = judged.concern else { continue };
        let (kind, severity, detail) = match concern {
            "conv-not-transposed" => (
                "conv-not-transposed",
                Severity::Note,
                "a convolution's axes are as PyTorch has them, channels not last; mlx-lm and mlx-vlm turn them when they load",
            ),
            "conv-axes" => {
                ("conv-axes", Severity::Fault, "a convolution's axes are in an order that neither PyTorch nor MLX has")
            }
            "transposed" => ("transposed", Severity::Fault, "the tensor is transposed"),
            _ => ("reshaped", Severity::Note, "the same values under another shape"),
        };
        findings.push(Finding::new(kind, severity, detail).at(target.keys.clone()).from(judged.sources.clone()));
    }
    findings
}

/// Everything about suspects: causes, origins, the rest.
fn explained(
    pair: &Pair<'_>,
    targets: &[Target],
    judged: &mut [Judged],
    head: Option<u64>,
) -> Result<Vec<Finding>, ConvertError> {
    let mut findings = Vec::new();
    let (mut open, mut calibrated): (Vec<Suspect>, Vec<Suspect>) = (Vec::new(), Vec::new());
    for suspect in judged.iter().flat_map(|judged| &judged.suspects) {
        let target = &targets[suspect.target];
        match &suspect.cause {
            None => open.push(suspect.clone()),
            Some(cause) => {
                let sources = suspect.piece.iter().flat_map(|piece| piece.sources.clone());
                let keys = differing_keys(target, suspect);
                findings.push(
                    Finding::new(cause.kind, cause.severity, cause.detail.clone())
                        .at(keys)
                        .from(sources)
                        .grouped(&cause.group),
                );
                if matches!(cause.kind, "calibrated" | "quantized-otherwise") {
                    calibrated.push(suspect.clone());
                }
            }
        }
    }
    open.retain(|suspect| searchable(&targets[suspect.target]));
    let lost: Vec<Lost<'_>> =
        open.iter().map(|s| Lost { target: &targets[s.target], first: s.first, len: s.len }).collect();
    let (places, found) = if lost.is_empty() { Default::default() } else { search(pair, &lost)? };
    let origins: Vec<_> = open
        .iter()
        .zip(&found)
        .map(|(suspect, found)| {
            let expected: Vec<&String> = suspect.piece.iter().flat_map(|piece| &piece.sources).collect();
            let name = &targets[suspect.target].name;
            origin(found, &places, &|place| {
                let same_layer = names::indices(&place.key) == names::indices(name);
                4 * i32::from(expected.contains(&&place.key))
                    + 2 * i32::from(same_layer)
                    + i32::from(place.order.is_none())
            })
        })
        .collect();
    let snapshot = judged.to_vec();
    let known =
        Known { targets, judged: &snapshot, suspects: &open, origins: &origins, found: &found, places: &places, head };
    let (grouped, mut orders) = (stacks(&known), BTreeMap::new());
    let mut done = BTreeSet::new();
    for at in grouped.values() {
        if let Some((finding, order)) = experts(&known, at) {
            orders.insert(targets[open[at[0]].target].name.clone(), order);
            findings.push(finding);
            done.extend(at.iter().copied());
        }
    }
    let mut left = Vec::new();
    for at in (0..open.len()).filter(|at| !done.contains(at)) {
        match known.explain(at) {
            Outcome::Finding(finding) => findings.push(finding),
            Outcome::Renamed(how, keys) => {
                let judged = &mut judged[open[at].target];
                (judged.how, judged.sources) = (how.to_owned(), keys);
                judged.suspects.clear();
            }
            Outcome::Unknown => left.push(open[at].clone()),
        }
    }
    findings.extend(finish(pair, targets, &left, &calibrated)?);
    crate::equivalent::renumbered_experts(&known, &orders, &mut findings);
    Ok(findings)
}

/// Suspects of stacks of experts, by target.
fn stacks(known: &Known<'_>) -> BTreeMap<usize, Vec<usize>> {
    let mut all: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, suspect) in known.suspects.iter().enumerate() {
        if suspect.piece.as_ref().is_some_and(|piece| piece.expert.is_some()) {
            all.entry(suspect.target).or_default().push(at);
        }
    }
    all
}

/// The parts of a packed module that are not MLX's own; of a plain tensor its key.
fn differing_keys(target: &Target, suspect: &Suspect) -> Vec<String> {
    let parts = suspect.stats.as_ref().map_or([true; 3], |stats| stats.parts);
    if !target.is_packed() || !parts.contains(&true) {
        return target.keys.clone();
    }
    target.keys.iter().zip(parts).filter(|(_, differs)| *differs).map(|(key, _)| key.clone()).collect()
}

/// Tables with more or fewer rows than the release's.
fn sizes(targets: &[Target], judged: &[Judged], release: &Value, mlx: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (target, judged) in targets.iter().zip(judged) {
        let Some((had, has)) = judged.rows.filter(|_| judged.suspects.is_empty()) else { continue };
        let same_config = config::vocab(release) == config::vocab(mlx);
        let (kind, severity, what) = match has > had {
            true if !same_config => ("padded", Severity::Minor, "rows were added, and the config says so"),
            true => ("padded", Severity::Fault, "rows were added, and the config does not say so"),
            false => ("cut", Severity::Fault, "rows are missing at the end"),
        };
        let detail = format!("{what}: {has} rows, the release has {had}");
        findings.push(Finding::new(kind, severity, detail).at(target.keys.clone()).from(judged.sources.clone()));
    }
    findings
}

fn verdicts(targets: &[Target], judged: &[Judged], findings: &[Finding]) -> Vec<TensorVerdict> {
    let mut of: BTreeMap<&String, &str> = BTreeMap::new();
    for finding in findings.iter().rev() {
        for key in &finding.keys {
            of.insert(key, &finding.kind);
        }
    }
    let verdict = |(target, judged): (&Target, &Judged)| {
        let found = target.keys.iter().find_map(|key| of.get(key).copied());
        let verdict = if judged.how.is_empty() { found.unwrap_or("not-judged") } else { &judged.how };
        TensorVerdict { name: target.name.clone(), verdict: verdict.to_owned(), sources: judged.sources.clone() }
    };
    targets.iter().zip(judged).map(verdict).collect()
}

fn counted(matches: &[TensorVerdict], dropped: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::from([("total".to_owned(), matches.len()), ("dropped".to_owned(), dropped)]);
    let good = ["exact", "cast", "moved", "stacked", "split", "joined", "tied", "quantized", "computed"];
    for one in matches {
        *counts.entry(one.verdict.clone()).or_default() += 1;
        *counts.entry("matched".to_owned()).or_default() += usize::from(good.contains(&one.verdict.as_str()));
    }
    counts
}

fn quantizations(targets: &[Target]) -> Vec<String> {
    let mut all: BTreeMap<String, usize> = BTreeMap::new();
    for target in targets {
        if let Format::Packed { q, .. } = target.format {
            *all.entry(format!("{}, {} bits, groups of {}", q.mode(), q.bits(), q.group_size())).or_default() += 1;
        }
    }
    all.into_iter().map(|(name, count)| format!("{name}: {count} modules")).collect()
}
