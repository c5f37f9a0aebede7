//! Annotations without an appearance, drawn from what they say of themselves: text, lines, frames, highlights, stamps.

use hayro::hayro_syntax::object::{Array, Dict, Name, Object};

use super::{
    annotations::{frame, numbers, text},
    overlay::{Align, Font, Overlay, Style},
};

/// Draws an annotation of this kind; says whether that could be done.
pub fn draw(annotation: &Dict<'_>, kind: &str, overlay: &mut Overlay) -> bool {
    let alpha = annotation.get::<f32>(b"CA").map_or(1.0, f64::from);
    overlay.opacity(alpha, kind == "Highlight");
    let drawn = match kind {
        "FreeText" => free_text(annotation, overlay),
        "Stamp" => stamp(annotation, overlay),
        "Highlight" | "Underline" | "StrikeOut" | "Squiggly" => marked_text(annotation, kind, overlay),
        "Square" | "Circle" => shape(annotation, kind == "Circle", overlay),
        "Line" => {
            annotation.get::<Array<'_>>(b"L").and_then(|ends| lines(annotation, &[numbers(&ends)], false, overlay))
        }
        "Polygon" | "PolyLine" => {
            let corners = annotation.get::<Array<'_>>(b"Vertices");
            corners.and_then(|corners| lines(annotation, &[numbers(&corners)], kind == "Polygon", overlay))
        }
        "Ink" => annotation.get::<Array<'_>>(b"InkList").and_then(|all| {
            let strokes: Vec<Vec<f64>> = all.iter::<Array<'_>>().map(|stroke| numbers(&stroke)).collect();
            lines(annotation, &strokes, false, overlay)
        }),
        "Redact" | "Caret" => shape(annotation, false, overlay),
        _ => None,
    };
    overlay.opaque();
    drawn.is_some()
}

/// A colour of one, three or four numbers, as operands of `g`, `rg` or `k`; `None` where it is no colour or an empty one.
fn colour(annotation: &Dict<'_>, key: &[u8]) -> Option<Vec<f64>> {
    let parts = numbers(&annotation.get::<Array<'_>>(key)?);
    [1, 3, 4].contains(&parts.len()).then_some(parts)
}

/// The width of an annotation's line, in points.
fn line_width(annotation: &Dict<'_>) -> f64 {
    let style = annotation.get::<Dict<'_>>(b"BS").and_then(|style| style.get::<f32>(b"W"));
    let border = || annotation.get::<Array<'_>>(b"Border").and_then(|border| numbers(&border).get(2).copied());
    style.map(f64::from).or_else(border).unwrap_or(1.0).clamp(0.0, 100.0)
}

fn free_text(annotation: &Dict<'_>, overlay: &mut Overlay) -> Option<()> {
    let sides = frame(annotation)?;
    let said = annotation.get::<Object<'_>>(b"Contents").and_then(|object| text(&object)).unwrap_or_default();
    let words = annotation.get::<Object<'_>>(b"DA").and_then(|object| text(&object)).unwrap_or_default();
    let mut style = Style::of(&words);
    style.size = if style.size <= 0.0 { 12.0 } else { style.size };
    style.align = match annotation.get::<i32>(b"Q") {
        Some(1) => Align::Middle,
        Some(2) => Align::Right,
        _ => Align::Left,
    };
    if let Some(paper) = colour(annotation, b"C") {
        overlay.fill_colour(&paper);
        overlay.frame(sides, true, false, 0.0);
    }
    let width =
        if annotation.contains_key(b"BS") || annotation.contains_key(b"Border") { line_width(annotation) } else { 0.0 };
    if width > 0.0 {
        overlay.line_colour(&[0.0]);
        overlay.frame(sides, false, true, width);
    }
    let pad = width + 2.0;
    let inside = [sides[0] + pad, sides[1], sides[2] - pad, sides[3] - pad];
    (overlay.text(inside, &said, true, &style) == 0).then_some(())
}

/// A stamp is its name in capitals, in a frame.
fn stamp(annotation: &Dict<'_>, overlay: &mut Overlay) -> Option<()> {
    let sides = frame(annotation)?;
    let name = annotation.get::<Name<'_>>(b"Name").map_or_else(|| "Draft".to_owned(), |name| name.as_str().to_owned());
    let mut words = String::new();
    for letter in name.trim_start_matches("SB").chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_uppercase());
    }
    let colour = colour(annotation, b"C").unwrap_or_else(|| vec![1.0, 0.0, 0.0]);
    overlay.line_colour(&colour);
    overlay.frame(sides, false, true, 2.0);
    let (width, height) = (sides[2] - sides[0], sides[3] - sides[1]);
    let wide = Font::Bold.width(&words, 1.0).max(0.1);
    let size = (height * 0.6).min(width * 0.85 / wide).max(1.0);
    let style = Style { size, colour, align: Align::Middle, font: Font::Bold };
    (overlay.text(sides, &words, false, &style) == 0).then_some(())
}

