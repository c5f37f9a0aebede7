//! The chart of error against tolerance along depth, as SVG drawn here: no script is needed to see it.

use std::collections::HashMap;
use std::fmt::Write as _;

use maud::{Markup, html};
use mlxport_verdict::{Mode, Run, TapId, TapRecord};

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 48.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 270.0;
/// Powers of ten the axis may span, so that one absurd number leaves the rest readable.
const MAX_DECADES: i32 = 24;

/// Where numbers lie: taps along x in the order of the record, log10 of a relative RMS along y.
struct Axes {
    places: HashMap<TapId, usize>,
    low: i32,
    high: i32,
}

impl Axes {
    fn of(run: &Run) -> Self {
        let mut places = HashMap::new();
        for tap in &run.taps {
            let next = places.len();
            places.entry(tap.id()).or_insert(next);
        }
        let values = run.taps.iter().flat_map(|tap| {
            let tolerance = tap.tolerance.as_ref();
            [tap.error(), tolerance.map(|t| t.floor), tolerance.map(|t| t.value)].into_iter().flatten()
        });
        let logs: Vec<f64> = values.filter(|v| v.is_finite() && *v > 0.0).map(f64::log10).collect();
        let low = logs.iter().copied().fold(f64::INFINITY, f64::min);
        let high = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if logs.is_empty() { (-8, 0) } else { (low.floor() as i32, high.ceil() as i32) };
        let high = high.max(low + 1);
        Self { places, low: low.max(high - MAX_DECADES), high }
    }

    fn x(&self, tap: &TapRecord) -> f64 {
        let place = self.places.get(&tap.id()).copied().unwrap_or_default() as f64;
        LEFT + 8.0 + (WIDTH - LEFT - 16.0) * (place + 0.5) / self.places.len().max(1) as f64
    }

    /// Zero is the lowest line, what is not finite the highest.
    fn y(&self, value: f64) -> f64 {
        let (low, high) = (f64::from(self.low), f64::from(self.high));
        let log = if value.is_finite() { value.max(f64::MIN_POSITIVE).log10().clamp(low, high) } else { high };
        BOTTOM - (BOTTOM - TOP) * (log - low) / (high - low)
    }
}

/// The chart: floor and tolerance as bands, cumulative and isolated errors as dots, failures larger and red.
pub(super) fn chart(run: &Run) -> Markup {
    let axes = Axes::of(run);
    let banded = if run.modes.contains(&Mode::Cumulative) { Mode::Cumulative } else { Mode::Isolated };
    let measured: Vec<&TapRecord> =
        run.taps.iter().filter(|tap| tap.mode == banded && tap.tolerance.is_some()).collect();
    let band = |value: fn(&TapRecord) -> f64| band(&axes, &measured, value);
    let decades: Vec<i32> = (axes.low..=axes.high).step_by(if axes.high - axes.low > 12 { 3 } else { 1 }).collect();
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-labelledby="chart-title chart-text" {
            title id="chart-title" { "Error against tolerance at every tap" }
            desc id="chart-text" { "Relative RMS error on a logarithmic scale, taps in execution order. The same numbers are in the table below." }
            @for decade in decades {
                @let y = format!("{:.1}", axes.y(10f64.powi(decade)));
                line class="grid" x1=(LEFT) x2=(WIDTH) y1=(y) y2=(y) {}
                text x=(LEFT - 6.0) y=(y) text-anchor="end" dominant-baseline="middle" { "1e" (decade) }
            }
            path class="tol" d=(band(|tap| tap.tolerance.as_ref().map_or(0.0, |t| t.value))) {}
            path class="floor" d=(band(|tap| tap.tolerance.as_ref().map_or(0.0, |t| t.floor))) {}
            @for mode in [Mode::Cumulative, Mode::Isolated] {
                path class=(format!("dots {mode}")) d=(dots(&axes, run, |tap| tap.mode == mode && tap.passed())) {}
            }
            @for mode in [Mode::Cumulative, Mode::Isolated] {
                path class=(format!("dots over {mode}-over")) d=(dots(&axes, run, |tap| tap.mode == mode && !tap.passed())) {}
            }
            text x=(LEFT + 8.0) y="288" { "first tap" }
            text x=(WIDTH - 8.0) y="288" text-anchor="end" { "last tap" }
        }
        p class="dim" {
            span class="key" style="background:var(--one)" {} "cumulative"
            span class="key" style="background:var(--two)" {} "isolated"
            span class="key" style="background:var(--bad)" {} "failed"
            span class="key" style="background:var(--floor)" {} "up to the floor"
            span class="key" style="background:var(--tol)" {} "up to the tolerance (both " (banded) ")"
        }
    }
}

/// The area from the lowest line up to a value of every tap.
fn band(axes: &Axes, taps: &[&TapRecord], value: fn(&TapRecord) -> f64) -> String {
    let (Some(first), Some(last)) = (taps.first(), taps.last()) else { return String::new() };
    let mut path = format!("M{:.1} {BOTTOM}", axes.x(first));
    for tap in taps {
        let _ = write!(path, "L{:.1} {:.1}", axes.x(tap), axes.y(value(tap)));
    }
    let _ = write!(path, "L{:.1} {BOTTOM}Z", axes.x(last));
    path
}

/// One path for a whole series: a stroke of no length with round ends is a dot.
fn dots(axes: &Axes, run: &Run, wanted: impl Fn(&TapRecord) -> bool) -> String {
    let mut path = String::new();
    for tap in run.taps.iter().filter(|tap| wanted(tap)) {
        let Some(error) = tap.error() else { continue };
        let _ = write!(path, "M{:.1} {:.1}h0", axes.x(tap), axes.y(error));
    }
    path
}
