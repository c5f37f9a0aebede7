//! What the model wrote, made into Markdown: `<|ref|>label<|/ref|><|det|>[[x1, y1, x2, y2], …]<|/det|>` read (never evaluated) and
//! replaced as `infer` of `modeling_deepseekocr.py` does with `save_results`.

use std::collections::BTreeSet;

use crate::page::Page;

pub use crate::drawing::with_boxes;

const REF: &str = "<|ref|>";
const MIDDLE: &str = "<|/ref|><|det|>";
const END: &str = "<|/det|>";
/// What ends a text, where the tokenizer shows it.
pub(crate) const END_OF_SENTENCE: &str = "<｜end▁of▁sentence｜>";
/// The model's coordinates run from 0 to this.
const LARGEST: f64 = 999.0;
/// The label of what is cut out.
const IMAGE: &str = "image";

/// One reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// `image`, `title`, `text`, …
    pub label: String,
    /// Boxes in the model's coordinates, 0 to 999: left, top, right, bottom. Empty where they could not be read.
    pub boxes: Vec<[f64; 4]>,
    /// The reference as it was written.
    pub written: String,
}

/// A rectangle of whole pixels inside a page, not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelBox {
    /// Pixels left of it.
    pub left: usize,
    /// Pixels above it.
    pub top: usize,
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
}

/// A page's text.
#[derive(Debug, Clone, PartialEq)]
pub struct Markdown {
    /// The text, references replaced: images by `![](images/N.jpg)`, the others by nothing.
    pub text: String,
    /// All references, in order.
    pub references: Vec<Reference>,
}

/// All references of a text, in order.
#[must_use]
pub fn references(text: &str) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(REF) {
        let from = &rest[start..];
        let Some(middle) = from[REF.len()..].find(MIDDLE).map(|at| at + REF.len()) else { break };
        let list = middle + MIDDLE.len();
        let Some(end) = from[list..].find(END).map(|at| at + list) else { break };
        let boxes: Vec<[f64; 4]> = serde_json::from_str(from[list..end].trim()).unwrap_or_default();
        let (label, written) = (from[REF.len()..middle].to_owned(), from[..end + END.len()].to_owned());
        rest = &from[written.len()..];
        found.push(Reference { label, boxes, written });
    }
    found
}

/// The Markdown of what the model wrote.
#[must_use]
pub fn markdown(written: &str) -> Markdown {
    let written = written.strip_suffix(END_OF_SENTENCE).unwrap_or(written).trim();
    let references = references(written);
    let is_image = |reference: &&Reference| reference.is_written_image();
    let mut text = written.to_owned();
    for (at, reference) in references.iter().filter(is_image).enumerate() {
        text = text.replace(&reference.written, &format!("![](images/{at}.jpg)\n"));
    }
    let others: BTreeSet<&str> = references.iter().filter(|r| !is_image(r)).map(|r| r.written.as_str()).collect();
    for other in &others {
        text = text.replace(other, "");
    }
    if !others.is_empty() {
        text = text.replace("\\coloneqq", ":=").replace("\\eqqcolon", "=:");
    }
    Markdown { text, references }
}

impl Reference {
    /// Its boxes on a page, cut at the page's edges; empty ones are left out.
    #[must_use]
    pub fn on(&self, page: &Page) -> Vec<PixelBox> {
        self.each_on(page).into_iter().flatten().collect()
    }

    /// Its boxes on a page, cut at the page's edges, in their places; `None` for an empty one.
    #[must_use]
    pub fn each_on(&self, page: &Page) -> Vec<Option<PixelBox>> {
        self.boxes.iter().map(|corners| pixels(corners, page.width(), page.height())).collect()
    }

    /// Whether it is a picture to be cut out.
    #[must_use]
    pub fn is_image(&self) -> bool {
        self.label == IMAGE
    }

    /// Whether the release makes a link of it.
    pub(crate) fn is_written_image(&self) -> bool {
        self.written.contains("<|ref|>image<|/ref|>")
    }
}

/// What is cut out of a page, with the number each picture is saved under. As in the release the boxes are counted, not the
/// references, and an empty box keeps its number without a picture: with several boxes in one reference the links of those that
/// follow name another picture than theirs.
#[must_use]
pub fn cuts(page: &Page, references: &[Reference]) -> Vec<(usize, PixelBox)> {
    let pictures = references.iter().filter(|reference| reference.is_image());
    let boxes = pictures.flat_map(|reference| reference.each_on(page)).enumerate();
    boxes.filter_map(|(at, cut)| Some((at, cut?))).collect()
}