/// Four corners of each marked piece of text: top left, top right, bottom left, bottom right.
fn marked_text(annotation: &Dict<'_>, kind: &str, overlay: &mut Overlay) -> Option<()> {
    let quads = annotation.get::<Array<'_>>(b"QuadPoints").map(|all| numbers(&all)).unwrap_or_default();
    let colour =
        colour(annotation, b"C").unwrap_or_else(|| if kind == "Highlight" { vec![1.0, 1.0, 0.0] } else { vec![0.0] });
    overlay.fill_colour(&colour);
    overlay.line_colour(&colour);
    for quad in quads.chunks_exact(8) {
        let point = |at: usize| [quad[2 * at], quad[2 * at + 1]];
        let between = |a: [f64; 2], b: [f64; 2], part: f64| [a[0] + (b[0] - a[0]) * part, a[1] + (b[1] - a[1]) * part];
        if kind == "Highlight" {
            overlay.area(&[point(0), point(1), point(3), point(2)]);
        } else {
            let part = if kind == "StrikeOut" { 0.5 } else { 0.05 };
            let ends = [between(point(2), point(0), part), between(point(3), point(1), part)];
            overlay.path(&ends, false, 1.0);
        }
    }
    (quads.len() >= 8).then_some(())
}

fn shape(annotation: &Dict<'_>, is_round: bool, overlay: &mut Overlay) -> Option<()> {
    let [left, bottom, right, top] = frame(annotation)?;
    let inset = annotation.get::<Array<'_>>(b"RD").map(|all| numbers(&all)).filter(|all| all.len() == 4);
    let inset = inset.unwrap_or_else(|| vec![0.0; 4]);
    let sides = [left + inset[0], bottom + inset[1], right - inset[2], top - inset[3]];
    let (paper, width) = (colour(annotation, b"IC"), line_width(annotation));
    let ink = colour(annotation, b"C").or_else(|| paper.is_none().then(|| vec![0.0]));
    if let Some(paper) = &paper {
        overlay.fill_colour(paper);
    }
    if let Some(ink) = &ink {
        overlay.line_colour(ink);
    }
    let has_line = ink.is_some() && width > 0.0;
    if is_round {
        overlay.ellipse(sides, paper.is_some(), has_line, width);
    } else {
        overlay.frame(sides, paper.is_some(), has_line, width);
    }
    Some(())
}

/// Lines through points, each a list of x, y, x, y, ….
fn lines(annotation: &Dict<'_>, all: &[Vec<f64>], is_closed: bool, overlay: &mut Overlay) -> Option<()> {
    overlay.line_colour(&colour(annotation, b"C").unwrap_or_else(|| vec![0.0]));
    let mut drawn = None;
    for line in all {
        let points: Vec<[f64; 2]> = line.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect();
        if points.len() > 1 {
            overlay.path(&points, is_closed, line_width(annotation));
            drawn = Some(());
        }
    }
    drawn
}
