//! The chart of error against tolerance along depth, drawn here as SVG: no script is needed to see it.

use std::collections::HashMap;

use maud::{Markup, PreEscaped, html};
use mlxport_verdict::{Mode, Run, TapId, TapRecord};
use plotters::prelude::{AreaSeries, Circle, Color as _, PathElement};

use crate::draw::{Drawn, Ink, axes, decades, label_style, log, svg};
use crate::system::System;

const SIZE: (u32, u32) = (1000, 320);
/// What a screen reader says of the chart.
const LABEL: &str = "Error against tolerance at every tap: relative RMS on a logarithmic scale, taps in execution order. The same \
                     numbers are in the table below.";
/// A system that takes less of the chart's width than this has no room for its name.
const NAMED_SHARE: f64 = 0.04;

/// The colour of what is compared of the tuned steps: a few dots.
const TUNED: Ink = Ink::System(3);

/// The chart: floor and tolerance as bands, cumulative and isolated errors as dots, failures larger and red. Every dot says in
/// `data-t` which tap of the record it is.
pub(super) fn chart(run: &Run) -> Markup {
    let banded = banded(run);
    html! {
        figure {
            (PreEscaped(named_dots(&chart_alone(run), &dots(run))))
            figcaption class="dim" {
                @for (mode, ink) in [(Mode::Cumulative, Ink::One), (Mode::Isolated, Ink::Two), (Mode::Tuned, TUNED)] {
                    @if run.modes.contains(&mode) { (key("key", ink)) (mode) }
                }
                @if run.taps.iter().any(|tap| !tap.passed()) { (key("key", Ink::Bad)) "failed" }
                (key("key band", Ink::Floor)) "up to the floor"
                (key("key band", Ink::Tolerance)) "up to the tolerance"
                @if run.modes.len() > 1 { " (both " (banded) ")" }
                // What is pointed at, or stood on: the page's script fills it.
                p id="under" role="status" {}
            }
        }
    }
}

/// The SVG alone, with colours as variables that the page around it must define.
pub(crate) fn chart_alone(run: &Run) -> String {
    drawn(run, &places(run), banded(run))
}

/// The mode whose floors and tolerances are the bands.
fn banded(run: &Run) -> Mode {
    if run.modes.contains(&Mode::Cumulative) { Mode::Cumulative } else { Mode::Isolated }
}

/// A patch of a colour, before what it stands for.
fn key(class: &str, ink: Ink) -> Markup {
    html! { span class=(class) style=(format!("background:var({})", ink.variable())) {} }
}

/// Along x: taps in the order of the record, a tensor of both modes at one place.
fn places(run: &Run) -> HashMap<TapId, usize> {
    let mut places = HashMap::new();
    for tap in &run.taps {
        let next = places.len();
        places.entry(tap.id()).or_insert(next);
    }
    places
}

/// Whose dots are drawn, in the order of drawing: those that failed last, so that they are on top.
fn dots(run: &Run) -> Vec<(usize, &TapRecord)> {
    let series = [true, false].into_iter().flat_map(|passed| Mode::ALL.map(|mode| (mode, passed)));
    let of = |(mode, passed)| {
        let measured = run.taps.iter().enumerate().filter(|(_, tap)| tap.error().is_some());
        measured.filter(move |(_, tap)| tap.mode == mode && tap.passed() == passed)
    };
    series.flat_map(of).collect()
}

