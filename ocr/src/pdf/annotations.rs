//! What lies on a page and has no appearance of its own: form values and annotations that another reader would draw itself.

use hayro::hayro_syntax::{
    object::{Array, Dict, Name, Object, Stream, String as Bytes},
    page::Page,
};

/// Flags: hidden, or not for a screen.
const HIDDEN: u32 = 1 << 1;
const NO_VIEW: u32 = 1 << 5;
/// The most parents of a field that are asked for what it inherits.
const DEPTH: usize = 16;
/// The most values, and kinds of annotations, that a sentence names.
const SHOWN: usize = 20;
/// Annotations that leave no mark on the page without an appearance.
const WITHOUT_A_MARK: [&str; 9] =
    ["Link", "Popup", "Text", "Widget", "Movie", "Sound", "Screen", "TrapNet", "FileAttachment"];

/// What is not drawn, a sentence for each kind.
pub fn undrawn(page: &Page<'_>) -> Vec<String> {
    let (mut values, mut marks) = (Vec::new(), Vec::new());
    let all = page.raw().get::<Array<'_>>(b"Annots");
    for annotation in all.iter().flat_map(|all| all.iter::<Dict<'_>>()) {
        let flags = annotation.get::<u32>(b"F").unwrap_or(0);
        if flags & (HIDDEN | NO_VIEW) != 0 || has_appearance(&annotation) {
            continue;
        }
        let Some(kind) = annotation.get::<Name<'_>>(b"Subtype") else { continue };
        if kind.as_str() == "Widget" {
            values.extend(value(&annotation));
        } else if !WITHOUT_A_MARK.contains(&kind.as_str()) {
            marks.push(kind.as_str().to_owned());
        }
    }
    let told = |what: &str, all: Vec<String>| {
        let more = if all.len() > SHOWN { ", …" } else { "" };
        let shown = all.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        (!all.is_empty()).then(|| format!("{} {what} without an appearance, not drawn: {shown}{more}", all.len()))
    };
    told("form values", values).into_iter().chain(told("annotations", marks)).collect()
}

fn has_appearance(annotation: &Dict<'_>) -> bool {
    let normal = annotation.get::<Dict<'_>>(b"AP").and_then(|appearance| appearance.get::<Object<'_>>(b"N"));
    match normal {
        Some(Object::Stream(_)) => true,
        // One of several, by the annotation's state.
        Some(Object::Dict(states)) => {
            let state = annotation.get::<Name<'_>>(b"AS");
            state.is_none_or(|state| state.as_str() == "Off" || states.get::<Stream<'_>>(state).is_some())
        }
        _ => false,
    }
}

/// A field's value, where it would be seen.
fn value(field: &Dict<'_>) -> Option<String> {
    let kind = inherited(field, b"FT")?.into_name()?;
    let is_button = kind.as_str() == "Btn";
    let object = match inherited(field, b"V") {
        Some(object) => object,
        None if is_button => Object::Name(field.get::<Name<'_>>(b"AS")?),
        None => return None,
    };
    let text = match object {
        Object::String(text) => readable(text.as_bytes()),
        Object::Name(name) if is_button => name.as_str().to_owned(),
        Object::Array(all) => {
            let texts: Vec<_> = all.iter::<Bytes<'_>>().map(|text| readable(text.as_bytes())).collect();
            texts.join(" ")
        }
        _ => return None,
    };
    let is_seen = !text.trim().is_empty() && !(is_button && text == "Off");
    is_seen.then(|| format!("{:?}", text.chars().take(60).collect::<String>()))
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
