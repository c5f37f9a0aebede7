//! What every chart shares: plotters draws to SVG, whose colours become the page's own, light and dark.
//!
//! plotters knows only fixed colours. So each [`Ink`] is a colour that no chart uses otherwise, and in the finished text it is
//! replaced by the CSS variable of that name.

use std::ops::Range;

use plotters::chart::ChartContext;
use plotters::coord::{Shift, types::RangedCoordf64};
use plotters::prelude::{
    Cartesian2d, ChartBuilder, Color as _, DrawingArea, IntoDrawingArea as _, IntoFont as _, RGBColor, SVGBackend,
};
use plotters::style::TextStyle;

/// A colour of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    /// Axis labels.
    Dim,
    /// Grid lines.
    Line,
    /// Cumulative.
    One,
    /// Isolated.
    Two,
    /// Failed.
    Bad,
    /// Up to the floor.
    Floor,
    /// Up to the tolerance.
    Tolerance,
    /// One of the systems, by its place among them.
    System(u8),
}

/// How many systems have a colour of their own.
const SYSTEMS: u8 = 6;

impl Ink {
    /// The name of its CSS variable.
    pub(crate) fn variable(self) -> String {
        match self {
            Self::Dim => "--dim".to_owned(),
            Self::Line => "--line".to_owned(),
            Self::One => "--one".to_owned(),
            Self::Two => "--two".to_owned(),
            Self::Bad => "--bad".to_owned(),
            Self::Floor => "--floor".to_owned(),
            Self::Tolerance => "--tol".to_owned(),
            Self::System(place) => format!("--s{}", place % SYSTEMS),
        }
    }

    /// The colour that stands for it until the drawing is done.
    pub(crate) fn color(self) -> RGBColor {
        let place = Self::all().iter().position(|ink| *ink == self).unwrap_or_default();
        RGBColor(0xfe, 0xdc, place as u8)
    }

    fn all() -> Vec<Self> {
        let named = [Self::Dim, Self::Line, Self::One, Self::Two, Self::Bad, Self::Floor, Self::Tolerance];
        named.into_iter().chain((0..SYSTEMS).map(Self::System)).collect()
    }
}

/// Where a chart is drawn.
pub(crate) type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// What may go wrong in it: nothing, for it writes to memory.
pub(crate) type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Draws an SVG of `width` by `height` that scales with the page; `label` is what a screen reader says of it.
///
/// The canvas is memory, so drawing cannot fail; what plotters could not draw is left out.
pub(crate) fn svg((width, height): (u32, u32), label: &str, draw: impl FnOnce(&Canvas<'_>) -> Drawn) -> String {
    let mut text = String::new();
    {
        let canvas = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
        let _ = draw(&canvas);
        let _ = canvas.present();
    }
    let Some(end) = text.find('>') else { return String::new() };
    let label = label.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    let mut body = text.split_off(end + 1).replace('\n', "");
    for ink in Ink::all() {
        let RGBColor(r, g, b) = ink.color();
        body = body.replace(&format!("\"#{r:02X}{g:02X}{b:02X}\""), &format!("\"var({})\"", ink.variable()));
    }
    format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{label}\">{body}")
}

/// What is drawn on: taps or runs along x, powers of ten along y.
pub(crate) type Axes<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Axes without names along x (`below` pixels are left for them), and a line at each power of ten in `range` (as [`decades`] gives it).
///
/// # Errors
/// When plotters cannot draw them: never, in memory.
pub(crate) fn axes<'a, 'b>(
    canvas: &'a Canvas<'b>,
    x: Range<f64>,
    range: (i32, i32),
    below: u32,
) -> Result<Axes<'a, 'b>, Box<dyn std::error::Error>> {
    let mut chart = ChartBuilder::on(canvas)
        .margin(8)
        .x_label_area_size(below)
        .y_label_area_size(44)
        .build_cartesian_2d(x, f64::from(range.0)..f64::from(range.1))?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(Ink::Line.color().mix(0.0))
        .bold_line_style(Ink::Line.color())
        .axis_style(Ink::Line.color())
        .label_style(label_style())
        .x_labels(0)
        .y_labels((range.1 - range.0 + 1) as usize)
        .y_label_formatter(&power)
        .draw()?;
    Ok(chart)
}

/// How names along the axes look.
pub(crate) fn label_style() -> TextStyle<'static> {
    ("sans-serif", 11).into_font().color(&Ink::Dim.color())
}

/// The powers of ten between which all of `values` lie that are finite and above 0; never more than 24 of them, the largest kept,
/// so that one absurd number leaves the rest readable.
pub(crate) fn decades(values: impl Iterator<Item = f64>) -> (i32, i32) {
    const MOST: i32 = 24;
    let logs: Vec<f64> = values.filter(|v| v.is_finite() && *v > 0.0).map(f64::log10).collect();
    if logs.is_empty() {
        return (-8, 0);
    }
    let low = logs.iter().copied().fold(f64::INFINITY, f64::min).floor() as i32;
    let high = (logs.iter().copied().fold(f64::NEG_INFINITY, f64::max).ceil() as i32).max(low + 1);
    (low.max(high - MOST), high)
}

/// log10, clamped: zero is the lowest line, what is not finite the highest.
pub(crate) fn log(value: f64, (low, high): (i32, i32)) -> f64 {
    let (low, high) = (f64::from(low), f64::from(high));
    if value.is_finite() { value.max(f64::MIN_POSITIVE).log10().clamp(low, high) } else { high }
}

/// `1e-7`: the label of a whole power; nothing for what lies between.
fn power(log: &f64) -> String {
    if (log - log.round()).abs() < 1e-6 { format!("1e{}", log.round()) } else { String::new() }
}

#[cfg(test)]
mod tests {
    use plotters::prelude::{Circle, Color as _};

    use super::*;

    #[test]
    fn colours_become_the_pages_own_and_labels_are_data() {
        let text = svg((100, 50), "a \"<b>\" & c", |canvas| {
            for (at, ink) in Ink::all().into_iter().enumerate() {
                canvas.draw(&Circle::new((at as i32, 5), 2, ink.color().filled()))?;
            }
            Ok(())
        });
        assert!(
            text.starts_with("<svg viewBox=\"0 0 100 50\" role=\"img\" aria-label=\"a &quot;&lt;b>&quot; &amp; c\">")
        );
        assert!(text.trim_end().ends_with("</svg>"), "{text}");
        assert!(!text.contains("\"#") && !text.contains("http"), "{text}");
        for ink in Ink::all() {
            assert!(text.contains(&format!("\"var({})\"", ink.variable())), "{ink:?}: {text}");
        }
    }

    #[test]
    fn decades_hold_the_values_and_no_more_than_can_be_read() {
        assert_eq!(decades([1e-7, 3e-6, f64::NAN, 0.0].into_iter()), (-7, -5));
        assert_eq!(decades([1.0].into_iter()), (0, 1));
        assert_eq!(decades([].into_iter()), (-8, 0));
        assert_eq!(decades([1e-300, 1e300].into_iter()), (276, 300));
        assert_eq!((log(0.0, (-7, -5)), log(f64::NAN, (-7, -5)), log(1e-6, (-7, -5))), (-7.0, -5.0, -6.0));
        assert_eq!((power(&-6.0), power(&-6.5)), ("1e-6".to_owned(), String::new()));
    }
}