fn drawn(run: &Run, places: &HashMap<TapId, usize>, banded: Mode) -> String {
    let place = |tap: &TapRecord| places.get(&tap.id()).copied().unwrap_or_default() as f64;
    let values = run.taps.iter().flat_map(|tap| {
        let tolerance = tap.tolerance.as_ref();
        [tap.error(), tolerance.map(|t| t.floor), tolerance.map(|t| t.value)].into_iter().flatten()
    });
    let range = decades(values);
    let (low, high) = (f64::from(range.0), f64::from(range.1));
    let count = places.len().max(1) as f64;
    let bands: Vec<(f64, f64, f64)> = run
        .taps
        .iter()
        .filter(|tap| tap.mode == banded)
        .filter_map(|tap| tap.tolerance.map(|t| (place(tap), log(t.value, range), log(t.floor, range))))
        .collect();
    svg(SIZE, LABEL, |canvas| -> Drawn {
        let mut chart = axes(canvas, -1.0..count, range, 22)?;
        let band = |ink: Ink, of: fn(&(f64, f64, f64)) -> f64| {
            AreaSeries::new(bands.iter().map(|b| (b.0, of(b))).collect::<Vec<_>>(), low, ink.color())
        };
        chart.draw_series(band(Ink::Tolerance, |b| b.1))?;
        chart.draw_series(band(Ink::Floor, |b| b.2))?;
        for (system, from, to) in spans(run, places) {
            if from > 0.0 {
                let edge = [(from - 0.5, low), (from - 0.5, high)];
                chart.draw_series([PathElement::new(edge, Ink::Line.color())])?;
            }
            if (to - from) / count >= NAMED_SHARE {
                let (x, y) = chart.backend_coord(&(from, low));
                canvas.draw_text(&system.to_string(), &label_style(), (x, y + 6))?;
            }
        }
        chart.draw_series(dots(run).into_iter().map(|(_, tap)| {
            let at = (place(tap), log(tap.error().unwrap_or(f64::NAN), range));
            match (tap.passed(), tap.mode) {
                (false, _) => Circle::new(at, 3, Ink::Bad.color().filled()),
                (true, Mode::Cumulative) => Circle::new(at, 2, Ink::One.color().filled()),
                (true, Mode::Isolated) => Circle::new(at, 2, Ink::Two.color().filled()),
                (true, Mode::Tuned) => Circle::new(at, 3, TUNED.color().filled()),
            }
        }))?;
        Ok(())
    })
}

/// Where a system is entered and where it is left, in places.
fn spans(run: &Run, places: &HashMap<TapId, usize>) -> Vec<(System, f64, f64)> {
    let mut ordered: Vec<(usize, System)> =
        run.taps.iter().filter_map(|tap| Some((*places.get(&tap.id())?, System::of(&tap.point)))).collect();
    ordered.sort_unstable();
    let mut spans: Vec<(System, f64, f64)> = Vec::new();
    for (place, system) in ordered {
        match spans.last_mut() {
            Some(last) if last.0 == system => last.2 = place as f64,
            _ => spans.push((system, place as f64, place as f64)),
        }
    }
    spans
}

/// Gives every dot its tap: plotters draws them in the order they are given.
fn named_dots(svg: &str, dots: &[(usize, &TapRecord)]) -> String {
    const DOT: &str = "<circle ";
    let mut parts = svg.split(DOT);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for (part, (tap, _)) in parts.zip(dots) {
        text.push_str(&format!("{DOT}data-t=\"{tap}\" {part}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn every_measured_tap_is_a_dot_that_knows_it() {
        for run in [samples::passing(), samples::failing(), samples::compared()] {
            let text = chart(&run).into_string();
            let measured: Vec<usize> = (0..run.taps.len()).filter(|&at| run.taps[at].error().is_some()).collect();
            assert_eq!(text.matches("<circle ").count(), measured.len());
            for at in measured {
                assert_eq!(text.matches(&format!("data-t=\"{at}\"")).count(), 1, "{at}");
            }
            assert_eq!(text.matches("<polygon").count(), 2, "two bands");
        }
        let text = chart(&samples::nothing()).into_string();
        assert!(text.contains("<svg") && !text.contains("<circle"));
    }

    #[test]
    fn the_legend_names_what_is_drawn() {
        let has = |run: &Run| {
            let text = chart(run).into_string();
            ["isolated", "failed", "(both cumulative)"].map(|word| text.contains(word))
        };
        assert_eq!(has(&samples::passing()), [true, false, true]);
        assert_eq!(has(&samples::failing()), [true, true, true]);
        assert_eq!(has(&samples::compared()), [false, true, false]);
    }

    #[test]
    fn systems_are_spans_in_execution_order() {
        let run = samples::passing();
        let names: Vec<_> = spans(&run, &places(&run)).into_iter().map(|(system, ..)| system.to_string()).collect();
        assert_eq!(names, ["decoder", "SAM", "CLIP", "projector", "decoder", "head", "decoder"]);
    }

    #[test]
    fn what_is_not_finite_or_nothing_is_drawn_all_the_same() {
        let mut run = samples::failing();
        let errors = [f64::NAN, f64::INFINITY, 0.0, 1e-300, 1e300];
        for (tap, error) in run.taps.iter_mut().zip(errors) {
            tap.metrics.as_mut().expect("measured").rel_rms = error;
        }
        let svg = chart(&run).into_string();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
