//! What lies on a page and has no appearance of its own: form values and annotations. They are drawn over the page by
//! [`overlay`](super::overlay), as PyMuPDF draws them; what cannot be drawn is noted.

use hayro::hayro_syntax::{
    object::{Array, Dict, Name, Object, Rect, Stream, String as Bytes},
    page::Page,
};

use super::{marks, overlay::Overlay, values};

/// Flags: hidden, or not for a screen.
const HIDDEN: u32 = 1 << 1;
const NO_VIEW: u32 = 1 << 5;
/// The most annotations of a page that are looked at.
const MOST: usize = 10_000;
/// The most values, and kinds of annotations, that a sentence names.
const SHOWN: usize = 20;
/// Annotations that leave no mark on paper without an appearance: their place is known, their look is the reader's own.
const WITHOUT_A_MARK: [&str; 9] =
    ["Link", "Popup", "Text", "Widget", "Movie", "Sound", "Screen", "TrapNet", "FileAttachment"];

/// What a page's annotations need besides their own appearances.
#[derive(Debug, Default)]
pub struct Undrawn {
    /// A document of one page that is drawn over the page; `None` where there is nothing to draw.
    pub overlay: Option<Vec<u8>>,
    /// What is not drawn, a sentence for each kind.
    pub notes: Vec<String>,
}

/// Draws what has no appearance of its own into an overlay, and says what could not be drawn.
pub fn undrawn(page: &Page<'_>) -> Undrawn {
    let frame = page.intersected_crop_box();
    let mut overlay = Overlay::new([frame.x0, frame.y0, frame.x1, frame.y1]);
    let (mut lost_values, mut lost_marks) = (Vec::new(), Vec::new());
    let all = page.raw().get::<Array<'_>>(b"Annots");
    let mut seen = 0;
    for annotation in all.iter().flat_map(|all| all.iter::<Dict<'_>>()) {
        seen += 1;
        if seen > MOST {
            lost_marks.push(format!("all after the first {MOST}"));
            break;
        }
        let flags = annotation.get::<u32>(b"F").unwrap_or(0);
        let Some(kind) = annotation.get::<Name<'_>>(b"Subtype") else { continue };
        if flags & (HIDDEN | NO_VIEW) != 0 {
            continue;
        }
        if kind.as_str() == "Widget" {
            lost_values.extend(values::draw(&annotation, &mut overlay));
        } else if !has_appearance(&annotation)
            && !WITHOUT_A_MARK.contains(&kind.as_str())
            && !marks::draw(&annotation, kind.as_str(), &mut overlay)
        {
            lost_marks.push(kind.as_str().to_owned());
        }
    }
    let notes = note_of_losses("form values", lost_values)
        .into_iter()
        .chain(note_of_losses("annotations", lost_marks))
        .collect();
    Undrawn { overlay: overlay.document(), notes }
}

fn note_of_losses(what: &str, all: Vec<String>) -> Option<String> {
    let more = if all.len() > SHOWN { ", …" } else { "" };
    let shown = all.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    (!all.is_empty()).then(|| format!("{} {what} without an appearance cannot be drawn: {shown}{more}", all.len()))
}

/// The stream that the renderer draws for an annotation.
pub fn appearance<'a>(annotation: &Dict<'a>) -> Option<Stream<'a>> {
    match annotation.get::<Dict<'_>>(b"AP")?.get::<Object<'_>>(b"N")? {
        Object::Stream(stream) => Some(stream),
        // One of several, by the annotation's state.
        Object::Dict(states) => states.get::<Stream<'_>>(annotation.get::<Name<'_>>(b"AS")?),
        _ => None,
    }
}

/// Whether the annotation says how it looks. A state that is off looks like nothing.
pub fn has_appearance(annotation: &Dict<'_>) -> bool {
    let is_off = annotation.get::<Name<'_>>(b"AS").is_some_and(|state| state.as_str() == "Off");
    let has_any = annotation.get::<Dict<'_>>(b"AP").is_some_and(|all| all.contains_key(b"N"));
    appearance(annotation).is_some() || is_off && has_any
}

/// An annotation's frame: left, bottom, right, top, in points. `None` where it has none, or an empty one.
pub fn frame(annotation: &Dict<'_>) -> Option<[f64; 4]> {
    let frame = annotation.get::<Rect>(b"Rect")?;
    let all = [frame.x0, frame.y0, frame.x1, frame.y1];
    (all.iter().all(|side| side.is_finite()) && frame.x1 > frame.x0 && frame.y1 > frame.y0).then_some(all)
}

/// Whole and other numbers of an array.
pub fn numbers(all: &Array<'_>) -> Vec<f64> {
    all.iter::<f32>().map(f64::from).filter(|value| value.is_finite()).take(100_000).collect()
}

/// A text string of an annotation or a field.
pub fn text(object: &Object<'_>) -> Option<String> {
    match object {
        Object::String(text) => Some(readable(text.as_bytes())),
        Object::Name(name) => Some(name.as_str().to_owned()),
        Object::Array(all) => {
            let texts: Vec<String> = all.iter::<Bytes<'_>>().map(|text| readable(text.as_bytes())).collect();
            Some(texts.join("\n"))
        }
        _ => None,
    }
}

/// A PDF's text string: UTF-16 with its mark, UTF-8 with its mark, else Latin.
fn readable(bytes: &[u8]) -> String {
    if let Some(wide) = bytes.strip_prefix(&[0xFE, 0xFF]) {
        let units: Vec<u16> = wide.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        return String::from_utf16_lossy(&units);
    }
    if let Some(text) = bytes.strip_prefix(&[0xEF, 0xBB, 0xBF]) {
        return String::from_utf8_lossy(text).into_owned();
    }
    bytes.iter().map(|byte| char::from(*byte)).collect()
}
