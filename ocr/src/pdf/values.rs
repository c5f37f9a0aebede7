//! A form field's value, drawn into its frame where its widget has no appearance that shows it: text, a choice, a tick.

use hayro::hayro_syntax::object::{Array, Dict, Name, Object};

use super::{
    annotations::{appearance, frame, has_appearance, numbers, text},
    overlay::{Align, Font, Overlay, Style},
};

/// The most parents of a field that are asked for what it inherits.
const DEPTH: usize = 16;
/// Flags of text fields: several lines; a secret; a cell for each character.
const SEVERAL_LINES: u32 = 1 << 12;
const SECRET: u32 = 1 << 13;
const COMB: u32 = 1 << 24;
/// Flag of choices: a list that folds up to one line.
const FOLDED: u32 = 1 << 17;
/// Flag of buttons: one that does something, and has no value.
const PUSHED: u32 = 1 << 16;
/// Points between a field's frame and its text.
const PADDING: f64 = 2.0;

/// Draws the value of a widget that does not show it by itself. Returns the value where it cannot be drawn.
pub fn draw(widget: &Dict<'_>, overlay: &mut Overlay) -> Option<String> {
    let kind = inherited(widget, b"FT")?.into_name()?;
    if !has_appearance(widget) {
        border(widget, overlay);
    }
    let flags = inherited(widget, b"Ff").and_then(|object| object.into_i32()).unwrap_or(0) as u32;
    if kind.as_str() == "Btn" {
        return tick(widget, flags, overlay);
    }
    if !["Tx", "Ch"].contains(&kind.as_str()) {
        return None;
    }
    let value = text(&inherited(widget, b"V")?)?;
    if value.trim().is_empty() || shows_text(widget) {
        return None;
    }
    let value = if kind.as_str() == "Tx" && flags & SECRET != 0 { "*".repeat(value.chars().count()) } else { value };
    let value = if kind.as_str() == "Ch" { exported(widget, &value).unwrap_or(value) } else { value };
    let quoted = format!("{:?}", value.chars().take(60).collect::<String>());
    let Some(sides) = frame(widget) else { return Some(quoted) };
    let several = flags & if kind.as_str() == "Ch" { FOLDED } else { SEVERAL_LINES };
    let several = (several != 0) == (kind.as_str() == "Tx");
    let style = style(widget, sides, several, &value);
    let inside = [sides[0] + PADDING, sides[1], sides[2] - PADDING, sides[3]];
    let cells = inherited(widget, b"MaxLen").and_then(|object| object.into_i32()).filter(|cells| *cells > 0);
    let lost = match cells.filter(|_| flags & COMB != 0 && !several) {
        Some(cells) => overlay.cells(sides, cells as usize, &value, &style),
        None => overlay.text(inside, &value, several, &style),
    };
    (lost > 0).then(|| format!("{quoted} ({lost} characters)"))
}

/// The frame of a field, where it has colours of its own.
fn border(widget: &Dict<'_>, overlay: &mut Overlay) {
    let Some((look, sides)) = widget.get::<Dict<'_>>(b"MK").zip(frame(widget)) else { return };
    let colour = |key: &[u8]| look.get::<Array<'_>>(key).map(|parts| numbers(&parts)).filter(|parts| !parts.is_empty());
    let width = widget.get::<Dict<'_>>(b"BS").and_then(|style| style.get::<f32>(b"W")).map_or(1.0, f64::from);
    if let Some(paper) = colour(b"BG") {
        overlay.fill_colour(&paper);
        overlay.frame(sides, true, false, 0.0);
    }
    if let Some(ink) = colour(b"BC").filter(|_| width > 0.0) {
        overlay.line_colour(&ink);
        overlay.frame(sides, false, true, width.min(20.0));
    }
}

/// A box that is ticked.
fn tick(widget: &Dict<'_>, flags: u32, overlay: &mut Overlay) -> Option<String> {
    if flags & PUSHED != 0 || has_appearance(widget) {
        return None;
    }
    let name = |object: Object<'_>| object.into_name().map(|name| name.as_str().to_owned());
    let state = widget.get::<Name<'_>>(b"AS").map(|name| name.as_str().to_owned());
    let state = state.or_else(|| inherited(widget, b"V").and_then(name))?;
    if state == "Off" || state.is_empty() {
        return None;
    }
    let Some(sides) = frame(widget) else { return Some(format!("{state:?}")) };
    overlay.tick(sides);
    None
}

/// Whether the widget's own appearance writes something.
fn shows_text(widget: &Dict<'_>) -> bool {
    let Some(stream) = appearance(widget) else { return false };
    let Ok(contents) = stream.decoded() else { return false };
    // A form inside may hold the text.
    contents.windows(2).any(|word| [*b"Tj", *b"TJ", *b"Do", *b" '", *b")\"", *b")'"].contains(&[word[0], word[1]]))
}

/// What a choice shows for its value: an option may be a pair of both.
fn exported(widget: &Dict<'_>, value: &str) -> Option<String> {
    let Some(Object::Array(options)) = inherited(widget, b"Opt") else { return None };
    options.iter::<Object<'_>>().take(10_000).find_map(|option| {
        let Object::Array(pair) = option else { return None };
        let both: Vec<String> = pair.iter::<Object<'_>>().filter_map(|object| text(&object)).collect();
        (both.len() == 2 && both[0] == value).then(|| both[1].clone())
    })
}

/// Size and colour, out of `0 0 1 rg /Helv 12 Tf`; a size of 0 is one that fits.
fn style(widget: &Dict<'_>, sides: [f64; 4], several: bool, value: &str) -> Style {
    let words = inherited(widget, b"DA").and_then(|object| text(&object)).unwrap_or_default();
    let mut style = Style::of(&words);
    if style.size <= 0.0 {
        let height = sides[3] - sides[1];
        let lines = if several { value.lines().count().max(1) as f64 } else { 1.0 };
        style.size = (height / lines * 0.75).clamp(4.0, 12.0);
        let width = Font::Plain.width(value, style.size);
        let room = sides[2] - sides[0] - 2.0 * PADDING;
        if !several && width > room && width > 0.0 {
            style.size = (style.size * room / width).max(4.0);
        }
    }
    style.align = match inherited(widget, b"Q").and_then(|object| object.into_i32()) {
        Some(1) => Align::Middle,
        Some(2) => Align::Right,
        _ => Align::Left,
    };
    style
}

/// What a field says itself, or one above it.
fn inherited<'a>(field: &Dict<'a>, key: &[u8]) -> Option<Object<'a>> {
    let mut at = field.clone();
    for _ in 0..DEPTH {
        if let Some(found) = at.get::<Object<'a>>(key) {
            return Some(found);
        }
        at = at.get::<Dict<'a>>(b"Parent")?;
    }
    None
}
