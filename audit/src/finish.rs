//! What is left over, judged together: factors that come back elsewhere, scales of other modules, merged adapters, other values.

use std::collections::BTreeMap;

use mlxport_convert::error::ConvertError;
use rayon::prelude::*;

use crate::explain::relation;
use crate::fold::{Fold, changes, fold, undo};
use crate::judge::Suspect;
use crate::names;
use crate::report::{Finding, Severity};
use crate::rest::{Halves, added_rank, halves, nearest, unpacked_from};
use crate::target::Target;
use crate::verify::Pair;

/// Findings about suspects that nothing explained so far. `calibrated` are those whose packed values are a little off: they may share in
/// factors that were moved about.
///
/// # Errors
/// Where a file cannot be read.
pub fn finish(
    pair: &Pair<'_>,
    targets: &[Target],
    left: &[Suspect],
    calibrated: &[Suspect],
) -> Result<Vec<Finding>, ConvertError> {
    let (folded, mut findings) = folds(pair, targets, left, calibrated)?;
    let open: Vec<&Suspect> = left.iter().enumerate().filter(|(at, _)| !folded.contains(at)).map(|(_, s)| s).collect();
    let (paired, more) = foreign_scales(pair, targets, &open)?;
    findings.extend(more);
    let open: Vec<&Suspect> = open.iter().enumerate().filter(|(at, _)| !paired.contains(at)).map(|(_, s)| *s).collect();
    let near: Vec<Option<(String, bool, f64)>> = open
        .par_iter()
        .map(|suspect| nearest(pair, &targets[suspect.target], suspect.first, suspect.len))
        .collect::<Result<_, _>>()?;
    for (at, suspect) in open.iter().enumerate() {
        let target = &targets[suspect.target];
        let finding = match (by_neighbour(suspect, &near, &open, at), &suspect.piece) {
            (Some(finding), _) => finding,
            (None, Some(piece)) => by_itself(pair, target, suspect, piece)?,
            (None, None) => {
                let detail = "nothing in the release has these values, and no name there fits";
                Finding::new("not-from-release", Severity::Fault, detail)
            }
        };
        let sources = suspect.piece.iter().flat_map(|piece| piece.sources.clone());
        findings.push(finding.at(target.keys.clone()).from(sources));
    }
    Ok(findings)
}

/// Near another tensor's values, though not bit for bit.
fn by_neighbour(
    suspect: &Suspect,
    near: &[Option<(String, bool, f64)>],
    open: &[&Suspect],
    at: usize,
) -> Option<Finding> {
    let (key, turned, how) = near[at].as_ref()?;
    let expected: Vec<&String> = suspect.piece.iter().flat_map(|piece| &piece.sources).collect();
    let own = expected.contains(&key);
    if own && !turned {
        return None;
    }
    let detail = |what: &str| format!("{what} (by values: correlation {how:.4}, not bit for bit)");
    if own {
        return Some(Finding::new("transposed", Severity::Fault, detail("the tensor is transposed")).grouped("near"));
    }
    let Some(first) = expected.first() else {
        let finding = Finding::new("near", Severity::Fault, detail(&format!("values near those of {key}")));
        return Some(finding.grouped("near").from([key.clone()]));
    };
    let relation = relation(first, key);
    let mutual = open.iter().zip(near).any(|(other, near)| {
        other.piece.as_ref().is_some_and(|piece| piece.sources.contains(key))
            && near.as_ref().is_some_and(|(near, ..)| expected.contains(&near))
    });
    let kind = if mutual { "swapped" } else { "misplaced" };
    let finding = Finding::new(kind, Severity::Fault, detail(&relation)).grouped(format!("{kind} {relation}"));
    Some(finding.from([key.clone()]))
}

/// The release's own tensor is nearest, or nothing is.
fn by_itself(
    pair: &Pair<'_>,
    target: &Target,
    suspect: &Suspect,
    piece: &crate::expect::Piece,
) -> Result<Finding, ConvertError> {
    let Some(stats) = &suspect.stats else {
        let detail = "the values are not the release's (they cannot be held against each other as numbers)";
        return Ok(Finding::new("stale", Severity::Fault, detail));
    };
    let near = stats.correlation();
    if near > 0.7
        && let Some(q) = unpacked_from(pair, target, piece)?
    {
        let detail = format!(
            "values that were packed ({}, {} bits, groups of {}) and unpacked again are stored as {}",
            q.mode(),
            q.bits(),
            q.group_size(),
            "plain numbers"
        );
        return Ok(Finding::new("dequantized", Severity::Fault, detail));
    }
    if near > 0.3
        && let Some(rank) = added_rank(pair, target, piece)?
    {
        let detail = format!("a matrix of rank about {rank} or less was added: a merged adapter (LoRA)");
        return Ok(Finding::new("lora-merged", Severity::Fault, detail).grouped("lora"));
    }
    let error = 100.0 * stats.relative_error();
    if target.is_packed() && near > 0.5 {
        let detail = format!(
            "the packed values are {:.1} × as far from the release's as MLX's own quantizer leaves them ({error:.1} % off, {} of {} groups damaged)",
            stats.ratio(),
            stats.bad_groups,
            stats.groups
        );
        return Ok(Finding::new("quantization-error", Severity::Fault, detail).grouped("quantization-error"));
    }
    let (detail, group) = if near > 0.5 {
        (
            format!(
                "other values near the release's: {error:.2} % off, correlation {near:.3} (another revision, or tuned further)"
            ),
            "near",
        )
    } else {
        (format!("values unrelated to the release's (correlation {near:.3})"), "unrelated")
    };
    Ok(Finding::new("stale", Severity::Fault, detail).grouped(group))
}

