//! Is an MLX conversion the PyTorch release it claims to be? Judged by tensors and config alone; nothing is loaded or run.
//!
//! ```text
//! target    the MLX side: plain tensors, and packed modules as the matrices they stand for
//! names     what a name says: layer, expert, role; the same place under another spelling
//! expect    where a target should come from: the same tensor, its axes turned (axes), a stack of experts, a part, a recipe's row
//! verify    the release's values in the target's format, bit for bit: rounded, or packed by MLX's own quantizer
//! judge     every target against its expectation, in parallel
//! stats     of what does not hold: counts and sums over one pass      cause    what they show: truncated, shifted, scaled, calibrated
//! search    rows looked up by content in the whole release            explain  swapped, doubled, permuted, partly lost
//! finish    factors that come back, foreign scales, merged adapters, other values (fold, rest)
//! dropped   what was left out      policy   what should not be packed      config   fields that decide numbers (fields, defaults, layers)
//! report    findings and verdicts; text, markdown and html write them
//! infer     the other half: from a release and its conversion to the recipe
//! ```
//!
//! Data goes down this list only. Files are read in windows, so memory is a budget, whatever their size. The crate prints nothing and
//! never sees MLX.

pub mod audit;
mod axes;
mod cause;
mod config;
mod defaults;
mod dropped;
mod equivalent;
mod expect;
mod explain;
mod fields;
mod finish;
mod fold;
mod html;
pub mod infer;
mod judge;
mod layers;
mod markdown;
mod names;
mod order;
mod policy;
mod recipes;
pub mod report;
mod request;
mod rest;
mod search;
mod stats;
mod target;
mod text;
mod verify;

pub use audit::audit;
pub use html::html;
pub use markdown::markdown;
pub use report::{Finding, Report, SCHEMA, Severity};
pub use request::Request;
pub use text::text;

/// The report as one JSON object, indented, a newline at the end.
///
/// # Errors
/// Never in practice: a report has string keys only.
pub fn json(report: &Report) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(report)? + "\n")
}

/// The report in every format, each with the name of its file.
///
/// # Errors
/// As [`json`].
pub fn files(report: &Report) -> serde_json::Result<[(&'static str, String); 4]> {
    let (text, markdown, html) = (text(report), markdown(report), html(report));
    Ok([("report.txt", text), ("report.md", markdown), ("report.html", html), ("record.json", json(report)?)])
}
