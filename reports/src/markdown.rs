//! The verdict as a page: for a pull request, an issue, an archive. Bounded, whatever the record holds.

mod growth;

use mlxport_verdict::diff::Diff;
use mlxport_verdict::{Run, TapRecord};

use crate::content::{
    near_ties, next_steps, only_in_candidate, origin, reasons, reproduce, system_rows, tap, verdict_sentence,
    verdict_word,
};
use crate::diff::diff_markdown;
use crate::text_format::{clean, clip_end, clip_start, numbers, ratio, scientific, tap_name};

/// Rows of the table of the worst taps.
const WORST: usize = 10;
/// Rows of the table of failures.
const MAX_FAILURES: usize = 100;
/// Reasons that are listed.
const MAX_REASONS: usize = 50;
/// Points that are listed by name, over all reasons.
const MAX_NAMES: usize = 2_000;
/// Characters of one name.
const NAME_CHARS: usize = 160;
/// Characters of any other text out of the record.
const TEXT_CHARS: usize = 300;

/// The record as Markdown (GitHub's tables). Ends with a newline; stays under 1 MiB.
#[must_use]
pub fn markdown(run: &Run) -> String {
    markdown_against(run, None)
}

/// The same, with what has changed from a base.
#[must_use]
pub fn markdown_against(run: &Run, change: Option<&Diff>) -> String {
    let mut page = Page::default();
    page.line(&format!("# {}: {}", verdict_word(run.summary.verdict), text(&run.fixture.name)));
    page.line("");
    page.line(&format!("{}.", capital(&verdict_sentence(run))));
    divergence(&mut page, run);
    page.heading("Next");
    for step in next_steps(run) {
        page.line(&format!("- {}", text(&step)));
    }
    page.heading("To reproduce");
    page.line("```console");
    for command in reproduce(run) {
        page.line(&command);
    }
    page.line("```");
    if let Some(change) = change {
        page.0.push_str(&diff_markdown(change));
    }
    systems(&mut page, run);
    worst(&mut page, run);
    growth::growth(&mut page, run);
    failures(&mut page, run);
    not_compared(&mut page, run);
    environment(&mut page, run);
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn heading(&mut self, title: &str) {
        self.line(&format!("\n## {title}\n"));
    }

    fn row(&mut self, cells: &[&str]) {
        self.line(&format!("| {} |", cells.join(" | ")));
    }

    /// A table's head; a column whose name starts with `>` is aligned right.
    fn head(&mut self, columns: &[&str]) {
        let names: Vec<&str> = columns.iter().map(|name| name.trim_start_matches('>')).collect();
        self.row(&names);
        let rules: Vec<&str> = columns.iter().map(|name| if name.starts_with('>') { "--:" } else { "---" }).collect();
        self.row(&rules);
    }
}

fn environment(page: &mut Page, run: &Run) {
    let (e, f, m) = (&run.environment, &run.fixture, &run.model);
    page.heading("Environment");
    page.head(&["what", "value"]);
    let modes: Vec<String> = run.modes.iter().map(ToString::to_string).collect();
    let rows = [
        ("tool", format!("{} {}", run.tool.name, run.tool.version)),
        match &run.candidate {
            Some(candidate) => ("recorded with", candidate.made_by.clone()),
            None => ("MLX", format!("{} (mlx-rs {})", e.mlx_version, e.mlx_rs_version)),
        },
        ("device, dtype", format!("{}, {}", e.device, e.dtype)),
        ("TF32", e.tf32.clone()),
        ("threads", e.threads.to_string()),
        ("system", format!("{}/{}", e.os, e.arch)),
        ("BLAS", e.blas.clone().unwrap_or_else(|| "not known".to_owned())),
        ("fixture", format!("{}, PyTorch {}", f.name, f.torch)),
        ("fixture's manifest", f.manifest_sha256.clone()),
        ("recorded checkpoint", f.checkpoint_sha256.clone()),
        ("model's weights", m.weights_hash.clone()),
        ("model's config", m.config_sha256.clone().unwrap_or_else(|| "not known".to_owned())),
        match &run.candidate {
            Some(candidate) => {
                ("recording, its manifest", format!("{}, {}", candidate.name, candidate.manifest_sha256))
            }
            None => ("layout, recipe", format!("{}, {}", m.layout, m.recipe)),
        },
        ("modes", modes.join(", ")),
        ("tolerance", crate::content::tolerance_rule(run)),
    ];
    for (what, value) in rows {
        page.row(&[what, &text(&value)]);
    }
}