/// `int(x / 999 * width)`, kept inside.
fn pixels(&[x1, y1, x2, y2]: &[f64; 4], width: usize, height: usize) -> Option<PixelBox> {
    let place = |at: f64, length: usize| {
        let pixel = at / LARGEST * length as f64;
        if pixel.is_finite() { pixel.clamp(0.0, length as f64) as usize } else { 0 }
    };
    let (left, top, right, bottom) = (place(x1, width), place(y1, height), place(x2, width), place(y2, height));
    (left < right && top < bottom).then(|| PixelBox { left, top, width: right - left, height: bottom - top })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reference(label: &str, list: &str) -> String {
        format!("<|ref|>{label}<|/ref|><|det|>{list}<|/det|>")
    }

    #[test]
    fn images_become_links_and_other_references_go() {
        let (title, image) =
            (reference("title", "[[1, 2, 3, 4]]"), reference("image", "[[0,0,999,999],[10,10,20,20]]"));
        let found = markdown(&format!("  {title}\n# A \\coloneqq B\n{image}\ntext{END_OF_SENTENCE}"));
        assert_eq!(found.text, "\n# A := B\n![](images/0.jpg)\n\ntext");
        assert_eq!(found.references.len(), 2);
        assert_eq!(found.references[1].boxes, [[0.0, 0.0, 999.0, 999.0], [10.0, 10.0, 20.0, 20.0]]);
        assert!(found.references[1].is_image() && !found.references[0].is_image());
        assert_eq!(markdown("a \\coloneqq b").text, "a \\coloneqq b", "without references nothing is replaced");
    }

    #[test]
    fn what_is_no_list_of_boxes_is_not_run_and_gives_none() {
        for list in
            ["__import__('os').system('true')", "[[1,2,3]]", "[[1,2,3,4]", "[[1,2,3,\"4\"]]", "", "[[1e999,0,0,0]]"]
        {
            let found = markdown(&reference("text", list));
            assert!(found.references[0].boxes.is_empty(), "{list}");
            assert_eq!(found.text, "");
        }
        for unclosed in
            ["<|ref|>a", "<|ref|>a<|/ref|><|det|>[[1,2,3,4]]", "<|/det|>", "<|ref|>a<|/ref|>[[1,2,3,4]]<|/det|>"]
        {
            assert_eq!(markdown(unclosed).text, unclosed);
        }
    }

    #[test]
    fn boxes_are_scaled_and_kept_inside() {
        let page = Page::new(200, 100, vec![255; 60_000]).expect("a page");
        let on = |corners: [f64; 4]| {
            Reference { label: "text".into(), boxes: vec![corners], written: String::new() }.on(&page)
        };
        assert_eq!(on([0.0, 0.0, 999.0, 999.0]), [PixelBox { left: 0, top: 0, width: 200, height: 100 }]);
        assert_eq!(on([500.0, 250.0, 5000.0, 500.0]), [PixelBox { left: 100, top: 25, width: 100, height: 25 }]);
        assert!(on([500.0, 0.0, 400.0, 999.0]).is_empty() && on([-5.0, -5.0, -1.0, 9.0]).is_empty());
        assert!(on([f64::NAN, 0.0, f64::INFINITY, 9.0]).is_empty());
    }

    #[test]
    fn an_empty_box_keeps_its_number() {
        let page = Page::new(100, 100, vec![255; 30_000]).expect("a page");
        let found = references(
            &[
                reference("image", "[[0,0,0,9],[0,0,500,500]]"),
                reference("text", "[[0,0,9,9]]"),
                reference("image", "[[500,500,999,999]]"),
            ]
            .concat(),
        );
        let numbers: Vec<usize> = cuts(&page, &found).into_iter().map(|(at, _)| at).collect();
        assert_eq!(numbers, [1, 2]);
        assert_eq!(found[0].each_on(&page)[0], None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(parts in prop::collection::vec(prop::sample::select(vec![
            "<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "image", "[[1,2,3,4]]", "[[", "]]", "é", "-9e99", ",", "\\coloneqq", "\n",
        ]), 0..24)) {
            let page = Page::new(7, 5, vec![9; 105]).expect("a page");
            let found = markdown(&parts.concat());
            prop_assert_eq!(with_boxes(&page, &found.references).rgb().len(), 105);
        }
    }
}
