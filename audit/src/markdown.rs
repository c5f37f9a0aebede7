//! A report as Markdown.

use std::fmt::Write as _;

use crate::report::Report;
use crate::text::{clean, counts, headline};

/// Keys of a finding that the table shows.
const SHOWN: usize = 4;

/// The report as Markdown: the verdict, the findings in a table, what was left out.
pub fn markdown(report: &Report) -> String {
    let mut out = format!(
        "# {}\n\n`{}` against `{}`\n\n{}\n",
        headline(report),
        cell(&report.mlx),
        cell(&report.release),
        counts(report)
    );
    for line in &report.quantization {
        let _ = writeln!(out, "\nQuantized: {line}");
    }
    if !report.findings.is_empty() {
        out.push_str("\n| severity | kind | count | what | keys |\n| --- | --- | --- | --- | --- |\n");
    }
    for finding in &report.findings {
        let keys: Vec<String> = finding.keys.iter().take(SHOWN).map(|key| format!("`{}`", cell(key))).collect();
        let more = finding.keys.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(", {more} more") } else { String::new() };
        let severity = format!("{:?}", finding.severity).to_lowercase();
        let _ = writeln!(
            out,
            "| {severity} | {} | {} | {} | {}{more} |",
            finding.kind,
            finding.count,
            cell(&finding.detail),
            keys.join(", ")
        );
    }
    if !report.dropped.is_empty() {
        out.push_str("\n| left out of the release | why |\n| --- | --- |\n");
    }
    for dropped in report.dropped.iter().take(100) {
        let _ = writeln!(out, "| `{}` | {} |", cell(&dropped.key), cell(&dropped.reason));
    }
    if report.dropped.len() > 100 {
        let _ = writeln!(out, "\n{} more are in record.json.", report.dropped.len() - 100);
    }
    out
}

/// Text that cannot end a cell or a code span.
fn cell(text: &str) -> String {
    clean(text).replace('|', "\\|").replace('`', "'")
}
