//! What a check comes to: one verdict over all scenarios, how much it rests on, what failed first and why.

use mlxport_verdict::{Coverage, Mode, TapRef, Verdict};
use serde_json::{Map, Value, json};

use crate::allowed::Allowed;
use crate::judge::Judged;
use crate::recorded::{Recorded, Scenario};

/// The verdict and all that `--json` prints.
#[derive(Debug)]
pub struct Outcome {
    verdict: &'static str,
    coverage: Coverage,
    first: Option<First>,
    /// By scenario: its verdict, or why it has none.
    scenarios: Vec<(String, &'static str, Option<String>)>,
    object: Value,
    head: String,
    notes: Vec<String>,
}

/// What failed first.
#[derive(Debug)]
struct First {
    point: String,
    mode: String,
    ratio: Option<f64>,
    cause: Option<String>,
}

impl First {
    /// For people. An error that the port raised is its scenario's reason, or the first line's: it stands above already.
    fn lines(&self) -> Vec<String> {
        if self.mode == self.point {
            return vec![format!("First: {}", self.point)];
        }
        let ratio = self.ratio.map_or_else(String::new, |ratio| format!(", {ratio:.3e} × tolerance"));
        let mut lines = vec![format!("First: {} ({}{ratio})", self.point, self.mode)];
        lines.extend(self.cause.iter().map(|cause| format!("Likely cause: {cause}.")));
        lines
    }
}

impl Outcome {
    /// Sums up.
    #[must_use]
    pub fn of(recorded: &Recorded, judged: &[Judged], allowed: &Allowed) -> Self {
        let scenarios: Vec<_> = recorded.scenarios.iter().map(|(name, one)| verdict_of(name, one, judged)).collect();
        let held = judged.iter().filter_map(|one| one.run.candidate.as_ref()?.coverage.clone()).next();
        let coverage = held.unwrap_or_default();
        let first = first(recorded, judged);
        let has = |word: &str| scenarios.iter().any(|(_, verdict, _)| *verdict == word);
        let dropped = recorded
            .unmapped
            .iter()
            .any(|one| (one.reason.contains("dropped") || one.side == "port") && allowed.reason(&one.name).is_none());
        let verdict = if recorded.refused.is_some() || has("fail") {
            "fail"
        } else if has("incomplete") || !coverage.is_complete() || dropped {
            "incomplete"
        } else {
            "pass"
        };
        let head = head(recorded, verdict, &coverage);
        let mut outcome =
            Self { verdict, coverage, first, scenarios, object: Value::Null, head, notes: notes(recorded) };
        outcome.object = outcome.to_object(recorded, allowed);
        outcome
    }

    /// Whether the port is right, as far as was asked.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.verdict == "pass"
    }

    /// One JSON object, ending with a newline.
    #[must_use]
    pub fn json(&self) -> String {
        format!("{}\n", serde_json::to_string_pretty(&self.object).unwrap_or_default())
    }

    /// For people: the first line answers.
    #[must_use]
    pub fn text(&self) -> String {
        let mut lines = vec![self.head.clone()];
        for (name, verdict, reason) in &self.scenarios {
            let reason = reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
            lines.push(format!("  {name:<11} {verdict}{reason}"));
        }
        if let Some(first) = &self.first {
            lines.extend(first.lines());
        }
        lines.extend(self.notes.iter().cloned());
        lines.join("\n") + "\n"
    }

    /// The first line, and the lines below it.
    #[must_use]
    pub(crate) fn parts(&self) -> (&str, Vec<String>) {
        (&self.head, self.text().lines().skip(1).map(str::to_owned).collect())
    }

    fn to_object(&self, recorded: &Recorded, allowed: &Allowed) -> Value {
        let scenarios: Map<String, Value> =
            self.scenarios.iter().map(|(name, verdict, _)| (name.clone(), json!(verdict))).collect();
        let reasons: Map<String, Value> = (self.scenarios.iter())
            .filter_map(|(name, _, reason)| Some((name.clone(), json!(reason.as_ref()?))))
            .collect();
        let boundaries: Vec<&Value> = recorded.scenarios.iter().take(1).flat_map(|(_, one)| &one.boundaries).collect();
        let unmapped: Vec<Value> = (recorded.unmapped.iter())
            .map(|one| {
                json!({"side": one.side, "name": one.name, "reason": one.reason, "allowed": allowed.reason(&one.name)})
            })
            .collect();
        json!({
            "schema": 1,
            "verdict": self.verdict,
            "model": recorded.model,
            "port": recorded.port,
            "made_by": recorded.made_by,
            "coverage": self.coverage,
            "first": self.first.as_ref().map(|first| json!({
                "point": first.point, "mode": first.mode, "ratio": first.ratio.filter(|ratio| ratio.is_finite()), "cause": first.cause,
            })),
            "scenarios": scenarios,
            "reasons": reasons,
            "unmapped": unmapped,
            "findings": recorded.findings,
            "boundaries": boundaries,
            "layouts": recorded.scenarios.first().map(|(_, one)| &one.layouts),
            "config": recorded.config,
        })
    }
}

