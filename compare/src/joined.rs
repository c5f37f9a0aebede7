//! Two comparisons of one scenario, the whole pass and each module alone, joined to one record; and how much it rests on.

use std::collections::HashSet;

use mlxport_verdict::{Coverage, Mode, Run, Uncovered};
use serde::Deserialize;

/// One output of a leaf module of the reference.
#[derive(Clone, Debug, Deserialize)]
pub struct Leaf {
    /// The PyTorch module's path.
    pub point: String,
    /// The how-manieth call, from 0.
    pub call: u32,
    /// Why the port has no such output, if it has none.
    #[serde(default)]
    pub reason: Option<String>,
    /// The next point that both sides have, where this one is judged instead: `model.layers.0.mlp#0.out`.
    #[serde(default)]
    pub judged_at: Option<String>,
}

/// The record of both modes. The points recorded are those of the whole pass.
#[must_use]
pub fn both(mut cumulative: Run, isolated: Run) -> Run {
    let points = cumulative.points();
    cumulative.modes = vec![Mode::Cumulative, Mode::Isolated];
    cumulative.taps.extend(isolated.taps);
    cumulative.not_compared.extend(isolated.not_compared.into_iter().map(|mut left| {
        left.mode = Some(Mode::Isolated);
        left
    }));
    cumulative.concluded(points)
}

/// How much of `leaves` the record covers. `allowed` gives the user's reason for doing without a point, if there is one.
#[must_use]
pub fn coverage(run: &Run, leaves: &[Leaf], allowed: impl Fn(&str) -> Option<String>) -> Coverage {
    let compared: HashSet<String> =
        run.taps.iter().filter(|tap| tap.compared()).map(|tap| tap.id().to_string()).collect();
    let logits = compared.iter().any(|name| name.starts_with("logits#"));
    let mut coverage = Coverage { recorded: leaves.len(), logits, ..Coverage::default() };
    for leaf in leaves {
        let itself = compared.contains(&format!("{}#{}.out", leaf.point, leaf.call));
        let at_next = leaf.judged_at.as_ref().is_some_and(|next| compared.contains(next));
        if itself || at_next {
            coverage.compared += 1;
            coverage.judged_at_next += usize::from(!itself);
        } else {
            let reason = leaf.reason.clone().unwrap_or_else(|| "the candidate did not record it".to_owned());
            let allowed = allowed(&leaf.point);
            coverage.missing.push(Uncovered { point: leaf.point.clone(), call: leaf.call, reason, allowed });
        }
    }
    coverage
}