/// Factors per channel. Returns which of `left` they explain.
fn folds(
    pair: &Pair<'_>,
    targets: &[Target],
    left: &[Suspect],
    calibrated: &[Suspect],
) -> Result<(Vec<usize>, Vec<Finding>), ConvertError> {
    let all: Vec<&Suspect> = left.iter().chain(calibrated).collect();
    let fitted: Vec<Option<Fold>> = all
        .par_iter()
        .map(|suspect| {
            let (Some(piece), Some(stats)) = (&suspect.piece, &suspect.stats) else { return Ok(None) };
            let near = stats.correlation() > 0.5 || targets[suspect.target].shape.len() < 2;
            if !near || suspect.shift != 0.0 {
                return Ok(None);
            }
            let ideal = if stats.ss > 0.0 { (stats.ideal / stats.ss).sqrt() } else { 0.0 };
            fold(pair, &targets[suspect.target], piece, ideal)
        })
        .collect::<Result<_, ConvertError>>()?;
    let layer = |at: usize| names::indices(&targets[all[at].target].name).first().copied();
    let norm = |at: usize| targets[all[at].target].shape.len() < 2;
    let with_fold: Vec<usize> = (0..all.len()).filter(|&at| fitted[at].is_some()).collect();
    // A vector times anything is a vector: norms count only where some matrix undoes them.
    let mut undone = vec![(false, false); all.len()];
    for &one in &with_fold {
        let Some(of) = &fitted[one] else { continue };
        for &other in with_fold.iter().filter(|&&other| other != one && layer(other) == layer(one)) {
            let Some(by) = &fitted[other] else { continue };
            match (norm(one), norm(other)) {
                (true, false) if undo(&of.columns, &by.columns) && changes(&of.columns) => {
                    undone[one].1 = true;
                    undone[other].1 = true;
                }
                (false, false) if undo(&of.rows, &by.columns) && changes(&of.rows) => {
                    undone[one].0 = true;
                    undone[other].1 = true;
                }
                _ => {}
            }
        }
    }
    let mut explained = Vec::new();
    let mut findings = Vec::new();
    for &at in with_fold.iter().filter(|&&at| at < left.len()) {
        let Some(fold) = &fitted[at] else { continue };
        let (rows, columns) = (!norm(at) && changes(&fold.rows), changes(&fold.columns));
        let kept = (!rows || undone[at].0) && (!columns || undone[at].1);
        if norm(at) && !undone[at].1 {
            continue;
        }
        let (severity, kind, detail) = if kept {
            let detail = "factors per channel were moved from one tensor into the next, and each comes back: as AWQ does, the function is kept";
            (Severity::Note, "calibrated", detail)
        } else {
            (Severity::Fault, "channels-scaled", "channels are scaled, and no other tensor takes the factors back")
        };
        explained.push(at);
        let target = &targets[all[at].target];
        let sources = all[at].piece.iter().flat_map(|piece| piece.sources.clone());
        findings.push(Finding::new(kind, severity, detail).at(target.keys.clone()).from(sources));
    }
    Ok((explained, findings))
}

/// Codes and scales that are each right, but not of one module. Returns which of `open` that explains.
fn foreign_scales(
    pair: &Pair<'_>,
    targets: &[Target],
    open: &[&Suspect],
) -> Result<(Vec<usize>, Vec<Finding>), ConvertError> {
    let all: Vec<Option<Halves>> = open
        .par_iter()
        .map(|suspect| suspect.piece.as_ref().map_or(Ok(None), |piece| halves(pair, &targets[suspect.target], piece)))
        .collect::<Result<_, _>>()?;
    let (mut scales_of, mut codes_of) = (BTreeMap::new(), BTreeMap::new());
    for (at, halves) in all.iter().enumerate() {
        if let Some(halves) = halves {
            codes_of.insert(halves.wanted.0, at);
            scales_of.insert(halves.wanted.1, at);
        }
    }
    let (mut explained, mut findings) = (Vec::new(), Vec::new());
    for (at, halves) in all.iter().enumerate() {
        let Some(halves) = halves else { continue };
        let (codes, scales) = (halves.is.0 == halves.wanted.0, halves.is.1 == halves.wanted.1);
        let (target, name) = (&targets[open[at].target], |at: usize| targets[open[at].target].name.clone());
        let finding = match (codes, scales) {
            (true, false) => {
                let other = scales_of.get(&halves.is.1).filter(|&&other| other != at);
                let (detail, group) = match other {
                    Some(&other) => {
                        let relation = relation(&target.name, &name(other));
                        (format!("codes are right, scales and biases are another module's: {relation}"), relation)
                    }
                    None if halves.rolled => (
                        "codes are right, scales or biases are moved along by one group".to_owned(),
                        "rolled".to_owned(),
                    ),
                    None => ("codes are right, scales or biases are not theirs".to_owned(), "scales".to_owned()),
                };
                Finding::new("scales", Severity::Fault, detail).at(target.keys[1..].iter().cloned()).grouped(group)
            }
            (false, true) => {
                let other = codes_of.get(&halves.is.0).filter(|&&other| other != at);
                let detail = match other {
                    Some(&other) => {
                        format!(
                            "scales are right, codes are another module's: {}",
                            relation(&target.name, &name(other))
                        )
                    }
                    None => "scales are right, codes are not theirs".to_owned(),
                };
                Finding::new("codes", Severity::Fault, detail).at([target.keys[0].clone()])
            }
            _ => continue,
        };
        explained.push(at);
        let sources = open[at].piece.iter().flat_map(|piece| piece.sources.clone());
        findings.push(finding.from(sources));
    }
    Ok((explained, findings))
}
