//! The fuzz targets as plain functions: bytes in, a panic when something that must hold does not.
//!
//! libFuzzer drives them (`fuzz_targets/fuzz.rs`, built by `cargo xtask fuzz`), and `tests/replay.rs` replays the committed seeds and past
//! findings in every `cargo test`, without a fuzzer. A target asserts what a parser promises, not only that it returns.

pub mod case;
pub mod place;
pub mod release;
pub mod targets;

/// A target: its name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target. `seeds/NAME` holds its seeds, `findings/NAME` the inputs that once failed.
pub const TARGETS: &[Target] = &[
    ("header", targets::header::run),
    ("index", targets::index::run),
    ("pickle", targets::pickle::run),
    ("legacy", targets::legacy::run),
    ("recipe", targets::recipe::run),
    ("expression", targets::expression::run),
    ("config", targets::config::run),
    ("manifest", targets::manifest::run),
    ("fixture_manifest", targets::fixture_manifest::run),
    ("report", targets::report::run),
    ("plan", targets::plan::run),
    ("renames", targets::renames::run),
    ("lock", targets::lock::run),
    ("grounding", targets::grounding::run),
    ("page", targets::page::run),
    ("ledger", targets::ledger::run),
    ("geometry", targets::geometry::run),
    ("request", targets::request::run),
];
