//! Planted faults as text for people, as Markdown and as JSON.

use std::fmt::Write as _;

use mlxport_verdict::{MutantRecord, MutationReport, Outcome, TapRef};

use crate::text_format::clean;

/// The report as JSON, indented, a newline at the end.
#[must_use]
pub fn mutation_json(report: &MutationReport) -> String {
    let mut text = serde_json::to_string_pretty(report).expect("a report has string keys only");
    text.push('\n');
    text
}

/// The report for a terminal: the score, what is wrong, and what was not counted with the reason.
#[must_use]
pub fn mutation_text(report: &MutationReport) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}", headline(report));
    let environment = &report.environment;
    let _ = writeln!(
        out,
        "{} · {} · MLX {} · fixture {} · model {}, {}",
        environment.dtype,
        environment.device,
        environment.mlx_version,
        clean(&report.fixture.name),
        report.model.layout,
        report.model.recipe
    );
    for (title, wanted) in [("Not caught, or named elsewhere", true), ("Not counted", false)] {
        let listed: Vec<&MutantRecord> =
            report.mutants.iter().filter(|m| counts(&m.outcome) == wanted && m.outcome != Outcome::Caught).collect();
        if !listed.is_empty() {
            let _ = writeln!(out, "\n{title}");
        }
        for mutant in listed {
            let _ = writeln!(out, "  {}: {}", clean(&mutant.name), clean(&outcome_text(mutant)));
        }
    }
    for variant in report.variants.iter().filter(|v| !v.passed || v.not_run.is_some() || !v.changed) {
        let why = match &variant.not_run {
            Some(why) => format!("not run: {why}"),
            None if variant.passed => "does nothing: its numbers are those of the unchanged run; nearest".to_owned(),
            None => "false alarm at".to_owned(),
        };
        let at = variant.worst.as_ref().map(place).unwrap_or_default();
        let _ = writeln!(out, "\nCorrect variant: {}: {} {at}", clean(&variant.name), clean(&why));
    }
    out
}

/// The report as Markdown: every fault and every variant in a table.
#[must_use]
pub fn mutation_markdown(report: &MutationReport) -> String {
    let mut out = format!("# {}\n\n", headline(report));
    out.push_str("| fault | kind | planted in | outcome | first divergence | by itself | failed taps | first hint |\n");
    out.push_str("| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for mutant in &report.mutants {
        let at = |tap: &Option<TapRef>| tap.as_ref().map_or_else(|| "–".to_owned(), |tap| cell(&place(tap)));
        let _ = writeln!(
            out,
            "| {} | {} | `{}` | {} | {} | {} | {} | {} |",
            cell(&mutant.name),
            mutant.kind,
            cell(&mutant.planted_in),
            cell(&outcome_text(mutant)),
            at(&mutant.first_divergence),
            at(&mutant.first_isolated_failure),
            mutant.failed,
            mutant.hint.as_deref().map_or_else(|| "–".to_owned(), cell),
        );
    }
    out.push_str("\n| correct variant | verdict | closest tap | changed a bit |\n| --- | --- | --- | --- |\n");
    for variant in &report.variants {
        let verdict = match (&variant.not_run, variant.passed) {
            (Some(why), _) => format!("not run: {}", cell(why)),
            (None, true) if !variant.changed => "**does nothing**".to_owned(),
            (None, true) => "pass".to_owned(),
            (None, false) => "**false alarm**".to_owned(),
        };
        let worst = variant.worst.as_ref().map(|tap| cell(&place(tap))).unwrap_or_default();
        let changed = if variant.changed { "yes" } else { "no" };
        let _ = writeln!(out, "| {} | {verdict} | {worst} | {changed} |", cell(&variant.name));
    }
    out
}

fn headline(report: &MutationReport) -> String {
    let s = &report.summary;
    format!(
        "{} {}: {} of {} planted faults caught in their place ({:.1} %), {} false alarms in {} correct variants{}; {} \
         change nothing here, {} cannot be planted",
        if s.passes() { "PASS" } else { "FAIL" },
        clean(&report.fixture.name),
        s.caught,
        s.counted,
        100.0 * s.score,
        s.false_alarms,
        s.variants,
        if s.idle == 0 { String::new() } else { format!(", {} of which do nothing", s.idle) },
        s.equivalent,
        s.not_applicable
    )
}

fn counts(outcome: &Outcome) -> bool {
    !matches!(outcome, Outcome::Equivalent { .. } | Outcome::NotApplicable { .. })
}

/// The outcome in words.
fn outcome_text(mutant: &MutantRecord) -> String {
    match &mutant.outcome {
        Outcome::Caught => "caught".to_owned(),
        Outcome::Survived => "survived".to_owned(),
        Outcome::Misplaced => {
            let at = [&mutant.first_divergence, &mutant.first_isolated_failure];
            let at: Vec<String> = at.into_iter().flatten().map(place).collect();
            format!("planted in {}, seen at {}", mutant.planted_in, at.join(" and "))
        }
        Outcome::Equivalent { reason } => format!("equivalent: {reason}"),
        Outcome::NotApplicable { reason } => format!("not applicable: {reason}"),
        Outcome::NotRun { message } => format!("could not be run: {message}"),
    }
}

fn place(tap: &TapRef) -> String {
    match tap.ratio {
        Some(ratio) => format!("{} ({ratio:.3} × tolerance)", tap.id()),
        None => tap.id().to_string(),
    }
}

/// Text that cannot end a cell.
fn cell(text: &str) -> String {
    clean(text).replace('|', "\\|")
}
