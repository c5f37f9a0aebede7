//! Changes that cancel out: experts in another order whose router is in the same order computes the same.

use std::collections::BTreeMap;

use crate::explain::Known;
use crate::names;
use crate::report::{Finding, Severity};

/// Turns findings about experts in another order, and about their router's rows, into one note where they undo each other.
pub fn renumbered_experts(known: &Known<'_>, orders: &BTreeMap<String, Vec<u64>>, findings: &mut [Finding]) {
    for (at, suspect) in known.suspects.iter().enumerate() {
        let router = &known.targets[suspect.target];
        let place = names::module(&router.name);
        let Some(origin) = known.origins[at].as_ref().filter(|_| names::is_router(place)) else { continue };
        let rows: Option<Vec<u64>> = origin.from.iter().copied().collect();
        let parent = names::module(place);
        let of_layer: Vec<(&String, &Vec<u64>)> =
            orders.iter().filter(|(name, _)| name.starts_with(&format!("{parent}."))).collect();
        let stacks = known.targets.iter().filter(|target| {
            target.name.starts_with(&format!("{parent}."))
                && target.name.contains("switch_mlp")
                && target.name.ends_with(".weight")
        });
        let all = stacks.count() == of_layer.len();
        if !all || of_layer.is_empty() || !of_layer.iter().all(|(_, order)| Some(*order) == rows.as_ref()) {
            continue;
        }
        let mut keys: Vec<&String> = router.keys.iter().collect();
        keys.extend(of_layer.iter().map(|(name, _)| *name));
        for finding in findings.iter_mut().filter(|finding| finding.keys.iter().any(|key| keys.contains(&key))) {
            finding.severity = Severity::Note;
            finding.kind = "experts-renumbered".to_owned();
            finding.detail =
                "experts and their router's rows are in another order, the same one: the function is kept".to_owned();
            finding.group = finding.detail.clone();
        }
    }
}
