//! A report for a terminal.

use std::fmt::Write as _;

use mlxport_convert::show_byte_len;

use crate::report::{Finding, Report, Severity};

/// Keys of a finding that a person is shown.
const SHOWN: usize = 6;

/// The report as plain text.
pub fn text(report: &Report) -> String {
    let mut out = format!("{}\n", headline(report));
    let _ =
        writeln!(out, "{} against {}, {}", clean(&report.mlx), clean(&report.release), show_byte_len(report.byte_len));
    let _ = writeln!(out, "{}", counts(report));
    for line in &report.quantization {
        let _ = writeln!(out, "quantized: {line}");
    }
    for (severity, title) in [(Severity::Fault, "Faults"), (Severity::Minor, "Minor"), (Severity::Note, "Notes")] {
        let listed: Vec<&Finding> = report.findings.iter().filter(|finding| finding.severity == severity).collect();
        if !listed.is_empty() {
            let _ = writeln!(out, "\n{title}");
        }
        for finding in listed {
            let _ = writeln!(out, "  {}: {}{}", finding.kind, clean(&finding.detail), times(finding));
            for key in finding.keys.iter().take(SHOWN) {
                let _ = writeln!(out, "      {}", clean(key));
            }
            if finding.keys.len() > SHOWN {
                let _ = writeln!(out, "      … {} more (--json has all)", finding.keys.len() - SHOWN);
            }
        }
    }
    for note in &report.notes {
        let _ = writeln!(out, "note: {}", clean(note));
    }
    out
}

/// One line: the verdict and what it rests on.
pub fn headline(report: &Report) -> String {
    let count = |severity| report.findings.iter().filter(|finding| finding.severity == severity).count();
    let (faults, minor, notes) = (count(Severity::Fault), count(Severity::Minor), count(Severity::Note));
    let verdict = if report.verdict == "pass" { "PASS" } else { "FAIL" };
    match (faults, minor, notes) {
        (0, 0, 0) => format!("{verdict}: every tensor is the release's"),
        _ => format!("{verdict}: {faults} fault{}, {minor} minor, {notes} note{}", plural(faults), plural(notes)),
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// How many tensors have which verdict.
pub fn counts(report: &Report) -> String {
    let get = |name: &str| report.tensors.get(name).copied().unwrap_or(0);
    let others: Vec<String> = report
        .tensors
        .iter()
        .filter(|(name, _)| !["total", "matched", "dropped"].contains(&name.as_str()))
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    format!(
        "{} of {} tensors matched ({}); {} of the release left out",
        get("matched"),
        get("total"),
        others.join(", "),
        get("dropped")
    )
}

fn times(finding: &Finding) -> String {
    if finding.count > 1 { format!(" ({} times)", finding.count) } else { String::new() }
}

/// Names are data: nothing in them may steer a terminal.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
