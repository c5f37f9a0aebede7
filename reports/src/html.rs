//! `report.html`: one page with everything in it, light and dark, that fetches nothing. Markup is made by maud, so what a record
//! holds is escaped by construction; a tap's section is made by the page's script when it is asked for, from one embedded JSON.

pub(crate) mod chart;
mod section;
mod tree;

use maud::{Markup, PreEscaped, html};
use mlxport_verdict::{Mode, Run, TapRecord, TapRef, Verdict};

use crate::content::{
    last_logits, near_ties, next_steps, only_in_candidate, origin, reasons, system_rows, tap, tolerance_rule,
    verdict_sentence, verdict_word,
};
use crate::page::page;
use crate::system::{ALL, System};
use crate::text_format::{clean, clip_end, environment, numbers, ratio, scientific, subject, tap_name};

const SCRIPT: &str = include_str!("html/page.js");
/// How a line about a cause begins.
const HINT: &str = "likely cause: ";
/// The table's columns, and whether each holds numbers.
const COLUMNS: [(&str, bool); 8] = [
    ("tap", false),
    ("system", false),
    ("mode", false),
    ("error", true),
    ("tolerance", true),
    ("ratio", true),
    ("status", false),
    ("order", true),
];

/// The record as one self-contained HTML page.
#[must_use]
pub fn html(run: &Run) -> String {
    let word = verdict_word(run.summary.verdict);
    let name = clean(&run.fixture.name);
    let body = html! {
        header {
            h1 { span class=(format!("badge {}", tone(run.summary.verdict))) { (word) } (name) }
            p { strong { (verdict_sentence(run)) } }
            p class="dim" { (environment(run)) }
            p class="dim" { (subject(run)) }
        }
        main {
            (attribution(run))
            h2 { "Error against tolerance" }
            (chart::chart(run))
            (systems(run))
            (table(run))
            (tree::tree(run))
            (coverage(run))
        }
        script type="application/json" id="data" { (PreEscaped(section::data(run))) }
        script { (PreEscaped(SCRIPT)) }
    };
    page(&format!("{word}: {name}"), true, &body)
}

fn tone(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::NothingCompared | Verdict::Incomplete | Verdict::Nondeterministic => "odd",
    }
}

/// What diverged first, what fails by itself, likely causes, and what to do.
fn attribution(run: &Run) -> Markup {
    let summary = &run.summary;
    let block = |title: &str, named: &Option<TapRef>| {
        let found = named.as_ref().and_then(|named| tap(run, named));
        html! {
            @if let Some(tap) = found {
                section class="card bad" {
                    h3 { (title) }
                    p { (link(run, tap)) }
                    @for line in numbers(tap).iter().filter(|line| !line.starts_with(HINT)) { p { (line) } }
                }
            }
        }
    };
    html! {
        @if summary.verdict == Verdict::Fail { (next(run)) }
        (block("Fails by itself (isolated)", &summary.first_isolated_failure))
        (block("First divergence (cumulative)", &summary.first_divergence))
        (block("Fails as users run it (tuned)", &summary.first_tuned_failure))
        @if let Some(origin) = origin(run) { p { strong { "Origin: " } (origin) "." } }
        @for said in [last_logits(run), near_ties(run)].into_iter().flatten() { p { (said) } }
        @if summary.points_unaccounted > 0 {
            p class="fail" { (summary.points_unaccounted) " recorded points are unaccounted for" }
        }
        @if summary.verdict != Verdict::Fail { (next(run)) }
    }
}

/// What to do, after the causes that were tried on the tensors and explain the error.
fn next(run: &Run) -> Markup {
    let summary = &run.summary;
    let named = [&summary.first_isolated_failure, &summary.first_divergence, &summary.first_tuned_failure];
    let hints = named.into_iter().flatten().filter_map(|named| tap(run, named)).find(|tap| !tap.hints.is_empty());
    html! {
        section class="card" {
            h3 { "Next" }
            @for step in next_steps(run) { p { (step) } }
            @if let Some(tap) = hints {
                p class="hint" { "What explains the error at " (link(run, tap)) ", best first:" }
                ul { @for line in numbers(tap).iter().filter(|line| line.starts_with(HINT)) { li { (line[HINT.len()..]) } } }
            }
        }
    }
}

/// A tap's name that leads to its section.
fn link(run: &Run, tap: &TapRecord) -> Markup {
    let place = run.taps.iter().position(|other| std::ptr::eq(other, tap)).unwrap_or_default();
    html! { a href=(format!("#tap-{place}")) { code { (tap_name(tap)) } } }
}

fn systems(run: &Run) -> Markup {
    html! {
        h2 { "By system" }
        div class="wide" { table {
            caption { "worst: error ÷ tolerance; tolerance: " (tolerance_rule(run)) }
            thead { tr {
                th scope="col" { "system" } th scope="col" { "mode" }
                th scope="col" class="n" { "taps" } th scope="col" class="n" { "failed" }
                th scope="col" class="n" { "worst" } th scope="col" { "at" }
            } }
            tbody { @for row in system_rows(run) { tr {
                th scope="row" { (row.system) } td { (row.mode) }
                td class="n" { (row.taps) }
                td class=(if row.failed > 0 { "n fail" } else { "n" }) { (row.failed) }
                td class="n" { (row.worst.map_or_else(String::new, worst_number)) }
                td { @if let Some(tap) = row.worst { (link(run, tap)) } }
            } } }
        } }
    }
}