fn systems(page: &mut Page, run: &Run) {
    let rows = system_rows(run);
    if rows.is_empty() {
        return;
    }
    page.heading("By system");
    page.head(&["system", "mode", ">taps", ">failed", ">worst error ÷ tolerance", "at"]);
    for row in rows {
        let worst = row.worst.map_or_else(|| "–".to_owned(), ratio_or_word);
        let at = row.worst.map(|tap| code(&tap_name(tap))).unwrap_or_default();
        page.row(&[
            &row.system.to_string(),
            &row.mode.to_string(),
            &row.taps.to_string(),
            &row.failed.to_string(),
            &worst,
            &at,
        ]);
    }
    if let Some(ties) = near_ties(run) {
        page.line(&format!("\n{}.", capital(&ties)));
    }
}

fn divergence(page: &mut Page, run: &Run) {
    let summary = &run.summary;
    let blocks = [
        ("First divergence", &summary.first_divergence),
        ("Fails by itself", &summary.first_isolated_failure),
        ("Fails as users run it", &summary.first_tuned_failure),
    ];
    for (title, named) in blocks {
        let Some(tap) = named.as_ref().and_then(|named| tap(run, named)) else { continue };
        page.heading(title);
        page.line(&format!("{} ({})\n", code(&tap_name(tap)), tap.mode));
        for line in numbers(tap) {
            page.line(&format!("- {}", text(&line)));
        }
    }
    if let Some(origin) = origin(run) {
        page.line(&format!("\nOrigin: {origin}."));
    }
}

fn worst(page: &mut Page, run: &Run) {
    let taps = mlxport_verdict::worst(&run.taps, WORST);
    if taps.is_empty() {
        return;
    }
    page.heading("Worst taps");
    page.head(&["tap", "mode", ">error", ">tolerance", ">ratio", "worst element", ">amplification"]);
    for tap in taps {
        let metrics = tap.metrics.as_ref();
        let at = metrics.map_or_else(String::new, |m| format!("{:?}", m.max_abs.coordinate));
        page.row(&[
            &code(&tap_name(tap)),
            &tap.mode.to_string(),
            &scientific(tap.error().unwrap_or(f64::NAN)),
            &scientific(tap.tolerance.map_or(f64::NAN, |tolerance| tolerance.value)),
            &ratio_or_word(tap),
            &text(&at),
            &tap.amplification.map_or_else(|| "–".to_owned(), ratio),
        ]);
    }
}

fn failures(page: &mut Page, run: &Run) {
    let failed: Vec<&TapRecord> = run.taps.iter().filter(|tap| !tap.passed()).collect();
    if failed.is_empty() {
        return;
    }
    page.heading("Failures, in execution order");
    page.head(&["tap", "mode", ">ratio", "why"]);
    for tap in failed.iter().take(MAX_FAILURES) {
        let why = tap.failure.as_ref().map_or_else(String::new, |failure| failure.to_string());
        let (name, mode) = (code(&tap_name(tap)), tap.mode.to_string());
        page.row(&[&name, &mode, &tap.ratio.map_or_else(|| "–".to_owned(), ratio), &text(&why)]);
    }
    if failed.len() > MAX_FAILURES {
        page.line(&format!("\n… and {} more: see the record.", failed.len() - MAX_FAILURES));
    }
}

