//! What the model says of a geometric figure, and its plot: `geo.jpg` of the release (`infer` of `modeling_deepseekocr.py`; circles as in
//! `run_dpsk_ocr_image.py`). There the text is handed to Python's `eval`; here it is read as data.
//!
//! ```text
//! {'Line': {'line': ['(0, 0) -- (3, 4)', …], 'line_type': ['--', …], 'line_endpoint': ['A: (0, 0)', …]},
//!  'Circle': {'circle_center': ['O: (1, 1)', …], 'radius': [2, …]}}
//! ```

mod literal;
mod plot;

use literal::{Literal, read};
pub use plot::plot;

/// A figure.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figure {
    /// Lines from point to point, in the figure's units (−15 to 15 are shown).
    pub lines: Vec<[Point; 2]>,
    /// Points with their names.
    pub points: Vec<(String, Point)>,
    /// Circles: centre and radius.
    pub circles: Vec<(Point, f64)>,
    /// Lines, points and circles that could not be read and are left out.
    pub left_out: usize,
}

/// x to the right, y upwards.
pub type Point = [f64; 2];

/// Why a text is no figure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// It is not one Python literal.
    #[error("byte {at}: expected {expected}, found {found}")]
    Syntax {
        /// The byte, from 0.
        at: usize,
        /// What may stand there.
        expected: &'static str,
        /// What does.
        found: String,
    },
    /// It lacks what a figure has.
    #[error("expected a list in {0}")]
    Missing(&'static str),
}

/// Whether a page's text is to be plotted, as the release decides it.
#[must_use]
pub fn is_figure(text: &str) -> bool {
    text.contains("line_type")
}

/// The figure that a page's text describes. Lines that cannot be read are left out, as in the release; so are points and circles, where that stops.
///
/// # Errors
/// When the text is anything but one literal, or lacks a list of lines, of their types or of their ends.
pub fn figure(text: &str) -> Result<Figure, GeometryError> {
    let whole = read(text)?;
    let list = |place: &'static str, part: &str, name: &str| {
        whole.get(part).and_then(|part| part.get(name)).and_then(Literal::items).ok_or(GeometryError::Missing(place))
    };
    let lines = list("['Line']['line']", "Line", "line")?;
    let types = list("['Line']['line_type']", "Line", "line_type")?;
    let ends = list("['Line']['line_endpoint']", "Line", "line_endpoint")?;
    let mut figure = Figure::default();
    for (at, written) in lines.iter().enumerate() {
        // A line without a type is not drawn; which one it is makes no difference there.
        let line = line(written).filter(|_| at < types.len());
        figure.left_out += usize::from(line.is_none());
        figure.lines.extend(line);
    }
    for end in ends {
        let point = named(end);
        figure.left_out += usize::from(point.is_none());
        figure.points.extend(point);
    }
    if whole.get("Circle").is_some() {
        let centres = list("['Circle']['circle_center']", "Circle", "circle_center")?;
        let radii = list("['Circle']['radius']", "Circle", "radius")?;
        for (centre, radius) in centres.iter().zip(radii) {
            let circle = named(centre).map(|(_, centre)| centre).zip(drawable(radius).filter(|radius| *radius >= 0.0));
            figure.left_out += usize::from(circle.is_none());
            figure.circles.extend(circle);
        }
        figure.left_out += centres.len().abs_diff(radii.len());
    }
    Ok(figure)
}

/// `(0, 0) -- (3, 4)`.
fn line(written: &Literal) -> Option<[Point; 2]> {
    let Literal::Text(text) = written else { return None };
    Some([point(text.split(" -- ").next()?)?, point(text.rsplit(" -- ").next()?)?])
}

/// `A: (0, 0)`.
fn named(written: &Literal) -> Option<(String, Point)> {
    let Literal::Text(text) = written else { return None };
    let mut parts = text.split(": ");
    let name = parts.next()?.to_owned();
    Some((name, point(parts.next()?)?))
}

fn point(text: &str) -> Option<Point> {
    match read(text).ok()?.items()? {
        [x, y] => Some([drawable(x)?, drawable(y)?]),
        _ => None,
    }
}

/// A number that a plot from −15 to 15 can have a use for.
fn drawable(value: &Literal) -> Option<f64> {
    value.number().filter(|number| number.abs() <= 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_read_and_what_cannot_be_drawn_is_counted() {
        let text = "{'Line': {'line': ['(0, 0) -- (3.5, -4)', '[1,2] -- x -- (5, 6)', 'A -- B', '(1, 2)', 7, '(1, 1) -- (2, 2)'], \
                    'line_type': ['--', '-', '--', '--', '--'], 'line_endpoint': ['A: (0, 0)', 'B: C: (1, 1)', '(3, 4)', 'É1: (-1e1, 2)']}, \
                    'Circle': {'circle_center': ['O: (1, 1)', 'P: (2,)', 'Q: (0, 0)', 'R: (1, 2)'], 'radius': [2, 3, -1]}}";
        assert!(is_figure(text));
        let figure = figure(text).expect("a figure");
        assert_eq!(figure.lines, [[[0., 0.], [3.5, -4.]], [[1., 2.], [5., 6.]], [[1., 2.], [1., 2.]]]);
        assert_eq!(figure.points, [("A".to_owned(), [0., 0.]), ("É1".to_owned(), [-10., 2.])]);
        assert_eq!(figure.circles, [([1., 1.], 2.)]);
        // A line of names, a number, a line beyond the types; two points; two circles, and a centre without a radius.
        assert_eq!(figure.left_out, 3 + 2 + 3);
    }

    #[test]
    fn what_is_no_figure_is_told() {
        let told = |text: &str| figure(text).expect_err(text).to_string();
        assert_eq!(told("The line_type is --."), "byte 0: expected a value, found \"The line_type is --.\"");
        assert_eq!(told("{'Line': {'line': []}, 'line_type': []}"), "expected a list in ['Line']['line_type']");
        let text = "{'Line': {'line': [], 'line_type': [], 'line_endpoint': []}, 'Circle': 'O'}";
        assert_eq!(told(text), "expected a list in ['Circle']['circle_center']");
        assert!(told("[]").contains("['Line']['line']"));
    }
}
