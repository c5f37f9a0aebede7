//! Metrics, tolerance and the versioned records of a parity run.
//!
//! ```text
//! reference, candidate → metrics / exact / choices → TapRecord (tolerance applied) → Summary → Run
//! ```
//!
//! Pure computation: nothing here reads a file, prints, or knows about MLX or PyTorch. The rule of the whole crate is that
//! doubt fails: a NaN, an Inf, an empty comparison, a missing or an extra tap, a floor that makes no sense never yield a pass.

pub mod amplification;
pub mod check;
pub mod choices;
pub mod coverage;
pub mod detail;
pub mod diff;
pub mod exact;
pub mod growth;
pub mod hints;
pub mod lock;
pub mod logits;
pub mod merge;
pub mod metrics;
pub mod mutation;
pub mod nonfinite;
pub mod record;
pub mod run;
pub mod summary;
pub mod tolerance;
pub mod ulp;

pub use amplification::{fill_amplification, fill_amplification_with};
pub use check::Violation;
pub use choices::{ChoiceDifference, Choices, Margins, compare_sets};
pub use coverage::{Coverage, Uncovered};
pub use detail::{Detail, Heatmap, Histogram, Keeper, Stats};
pub use exact::{Exact, ExactDifference, compare_exact};
pub use growth::{Growth, fill_growth};
pub use hints::Hint;
pub use lock::Lock;
pub use logits::{LogitMetrics, compare_logits};
pub use merge::merge;
pub use metrics::{CompareError, Element, Finite, MaxAbs, Metrics, Reference, WorstRow, compare};
pub use mutation::{MUTATION_SCHEMA, MutantRecord, MutationReport, MutationSummary, Outcome, VariantRecord};
pub use record::{Failure, Header, Mode, ReferenceKind, Status, TapId, TapRecord};
pub use run::{
    Candidate, Environment, FixtureId, ModelId, NOT_RECORDED, NotCompared, RepeatedTap, Repeats, Run, SCHEMA, Shard,
    Tool,
};
pub use summary::{ModeCounts, Points, Summary, TapRef, Verdict, worst};
pub use tolerance::{Floors, K, Precision, Tolerance, ulp_floor};
pub use ulp::{Ulps, ulps};

#[cfg(test)]
mod record_tests;
