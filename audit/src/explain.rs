//! From where a suspect's rows were found to a finding: swapped, doubled, transposed, in another order, partly lost.

use std::collections::{BTreeMap, BTreeSet};

use crate::judge::{Judged, Suspect};
use crate::names::{self, Role};
use crate::order;
use crate::report::{Finding, Severity};
use crate::search::{Found, Origin, Place};
use crate::target::Target;

/// All that is known when origins are explained.
#[derive(Debug)]
pub struct Known<'a> {
    /// The MLX side.
    pub targets: &'a [Target],
    /// What each turned out to be.
    pub judged: &'a [Judged],
    /// Suspects without a cause of their own.
    pub suspects: &'a [Suspect],
    /// Where their rows were found.
    pub origins: &'a [Option<Origin>],
    /// What was looked for.
    pub found: &'a [Found],
    /// The places that origins name.
    pub places: &'a [Place],
    /// The length of an attention head, where the config says.
    pub head: Option<u64>,
}

/// What became of a suspect.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// A finding.
    Finding(Finding),
    /// It is the release's tensor under another name, or part of one: how, and the keys.
    Renamed(&'static str, Vec<String>),
    /// Nothing was found.
    Unknown,
}

impl Known<'_> {
    fn target(&self, suspect: &Suspect) -> &Target {
        &self.targets[suspect.target]
    }

    fn expected<'s>(&self, suspect: &'s Suspect) -> Vec<&'s str> {
        suspect.piece.iter().flat_map(|piece| piece.sources.iter().map(String::as_str)).collect()
    }

    /// The outcome of one.
    pub fn explain(&self, at: usize) -> Outcome {
        let suspect = &self.suspects[at];
        let Some(origin) = &self.origins[at] else { return Outcome::Unknown };
        let place = &self.places[origin.place];
        let whole = origin.share > 0.9999;
        let expected = self.expected(suspect);
        if expected.is_empty() {
            return self.unnamed(suspect, origin, &self.found[at], whole);
        }
        let own = expected.contains(&place.key.as_str());
        match (own, whole) {
            (true, true) => self.reordered(suspect, origin, place),
            (true, false) => self.partly(suspect, origin, &self.found[at]),
            (false, true) => self.moved(at, origin, place),
            (false, false) if origin.share > 0.5 => {
                let detail = format!("{:.0} % of the rows are rows of another tensor", 100.0 * origin.share);
                Outcome::Finding(self.finding(suspect, "mixed", detail, "mixed").from([place.key.clone()]))
            }
            _ => Outcome::Unknown,
        }
    }

    fn finding(&self, suspect: &Suspect, kind: &str, detail: impl Into<String>, group: &str) -> Finding {
        let target = self.target(suspect);
        Finding::new(kind, Severity::Fault, detail)
            .at(target.keys.clone())
            .from(suspect.piece.iter().flat_map(|piece| piece.sources.clone()))
            .grouped(group)
    }

    /// The right tensor, and its rows in another order or another direction.
    fn reordered(&self, suspect: &Suspect, origin: &Origin, place: &Place) -> Outcome {
        let from: Vec<u64> = origin.from.iter().flatten().copied().collect();
        let first = from.first().copied().unwrap_or(0);
        let straight = from.iter().enumerate().all(|(at, &row)| row == first + at as u64);
        let natural: Vec<usize> = (0..suspect.order.len()).collect();
        let wanted = (suspect.order != natural).then(|| suspect.order.clone());
        let turned = place.order.is_some() != wanted.is_some();
        if straight && suspect.shift != 0.0 && !turned {
            let detail = "the port's loader adds one to this weight, and here it is missing";
            return Outcome::Finding(self.finding(suspect, "shifted", detail, detail));
        }
        if straight && turned {
            let detail = "the tensor is transposed";
            return Outcome::Finding(self.finding(suspect, "transposed", detail, detail));
        }
        if straight && from.len() as u64 == place.rows {
            // The same rows in the same order, and yet not the same bytes: only the axes can differ.
            let detail = "the axes are in another order than the port's";
            return Outcome::Finding(self.finding(suspect, "axes", detail, detail));
        }
        if straight {
            let detail = format!("the part that lies at row {first} of the release's tensor stands here");
            return Outcome::Finding(self.finding(suspect, "swapped", detail, "halves"));
        }
        let (kind, detail) = order::named(&from, self.head);
        Outcome::Finding(self.finding(suspect, kind, detail.clone(), kind))
    }

    /// The right tensor, and some of its rows are not in it.
    fn partly(&self, suspect: &Suspect, origin: &Origin, found: &Found) -> Outcome {
        let here: Vec<(u64, u64)> =
            found.rows.iter().zip(&origin.from).filter_map(|(&row, from)| from.map(|from| (row, from))).collect();
        if here.len() * 20 < found.rows.len() {
            return Outcome::Unknown;
        }
        let n = found.rows.len();
        let lost = n - here.len();
        let offset = here[0].1 as i64 - here[0].0 as i64;
        let even = here.iter().all(|&(row, from)| from as i64 - row as i64 == offset);
        if even && offset == 0 {
            let detail = match origin.elsewhere {
                0 => format!("{lost} of {n} rows are not the release's, the others are in their place"),
                _ => format!("{lost} of {n} rows are another tensor's, the others are in their place"),
            };
            return Outcome::Finding(self.finding(suspect, "rows-altered", detail, "rows-altered"));
        }
        if even {
            let detail = format!("rows are shifted by {}", -offset);
            return Outcome::Finding(self.finding(suspect, "rows-rolled", detail, "rows-rolled"));
        }
        let moved = here.iter().filter(|(row, from)| row != from).count();
        let detail = format!("{moved} of {n} rows are in another order, {lost} are not in the release");
        Outcome::Finding(self.finding(suspect, "rows-permuted", detail, "rows-permuted"))
    }

    /// Another tensor's values: exchanged, doubled, or out of place.
    fn moved(&self, at: usize, origin: &Origin, place: &Place) -> Outcome {
        let suspect = &self.suspects[at];
        let expected = self.expected(suspect);
        let swapped = self.suspects.iter().enumerate().any(|(other, suspect)| {
            other != at
                && self.expected(suspect).contains(&place.key.as_str())
                && self.origins[other]
                    .as_ref()
                    .is_some_and(|origin| expected.contains(&self.places[origin.place].key.as_str()))
        });
        let own_held =
            self.judged.iter().any(|judged| judged.suspects.is_empty() && judged.sources.contains(&place.key));
        let relation = relation(expected[0], &place.key);
        let from: Vec<u64> = origin.from.iter().flatten().copied().collect();
        let ordered = from.iter().enumerate().all(|(at, &row)| row == from[0] + at as u64);
        let more = if ordered { "" } else { ", its rows in another order" };
        let (kind, detail) = match (swapped, own_held) {
            (true, _) => ("swapped", format!("exchanged: {relation}{more}")),
            (false, true) => {
                ("duplicated", format!("a copy of another tensor, which is in its own place, too: {relation}{more}"))
            }
            (false, false) => ("misplaced", format!("another tensor of the release stands here: {relation}{more}")),
        };
        let group = format!("{kind} {relation}");
        Outcome::Finding(self.finding(suspect, kind, detail, &group).from([place.key.clone()]))
    }

    /// No name says what it is: where content says it, that is where it comes from.
    fn unnamed(&self, suspect: &Suspect, origin: &Origin, found: &Found, whole: bool) -> Outcome {
        let target = self.target(suspect);
        let all_found = found.hits.iter().all(|hits| !hits.is_empty());
        if !all_found {
            return Outcome::Unknown;
        }
        let keys: Vec<String> = if whole { vec![self.places[origin.place].key.clone()] } else { self.runs(found) };
        if let Some(finding) = self.conflict(suspect, target, &keys, origin) {
            return Outcome::Finding(finding);
        }
        let from: Vec<u64> = origin.from.iter().flatten().copied().collect();
        let rising = from.windows(2).all(|two| two[0] < two[1]);
        if whole && !rising && from.len() > 1 {
            let (kind, detail) = order::named(&from, self.head);
            return Outcome::Finding(self.finding(suspect, kind, detail, kind).from(keys));
        }
        let place = &self.places[origin.place];
        let how = match (whole, from.len() as u64 == place.rows) {
            (false, _) => "joined",
            (true, true) => "moved",
            (true, false) => "split",
        };
        Outcome::Renamed(how, keys)
    }

    /// The keys that rows come from, in the rows' order.
    fn runs(&self, found: &Found) -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        for hits in &found.hits {
            let stays = hits.iter().any(|hit| keys.last() == Some(&self.places[hit.0].key));
            if let (false, Some(hit)) = (stays, hits.first()) {
                keys.push(self.places[hit.0].key.clone());
            }
        }
        keys
    }

    /// Content that the name speaks against: a query called key, an up projection in the gate's place, a tensor that is there already.
    fn conflict(&self, suspect: &Suspect, target: &Target, keys: &[String], origin: &Origin) -> Option<Finding> {
        let place = &self.places[origin.place];
        let claimed: BTreeSet<&String> =
            self.judged.iter().filter(|judged| judged.suspects.is_empty()).flat_map(|judged| &judged.sources).collect();
        let again = keys.iter().all(|key| claimed.contains(key));
        if again && target.len() > 1 {
            let detail = format!("it is a second copy of {}", keys.join(", "));
            return Some(self.finding(suspect, "duplicated", detail, "again").from(keys.to_vec()));
        }
        let (here, there) = (names::role(&target.name), names::role(&place.key));
        if keys.len() == 1 && here != there && here != Role::Other && there != Role::Other {
            let relation = relation(&place.key, &target.name);
            let detail = format!("the name says {here:?}, the content is {there:?}: {relation}");
            return Some(self.finding(suspect, "swapped", detail, &relation).from(keys.to_vec()));
        }
        let (one, other) = (names::indices(&target.name), names::indices(&place.key));
        if keys.len() == 1 && one.len() == other.len() && one != other {
            let relation = relation(&place.key, &target.name);
            let detail = format!("another layer's or expert's tensor stands here: {relation}");
            return Some(self.finding(suspect, "misplaced", detail, &relation).from(keys.to_vec()));
        }
        None
    }
}