fn head(recorded: &Recorded, verdict: &str, coverage: &Coverage) -> String {
    let rests = match &recorded.refused {
        Some(why) => format!("the port did not load: {why}"),
        None => coverage.in_words(),
    };
    format!("{} {} by {} ({}): {rests}", verdict.to_uppercase(), recorded.model, recorded.port, recorded.made_by)
}

fn verdict_of(name: &str, scenario: &Scenario, judged: &[Judged]) -> (String, &'static str, Option<String>) {
    let found = judged.iter().find(|one| one.name == name).map(|one| one.run.summary.verdict);
    let (verdict, reason) = match (scenario.status.as_str(), found) {
        ("not_run", _) => ("not_run", scenario.reason.clone()),
        ("broke", _) => ("fail", scenario.reason.clone()),
        (_, Some(Verdict::Pass)) => ("pass", None),
        (_, Some(Verdict::Incomplete)) => ("incomplete", None),
        (_, Some(_)) => ("fail", None),
        (_, None) if scenario.broken.is_empty() => ("pass", None),
        (_, None) => ("fail", Some(scenario.broken.join("; "))),
    };
    (name.to_owned(), verdict, reason)
}

/// The first failure: of the modules alone where one fails so, else of the whole pass, in the first scenario that fails.
fn first(recorded: &Recorded, judged: &[Judged]) -> Option<First> {
    if let Some(why) = &recorded.refused {
        return Some(First { point: "load".into(), mode: "load".into(), ratio: None, cause: Some(why.clone()) });
    }
    for (name, scenario) in &recorded.scenarios {
        if let Some(one) = judged.iter().find(|one| one.name == *name && one.failed()) {
            let summary = &one.run.summary;
            let named = summary.first_isolated_failure.as_ref().or(summary.first_divergence.as_ref())?;
            return Some(first_of(one, named, name));
        }
        let why = if scenario.status == "broke" { scenario.reason.clone() } else { scenario.broken.first().cloned() };
        if let Some(why) = why {
            return Some(First { point: name.clone(), mode: name.clone(), ratio: None, cause: Some(why) });
        }
    }
    None
}

fn first_of(one: &Judged, named: &TapRef, scenario: &str) -> First {
    let taps = &one.run.taps;
    let own = taps.iter().find(|tap| tap.id() == named.id() && tap.mode == named.mode);
    let hint = own.and_then(|tap| tap.hints.first());
    // A cause that was found elsewhere is told with its place: it may be a second fault.
    let elsewhere = || {
        let (tap, hint) = taps.iter().find_map(|tap| Some((tap, tap.hints.first()?)))?;
        let within = tap.id().to_string().starts_with(&format!("{}.", named.id().point));
        Some(if within { hint.cause.clone() } else { format!("{} (at {})", hint.cause, tap.id()) })
    };
    let mode = match (scenario, named.mode) {
        ("prefill", mode) => mode.to_string(),
        (scenario, Mode::Cumulative) => scenario.to_owned(),
        (scenario, mode) => format!("{scenario}, {mode}"),
    };
    let cause = hint.map(|hint| hint.cause.clone()).or_else(elsewhere);
    First { point: named.id().to_string(), mode, ratio: named.ratio, cause }
}

fn notes(recorded: &Recorded) -> Vec<String> {
    let what = |finding: &Value| finding.get("what").and_then(Value::as_str).map(|what| format!("Finding: {what}"));
    let mut notes: Vec<String> = recorded.findings.iter().filter_map(what).collect();
    let boundaries = recorded.scenarios.iter().take(1).flat_map(|(_, one)| &one.boundaries);
    notes.extend(boundaries.filter_map(|one| {
        let text = |name: &str| one.get(name).and_then(Value::as_str);
        Some(format!("Boundary: {}: {}; judged at {}", text("point")?, text("what")?, text("judged_at")?))
    }));
    notes
}

#[cfg(test)]
mod tests {
    use super::First;

    #[test]
    fn what_failed_first_is_told_once() {
        let load =
            First { point: "load".into(), mode: "load".into(), ratio: None, cause: Some("it stands above".into()) };
        assert_eq!(load.lines(), ["First: load"]);
        let tap =
            First { point: "m#0.out".into(), mode: "decode".into(), ratio: Some(2e3), cause: Some("offset".into()) };
        assert_eq!(tap.lines(), ["First: m#0.out (decode, 2.000e3 × tolerance)", "Likely cause: offset."]);
    }
}
