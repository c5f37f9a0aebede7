//! What the model says of a geometric figure: a Python literal, read and plotted. Input: the text.

use mlxport_ocr::geometry::{GeometryError, figure, plot};

/// More than a text of the most tokens has, in bytes.
const LONGEST: usize = 64 << 10;

/// Reads a figure and plots it.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.len() > LONGEST {
        return;
    }
    match figure(text) {
        Ok(figure) => {
            let points = figure.lines.iter().flatten().chain(figure.points.iter().map(|(_, point)| point));
            let mut numbers = points.chain(figure.circles.iter().map(|(centre, _)| centre)).flatten();
            assert!(numbers.all(|number| number.abs() <= 1e9), "{figure:?}");
            assert!(figure.circles.iter().all(|(_, radius)| (0.0..=1e9).contains(radius)), "{figure:?}");
            assert!(figure.lines.len() + figure.points.len() + figure.circles.len() + figure.left_out <= text.len());
            let page = plot(&figure);
            assert_eq!((page.width(), page.height()), (600, 600));
        }
        Err(GeometryError::Syntax { at, found, .. }) => {
            assert!(at <= text.len() && text.is_char_boundary(at) && !found.is_empty());
            assert_eq!(found == "the end", at == text.len(), "byte {at}: {found}");
        }
        Err(GeometryError::Missing(place)) => assert!(place.starts_with("['")),
    }
}