/// How two places differ: by layer, by expert, or by name.
pub fn relation(one: &str, other: &str) -> String {
    let (a, b) = (names::indices(one), names::indices(other));
    if names::pattern(one) == names::pattern(other) && a.len() == b.len() {
        let differing: Vec<usize> = (0..a.len()).filter(|&at| a[at] != b[at]).collect();
        if let [at] = differing[..] {
            let word = if at == 0 { "layers" } else { "experts" };
            let (low, high) = (a[at].min(b[at]), a[at].max(b[at]));
            let layer = if at > 0 { format!(" of layer {}", a[0]) } else { String::new() };
            return format!("{word} {low} ↔ {high}{layer}");
        }
    }
    let (one, other) = (short(one), short(other));
    if one <= other { format!("{one} ↔ {other}") } else { format!("{other} ↔ {one}") }
}

/// The last two words of a key that say what it is.
fn short(key: &str) -> String {
    let pattern = names::pattern(key);
    let parts: Vec<&str> = pattern.split('.').filter(|part| *part != "*" && *part != "weight").collect();
    parts[parts.len().saturating_sub(2)..].join(".")
}

/// Experts of one stack that are in another order: one finding instead of one for each.
pub fn experts(known: &Known<'_>, at: &[usize]) -> Option<(Finding, Vec<u64>)> {
    let suspect = &known.suspects[*at.first()?];
    let target = &known.targets[suspect.target];
    let count = *target.shape.first()?;
    let mut order: Vec<u64> = (0..count).collect();
    let mut keys = BTreeMap::new();
    for &index in at {
        let (suspect, origin) = (&known.suspects[index], known.origins[index].as_ref()?);
        let expert = suspect.piece.as_ref()?.expert?;
        let place = &known.places[origin.place];
        let wanted = &suspect.piece.as_ref()?.sources[0];
        if origin.share < 0.9999 || names::pattern(wanted) != names::pattern(&place.key) {
            return None;
        }
        let (own, there) = (names::indices(wanted), names::indices(&place.key));
        let (last, rest) = there.split_last()?;
        if rest != &own[..own.len() - 1] {
            return None;
        }
        order[expert as usize] = *last;
        keys.insert(expert, wanted.clone());
    }
    let moved: Vec<u64> = (0..count).filter(|&at| order[at as usize] != at).collect();
    let sorted: BTreeSet<u64> = order.iter().copied().collect();
    let (kind, detail) = if order::lexicographic(count).as_ref() == Some(&order) {
        ("expert-order", "experts are stacked in lexicographic order (0, 1, 10, 11, … 2)".to_owned())
    } else if let ([a, b], true) = (&moved[..], sorted.len() as u64 == count) {
        ("swapped", format!("experts {a} and {b} are exchanged"))
    } else if sorted.len() as u64 == count {
        ("expert-order", format!("experts are in another order: {}", order::list(&order)))
    } else {
        let copies: Vec<String> =
            moved.iter().map(|&at| format!("expert {at} is a copy of {}", order[at as usize])).collect();
        ("duplicated", copies.join(", "))
    };
    let finding = Finding::new(kind, Severity::Fault, detail.clone()).at(target.keys.clone()).from(keys.into_values());
    Some((finding.grouped(detail), order))
}
