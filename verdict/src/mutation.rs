//! The record of planted faults: which were caught, where they were named, and whether correct variants stayed unaccused.

use serde::{Deserialize, Serialize};

use crate::{
    run::{Environment, FixtureId, ModelId, Tool},
    summary::TapRef,
};

/// The version of [`MutationReport`].
pub const MUTATION_SCHEMA: u32 = 1;

/// What became of one planted fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It failed, and the first failing taps lie in the module where it was planted.
    Caught,
    /// It failed, and the first failing tap lies elsewhere.
    Misplaced,
    /// Everything passed.
    Survived,
    /// It changes nothing of what this recording can show; not counted.
    Equivalent {
        /// Why.
        reason: String,
    },
    /// It cannot be planted in this model; not counted.
    NotApplicable {
        /// Why.
        reason: String,
    },
    /// The model could not be run with it: counted as not caught.
    NotRun {
        /// What was wrong.
        message: String,
    },
}

/// One planted fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MutantRecord {
    /// What was planted, for people; unique.
    pub name: String,
    /// `config`, `weights` or `graph`.
    pub kind: String,
    /// The PyTorch module in which it was planted, the first where it is in several.
    pub planted_in: String,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The first tap of the whole pass that failed.
    pub first_divergence: Option<TapRef>,
    /// The first module that failed on its own recorded input.
    pub first_isolated_failure: Option<TapRef>,
    /// Taps that failed, of both modes.
    pub failed: usize,
    /// The cause that the report suggested first, where it suggested one.
    #[serde(default)]
    pub hint: Option<String>,
}

/// One correct variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VariantRecord {
    /// What was done otherwise, for people; unique.
    pub name: String,
    /// Whether everything passed.
    pub passed: bool,
    /// The tap that came closest to its tolerance, or went furthest over it.
    pub worst: Option<TapRef>,
    /// Whether anything was computed otherwise at all: a variant that changes no bit shows nothing.
    pub changed: bool,
    /// Why it could not be run, if it could not: then it is not counted.
    #[serde(default)]
    pub not_run: Option<String>,
}

impl VariantRecord {
    /// One that was not run, for this reason.
    #[must_use]
    pub fn not_run(name: &str, reason: &str) -> Self {
        let (name, not_run) = (name.to_owned(), Some(reason.to_owned()));
        Self { name, passed: false, worst: None, changed: false, not_run }
    }
}

/// The counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MutationSummary {
    /// Faults that count.
    pub counted: usize,
    /// Those of them that were caught and named in their place.
    pub caught: usize,
    /// caught ÷ counted; 0 where none counted.
    pub score: f64,
    /// Faults that change nothing here.
    pub equivalent: usize,
    /// Faults that cannot be planted here.
    pub not_applicable: usize,
    /// Correct variants that were run.
    pub variants: usize,
    /// Those of them that failed.
    pub false_alarms: usize,
    /// Those of them that computed the very numbers of the unchanged run: they show nothing, and the run fails.
    #[serde(default)]
    pub idle: usize,
}

/// A whole mutation run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MutationReport {
    /// [`MUTATION_SCHEMA`].
    pub schema: u32,
    /// Who made the record.
    pub tool: Tool,
    /// Where the port ran.
    pub environment: Environment,
    /// What it was compared with.
    pub fixture: FixtureId,
    /// What was mutated.
    pub model: ModelId,
    /// The counts; they follow from what is below.
    pub summary: MutationSummary,
    /// Every fault, in the catalogue's order.
    pub mutants: Vec<MutantRecord>,
    /// Every correct variant.
    pub variants: Vec<VariantRecord>,
}

impl MutationSummary {
    /// Counts.
    #[must_use]
    pub fn of(mutants: &[MutantRecord], variants: &[VariantRecord]) -> Self {
        let count = |test: fn(&Outcome) -> bool| mutants.iter().filter(|m| test(&m.outcome)).count();
        let equivalent = count(|o| matches!(o, Outcome::Equivalent { .. }));
        let not_applicable = count(|o| matches!(o, Outcome::NotApplicable { .. }));
        let counted = mutants.len() - equivalent - not_applicable;
        let caught = count(|o| matches!(o, Outcome::Caught));
        let run = variants.iter().filter(|v| v.not_run.is_none());
        Self {
            counted,
            caught,
            score: if counted == 0 { 0.0 } else { caught as f64 / counted as f64 },
            equivalent,
            not_applicable,
            variants: run.clone().count(),
            false_alarms: run.clone().filter(|v| !v.passed).count(),
            idle: run.filter(|v| v.passed && !v.changed).count(),
        }
    }

    /// Whether every counted fault was caught in its place, at least one counted, and no variant was accused or did nothing.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.counted > 0 && self.caught == self.counted && self.false_alarms == 0 && self.idle == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(outcome: Outcome) -> MutantRecord {
        MutantRecord {
            name: String::new(),
            kind: "graph".into(),
            planted_in: String::new(),
            outcome,
            first_divergence: None,
            first_isolated_failure: None,
            failed: 0,
            hint: None,
        }
    }

    fn variant(passed: bool, not_run: Option<&str>) -> VariantRecord {
        VariantRecord { name: String::new(), passed, worst: None, changed: true, not_run: not_run.map(Into::into) }
    }

    #[test]
    fn what_is_equivalent_or_cannot_be_planted_is_not_counted_and_what_cannot_run_is() {
        let reason = String::new;
        let mutants = [
            Outcome::Caught,
            Outcome::Misplaced,
            Outcome::Survived,
            Outcome::NotRun { message: reason() },
            Outcome::Equivalent { reason: reason() },
            Outcome::NotApplicable { reason: reason() },
        ]
        .map(mutant);
        let summary = MutationSummary::of(&mutants, &[variant(true, None), variant(false, Some("no such kernel"))]);
        assert_eq!((summary.counted, summary.caught, summary.score), (4, 1, 0.25));
        assert_eq!((summary.equivalent, summary.not_applicable), (1, 1));
        assert_eq!((summary.variants, summary.false_alarms), (1, 0));
        assert!(!summary.passes());
    }

    #[test]
    fn a_variant_that_changes_nothing_fails_the_run() {
        let idle = VariantRecord { changed: false, ..variant(true, None) };
        let summary = MutationSummary::of(&[mutant(Outcome::Caught)], &[variant(true, None), idle]);
        assert_eq!((summary.variants, summary.idle, summary.false_alarms), (2, 1, 0));
        assert!(!summary.passes());
    }

    #[test]
    fn a_pass_needs_a_fault_and_no_false_alarm() {
        assert!(!MutationSummary::of(&[], &[variant(true, None)]).passes());
        assert!(MutationSummary::of(&[mutant(Outcome::Caught)], &[]).passes());
        assert!(!MutationSummary::of(&[mutant(Outcome::Caught)], &[variant(false, None)]).passes());
    }
}