fn not_compared(page: &mut Page, run: &Run) {
    let summary = &run.summary;
    page.heading("Coverage");
    page.line(&format!(
        "{} points recorded, {} mapped, {} not mapped, {} unaccounted for.\n",
        summary.points_recorded, summary.points_mapped, summary.points_unmapped, summary.points_unaccounted
    ));
    if let Some(extra) = only_in_candidate(run) {
        page.line(&format!("{}.\n", text(&extra)));
    }
    let reasons = reasons(run);
    let mut names_left = MAX_NAMES;
    for reason in reasons.iter().take(MAX_REASONS) {
        let mode = reason.mode.map_or_else(String::new, |mode| format!("{mode}: "));
        let count = reason.entries.len();
        let title = format!("{count} × {mode}{}", text(reason.reason));
        page.line(&format!("<details><summary>{title}</summary>\n"));
        let listed = count.min(names_left);
        names_left -= listed;
        for entry in &reason.entries[..listed] {
            page.line(&format!("- {}", code(&clean(&entry.id().to_string()))));
        }
        if listed < count {
            page.line(&format!("- … and {} more: see the record", count - listed));
        }
        page.line("\n</details>");
    }
    if reasons.len() > MAX_REASONS {
        page.line(&format!("\n… and {} more reasons: see the record.", reasons.len() - MAX_REASONS));
    }
}

fn ratio_or_word(tap: &TapRecord) -> String {
    match tap.ratio {
        Some(value) if tap.passed() => ratio(value),
        Some(value) => format!("**{}**", ratio(value)),
        None if tap.passed() => "equal".to_owned(),
        None => "**failed**".to_owned(),
    }
}

/// Text out of a record: cleaned, clipped, and without what could end a table's cell, become HTML, or make a link.
pub(crate) fn text(text: &str) -> String {
    let mut safe = String::new();
    let mut before = ' ';
    for c in clip_end(&clean(text), TEXT_CHARS).chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '|' | '`' | '\\' => safe.extend(['\\', c]),
            '(' if before == ']' => safe.push_str("\\("),
            c => safe.push(c),
        }
        before = c;
    }
    safe
}

/// A name as code; a backtick or a bar would end it.
pub(crate) fn code(name: &str) -> String {
    let safe: String =
        clip_start(name, NAME_CHARS).chars().map(|c| if matches!(c, '`' | '|') { '\u{fffd}' } else { c }).collect();
    format!("`{safe}`")
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use mlxport_verdict::{Failure, Mode, NotCompared, Points};

    use super::*;
    use crate::samples;

    #[test]
    fn a_pass_reads_well() {
        insta::assert_snapshot!(markdown(&samples::passing()));
    }

    #[test]
    fn two_recordings_read_well() {
        insta::assert_snapshot!(markdown(&samples::compared()));
    }

    #[test]
    fn a_failure_reads_well() {
        insta::assert_snapshot!(markdown(&samples::failing()));
    }

    /// `taps` failing taps and as many points not compared, with names of `name_chars` characters.
    fn large(taps: usize, name_chars: usize) -> Run {
        let mut run = samples::failing();
        for index in 0..taps {
            let point = format!("model.layers.{index}.{}", "&|".repeat(name_chars / 2));
            let header = samples::header(&point, 0, "out", Mode::Cumulative, &[2, 4, 8]);
            run.taps.push(samples::measured(header.clone(), 0.5));
            run.taps.push(TapRecord::failed(header, Failure::RunFailed { message: "<&>".repeat(name_chars) }));
            run.not_compared.push(NotCompared {
                point,
                call: 1,
                kind: "out".to_owned(),
                mode: None,
                reason: format!("{} {}", index % 60, "<&>".repeat(name_chars)),
            });
        }
        run.concluded(Points { recorded: 27 + taps, mapped: 27 })
    }

    #[test]
    fn a_page_stays_under_a_mebibyte() {
        for (taps, name_chars) in [(2_000, 60), (3_000, 1_000)] {
            let run = large(taps, name_chars);
            let change = mlxport_verdict::diff::diff(&samples::passing(), &run);
            let page = markdown_against(&run, Some(&change));
            assert!(page.len() < 1 << 20, "{taps} taps: {} bytes", page.len());
            assert!(page.contains("more: see the record"));
        }
    }

    #[test]
    fn names_cannot_break_a_table_or_become_html() {
        let page = markdown(&large(3, 8));
        assert!(!page.contains("<&>"));
        assert!(!page.contains("&|&|"));
        assert_eq!(text("a|b `c` [d](e) <f>"), "a\\|b \\`c\\` [d]\\(e) &lt;f&gt;");
        assert_eq!(text("a\nb"), "a\u{fffd}b");
    }
}
