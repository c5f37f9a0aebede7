//! Records to terminal, JSON, Markdown, HTML, JUnit, CSV and a chart.
//!
//! One file per format; a new format is one new file. No metric is computed here: every number shown is in the record, this
//! crate only counts, picks and words. Names in a record are data, so they are cleaned before they reach a terminal or a page.

mod content;
mod csv;
mod diff;
mod draw;
mod error;
mod growth;
mod html;
mod json;
mod junit;
mod ledger;
mod lock_file;
mod markdown;
mod mutation;
mod page;
mod read;
mod svg;
mod system;
mod terminal;
mod text_format;
mod write;

pub use csv::taps_csv;
pub use diff::{diff_json, diff_markdown, diff_text};
pub use error::ReportError;
pub use html::html;
pub use json::{from_json, json};
pub use junit::junit;
pub use ledger::{
    Drift, Entry, LEDGER_SCHEMA, SystemEntry, atlas_entries, drifts, ledger_html, ledger_object, ledger_text,
    parse_ledger,
};
pub use lock_file::{judged_by_lock, update_lock};
pub use markdown::{markdown, markdown_against};
pub use mutation::{mutation_json, mutation_markdown, mutation_text};
pub use read::{read_ledger, read_record, read_records};
pub use svg::chart_svg;
pub use system::System;
pub use terminal::{Style, terminal};
pub use write::{write_mutation_report, write_new_text, write_report, write_text};

/// What this crate's fallible functions return.
pub type Result<T> = std::result::Result<T, ReportError>;

#[cfg(test)]
mod recorded;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod schema_tests;
