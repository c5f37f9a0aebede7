//! What the model wrote: references and their boxes. Input: the text.

use mlxport_ocr::{
    Page, formats,
    grounding::{cuts, markdown, references, with_boxes},
};

/// The page the boxes are drawn on: width and height.
const SIDES: (usize, usize) = (23, 17);
/// More than a text of the most tokens has, in bytes.
const LONGEST: usize = 64 << 10;

/// Reads a text and makes everything of it that the release makes.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.len() > LONGEST {
        return;
    }
    let found = references(text);
    let mut rest = text;
    for reference in &found {
        let at = rest.find(&reference.written).expect("references come in order, none twice");
        rest = &rest[at + reference.written.len()..];
        assert!(reference.boxes.iter().flatten().all(|value| value.is_finite()), "{reference:?}");
    }
    let (width, height) = SIDES;
    let page = Page::new(width, height, vec![255; width * height * 3]).expect("a page");
    let drawn = with_boxes(&page, &found);
    assert_eq!((drawn.width(), drawn.height()), SIDES);
    for (_, cut) in cuts(&page, &found) {
        assert!(cut.width > 0 && cut.left + cut.width <= width, "{cut:?}");
        assert!(cut.height > 0 && cut.top + cut.height <= height, "{cut:?}");
    }
    if found.is_empty() {
        assert!(text.contains(&markdown(text).text), "without references nothing is added");
    }
    let whole = formats::of_document(text, 0);
    assert!(!formats::ended(&whole) || whole != text, "the token that ends a text goes");
    let _ = formats::evaluation(text);
}