/// The ratio, or what stands for it where there is none.
fn worst_number(tap: &TapRecord) -> String {
    match tap.ratio {
        Some(value) => ratio(value),
        None if tap.passed() => "equal".to_owned(),
        None => "failed".to_owned(),
    }
}

fn table(run: &Run) -> Markup {
    html! {
        h2 id="all" { "Every comparison" }
        div class="tools" {
            label { "Name contains " input type="search" id="search"; }
            label { "Mode " select id="mode" {
                option value="" { @if run.modes.contains(&Mode::Tuned) { "all" } @else { "both" } }
                option { "cumulative" } option { "isolated" }
                @if run.modes.contains(&Mode::Tuned) { option { "tuned" } }
            } }
            label { "System " select id="system" {
                option value="" { "all" } @for system in ALL { option { (system) } }
            } }
            label { input type="checkbox" id="failed"; " failed only" }
            span id="shown" class="dim" role="status" { (run.taps.len()) " shown" }
        }
        section class="card" id="detail" tabindex="-1" aria-label="The chosen comparison" hidden {}
        noscript { p { "Sorting, filtering and the details need JavaScript; every detail is in record.json, too." } }
        div class="wide late" { table id="taps" {
            caption { "A column's button sorts by it; a tap's link shows its details above the table." }
            thead { tr { @for (name, number) in COLUMNS {
                th scope="col" class=[number.then_some("n")] { button type="button" { (name) } }
            } } }
            tbody { @for (place, tap) in run.taps.iter().enumerate() { (row(place, tap)) } }
        } }
    }
}

fn row(place: usize, tap: &TapRecord) -> Markup {
    let name = tap_name(tap);
    let tolerance = tap.tolerance.as_ref().map(|tolerance| tolerance.value);
    let (tone, word) = if tap.passed() { ("pass", "pass") } else { ("fail", "FAIL") };
    html! {
        tr id=(format!("row-{place}")) {
            td { a href=(format!("#tap-{place}")) { (name) } }
            td { (System::of(&tap.point)) }
            td { (tap.mode) }
            (cell(tap.error(), scientific))
            (cell(tolerance, scientific))
            (cell(tap.ratio, ratio))
            td class=(tone) { (word) }
            td class="n" data-v=(place) { (place + 1) }
        }
    }
}

/// A number's cell; `data-v` is what it is sorted by: what is not finite counts as the largest, nothing as nothing.
fn cell(value: Option<f64>, words: fn(f64) -> String) -> Markup {
    let key = value.map_or_else(String::new, |v| if v.is_finite() { format!("{v:e}") } else { "1e999".to_owned() });
    html! { td class="n" data-v=(key) { (value.map_or_else(|| "–".to_owned(), words)) } }
}

fn coverage(run: &Run) -> Markup {
    let summary = &run.summary;
    html! {
        h2 { "Coverage" }
        p { (summary.points_recorded) " recorded points, " (summary.points_mapped) " mapped, " (summary.points_unmapped) " not" }
        @if let Some(extra) = only_in_candidate(run) { p { (clip_end(&extra, 600)) } }
        ul { @for reason in reasons(run) { li {
            (reason.entries.len()) " × "
            @if let Some(mode) = reason.mode { (mode) ": " }
            (clip_end(&clean(reason.reason), 300))
        } } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn a_failure_is_told_first_and_every_comparison_has_a_row() {
        let run = samples::failing();
        let page = html(&run);
        let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} is not there"));
        assert!(page.starts_with("<!DOCTYPE html>"));
        assert!(place("First divergence (cumulative)") < place("<svg"));
        assert!(place("<svg") < place("<table id=\"taps\">"));
        assert_eq!(page.matches("<tr id=\"row-").count(), run.taps.len());
        let failed = run.taps.iter().filter(|tap| !tap.passed()).count();
        assert_eq!(page.matches("<td class=\"fail\">FAIL</td>").count(), failed);
        assert!(!html(&samples::passing()).contains("First divergence"));
    }

    #[test]
    fn the_page_refers_to_nothing_outside() {
        for run in [samples::passing(), samples::failing(), samples::compared(), samples::nothing()] {
            let page = html(&run);
            for word in ["http://", "https://", " src=", "url(", "@import", "<link", "fetch("] {
                assert!(!page.contains(word), "{word}");
            }
        }
    }

    #[test]
    fn names_are_text_and_never_markup() {
        let mut run = samples::failing();
        run.fixture.name = "</title><script>alert(1)</script>".to_owned();
        for tap in &mut run.taps {
            tap.point.push_str("</script><img src=x onerror=alert(1)>\"'");
        }
        for entry in &mut run.not_compared {
            entry.reason = "<b>&".to_owned();
        }
        let page = html(&run);
        assert!(!page.contains("<img") && !page.contains("<b>") && !page.contains("<script>alert"));
        assert_eq!(page.matches("</script>").count(), 2);
        let start = page.find("id=\"data\">").expect("the data") + "id=\"data\">".len();
        let end = start + page[start..].find("</script>").expect("its end");
        let taps: serde_json::Value = serde_json::from_str(&page[start..end]).expect("JSON");
        assert_eq!(taps[0]["name"], tap_name(&run.taps[0]));
    }

    #[test]
    fn two_thousand_taps_stay_light() {
        let mut run = samples::failing();
        run.taps = run.taps.iter().cycle().take(2000).cloned().collect();
        let page = html(&run);
        assert!(page.len() < 4 << 20, "{} bytes", page.len());
        assert_eq!(page.matches("<tr id=\"row-").count(), 2000);
    }
}
