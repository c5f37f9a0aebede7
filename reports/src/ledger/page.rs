//! The ledger as one HTML page that fetches nothing: each system's error, and its distance from the tolerance, across commits.

use maud::{Markup, PreEscaped, html};
use mlxport_verdict::{Mode, Verdict};
use plotters::prelude::{Circle, Color as _, LineSeries, PathElement};

use super::text::short;
use super::{Drift, Entry, SystemEntry, by_series, drifts};
use crate::content::verdict_word;
use crate::draw::{Drawn, Ink, axes, decades, label_style, log, svg};
use crate::page::page;
use crate::system::ALL;
use crate::text_format::{clean, ratio, scientific};

const SIZE: (u32, u32) = (1000, 280);
/// Commits that are named under a chart.
const NAMED: usize = 10;
/// Runs that the table of a series lists, the last ones.
const LISTED: usize = 200;

/// The ledger as a page.
#[must_use]
pub fn ledger_html(entries: &[Entry]) -> String {
    let drifts = drifts(entries);
    let body = html! {
        header { h1 { "Parity over time" } p class="dim" { (entries.len()) " runs" } }
        main {
            (flagged(&drifts))
            @for (name, runs) in by_series(entries) { (series(&name, &runs)) }
        }
    };
    page("Parity over time", false, &body)
}

fn flagged(drifts: &[Drift]) -> Markup {
    html! {
        @if !drifts.is_empty() {
            section class="card odd-card" {
                h3 { "Drift inside the tolerance" }
                p class="dim" { "error ÷ tolerance, of the best run before → of the last" }
                ul { @for drift in drifts { li {
                    (drift.series) ": " strong { (clean(&drift.name)) } ", " (drift.mode) ": "
                    (ratio(drift.from)) " (" code { (short(&drift.commit)) } ") → " (ratio(drift.to))
                } } }
            }
        }
    }
}

fn series(name: &str, runs: &[&Entry]) -> Markup {
    let modes = Mode::ALL;
    let has = |mode: Mode| runs.iter().any(|run| run.systems.iter().any(|system| system.mode == mode));
    html! {
        h2 { (name) }
        p class="dim" { @for (at, system) in ALL.iter().enumerate() {
            @if runs.iter().any(|run| run.systems.iter().any(|s| s.name == system.to_string())) {
                span class="key" style=(format!("background:var({})", Ink::System(at as u8).variable())) {} (system)
            }
        } span class="key" style="background:var(--bad)" {} "failed" }
        @for mode in modes.into_iter().filter(|mode| has(*mode)) {
            h3 { "Error (" (mode) ")" }
            p class="dim" { "the largest relative RMS of each system" }
            (PreEscaped(chart(runs, mode, "error", |system| system.error, None)))
            h3 { "Error ÷ tolerance (" (mode) ")" }
            p class="dim" { "of the tap nearest to its tolerance; the line at 1 is the tolerance" }
            (PreEscaped(chart(runs, mode, "error over tolerance", SystemEntry::ratio, Some(1.0))))
        }
        (table(runs))
    }
}

fn chart(
    runs: &[&Entry],
    mode: Mode,
    what: &str,
    value: impl Fn(&SystemEntry) -> Option<f64>,
    limit: Option<f64>,
) -> String {
    let all = runs.iter().flat_map(|run| run.systems.iter().filter(|s| s.mode == mode).filter_map(&value));
    let range = decades(all.chain(limit));
    let last = (runs.len() - 1) as f64;
    let label = format!("The {what} of each system, {mode}, on a logarithmic scale, run after run");
    svg(SIZE, &label, |canvas| -> Drawn {
        let mut chart = axes(canvas, -0.5..last + 0.5, range, 24)?;
        let step = runs.len().div_ceil(NAMED).max(1);
        if let Some(limit) = limit {
            let y = log(limit, range);
            chart.draw_series([PathElement::new([(-0.5, y), (last + 0.5, y)], Ink::Dim.color())])?;
        }
        for (place, system) in ALL.iter().enumerate() {
            let name = system.to_string();
            let points: Vec<(f64, f64, bool)> = runs
                .iter()
                .enumerate()
                .filter_map(|(at, run)| {
                    let system = run.system(&name, mode)?;
                    Some((at as f64, log(value(system)?, range), system.failed > 0))
                })
                .collect();
            let ink = Ink::System(place as u8).color();
            chart.draw_series(LineSeries::new(points.iter().map(|(x, y, _)| (*x, *y)), &ink))?;
            chart.draw_series(points.iter().map(|&(x, y, failed)| {
                let ink = if failed { Ink::Bad.color() } else { ink };
                Circle::new((x, y), 3, ink.filled())
            }))?;
        }
        let bottom = f64::from(range.0);
        for (at, run) in runs.iter().enumerate().step_by(step) {
            let (x, y) = chart.backend_coord(&(at as f64, bottom));
            let name: String = short(&run.commit).chars().take(8).collect();
            canvas.draw_text(&name, &label_style(), (x - 24, y + 8))?;
        }
        Ok(())
    })
}

fn table(runs: &[&Entry]) -> Markup {
    let hidden = runs.len().saturating_sub(LISTED);
    html! {
        details {
            summary { (runs.len()) " runs as a table" }
            @if hidden > 0 { p class="dim" { "the last " (LISTED) "; " (hidden) " before them are in the ledger" } }
            div class="wide" { table {
                thead { tr {
                    th scope="col" { "commit" } th scope="col" { "time" } th scope="col" { "verdict" }
                    th scope="col" class="n" { "taps" } th scope="col" class="n" { "failed" } th scope="col" { "by system" }
                } }
                tbody { @for run in runs.iter().skip(hidden) { tr {
                    th scope="row" { code { (short(&run.commit)) } }
                    td { (clean(&run.time)) }
                    td class=(if run.verdict == Verdict::Pass { "pass" } else { "fail" }) { (verdict_word(run.verdict)) }
                    td class="n" { (run.taps) }
                    td class="n" { (run.failed) }
                    td { @for system in &run.systems {
                        (clean(&system.name)) " " (system.mode) " "
                        (system.error.map_or_else(|| "–".to_owned(), scientific))
                        " (" (system.ratio().map_or_else(|| "–".to_owned(), ratio)) ") "
                    } }
                } } }
            } }
        }
    }
}
