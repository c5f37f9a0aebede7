//! Documents drawn: sides, limits, what is said of what cannot be used.

use super::*;

fn pdf(pages: &[&str], page_entries: &str) -> Vec<u8> {
    written::pdf(pages, [200, 100], page_entries)
}

fn pixel(page: &Page, x: usize, y: usize) -> [u8; 3] {
    let at = (y * page.width() + x) * 3;
    [page.rgb()[at], page.rgb()[at + 1], page.rgb()[at + 2]]
}

#[test]
fn pages_are_drawn_upright_on_white() {
    let contents = ["1 0 0 rg 0 50 100 50 re f", "BT /F 40 Tf 10 30 Td (Text) Tj ET"];
    let document = Document::read("two.pdf", pdf(&contents, ""), "").expect("a document");
    assert_eq!(document.page_count(), 2);
    let mut drawer = document.drawer();
    let first = drawer.draw(0, DPI).expect("drawn").page;
    assert_eq!((first.width(), first.height()), (400, 200), "twice as many pixels as points");
    assert_eq!((pixel(&first, 10, 10), pixel(&first, 10, 190)), ([255, 0, 0], [255; 3]), "above, and not below");
    let second = drawer.draw(1, DPI).expect("drawn").page;
    assert!(second.rgb().iter().filter(|value| **value < 64).count() > 1000, "letters, without a font in the file");
    let turned = Document::read("turned.pdf", pdf(&contents, "/Rotate 90"), "").expect("a document");
    let page = turned.drawer().draw(0, 72).expect("drawn").page;
    assert_eq!((page.width(), page.height()), (100, 200));
    assert_eq!((pixel(&page, 90, 10), pixel(&page, 10, 10)), ([255, 0, 0], [255; 3]), "turned to the right");
}

#[test]
fn sides_are_rounded_up_as_mupdf_rounds_them() {
    let a4 = String::from_utf8(pdf(&[""], "")).expect("text").replace("0 0 200 100", "0 0 595.276 841.89");
    let document = Document::read("a4.pdf", a4.into_bytes(), "").expect("a document");
    assert_eq!(document.sides(0, DPI).expect("sides"), (1191, 1684, 2.0));
    assert!(document.sides(1, DPI).expect_err("no such page").to_string().contains("page 2"));
}

#[test]
fn what_cannot_be_used_is_told() {
    let whole = pdf(&["0 0 10 10 re f"], "");
    let reason = |bytes: Vec<u8>| Document::read("x.pdf", bytes, "").expect_err("unusable").to_string();
    assert!(reason(Vec::new()).contains("empty"));
    assert!(reason(b"no PDF at all".to_vec()).contains("x.pdf: expected a PDF document"));
    assert!(reason(whole[..60].to_vec()).contains("expected a PDF document"));
    let none = pdf(&[], "");
    assert!(reason(none).contains("expected a PDF document"));
}

#[test]
fn a_page_that_is_too_large_is_drawn_smaller_and_one_that_cannot_be_meant_is_refused() {
    let sized = |sides: &str| {
        let large = String::from_utf8(pdf(&[""], "")).expect("text").replace("200 100", sides);
        Document::read("large.pdf", large.into_bytes(), "").expect("a document")
    };
    let (width, height, scale) = sized("4960 7016").sides(0, 144).expect("a scan in pixels");
    assert!(u64::from(width) * u64::from(height) <= MAX_PIXELS && scale > 1.0, "{width}×{height}");
    assert!((f32::from(width) / f32::from(height) - 4960.0 / 7016.0).abs() < 0.001);
    let error = sized("900000 900000").drawer().draw(0, 144).expect_err("too large").to_string();
    assert!(error.starts_with("large.pdf: page 1: expected at most 67108864 pixels at 144 dpi"), "{error}");
    assert!(error.contains("--dpi"), "{error}");
}

#[test]
fn contents_that_make_no_sense_are_told() {
    let notes = |contents: &str| {
        let document = Document::read("odd.pdf", pdf(&[contents], ""), "").expect("a document");
        document.drawer().draw(0, DPI).expect("drawn").notes
    };
    assert_eq!(notes("BX frobnicate EX 0 0 9 9 re f"), [""; 0], "what a reader may pass over");
    let odd = notes("0 0 9 9 re f frobnicate 1 2 Tf");
    assert!(odd.len() == 1 && odd[0].starts_with("2 instructions") && odd[0].ends_with("Tf, frobnicate"), "{odd:?}");
    let lost = notes("0 0 9 9 re f 1 m 5 5 9 9 re f");
    assert!(lost.len() == 1 && lost[0].contains("break off at instruction 3 of 5"), "{lost:?}");
}

#[test]
fn a_user_unit_counts_and_a_cut_file_is_told() {
    let bytes = pdf(&["0 0 9 9 re f"], "/UserUnit 2");
    let document = Document::read("unit.pdf", bytes.clone(), "").expect("a document");
    let drawn = document.drawer().draw(0, DPI).expect("drawn");
    assert_eq!((drawn.page.width(), drawn.page.height()), (800, 400));
    assert!(drawn.notes.is_empty(), "{:?}", drawn.notes);
    let end = bytes.windows(5).rposition(|word| word == b"xref\n").expect("a table");
    let cut = Document::read("cut.pdf", bytes[..end].to_vec(), "").expect("what is left");
    let drawn = cut.drawer().draw(0, DPI).expect("drawn");
    assert!(drawn.notes.iter().any(|note| note.contains("the end of the file is missing")), "{:?}", drawn.notes);
}

#[test]
fn a_protected_document_asks_for_its_password() {
    let bytes = || PROTECTED.to_vec();
    let refusal = |password: &str| Document::read("p.pdf", bytes(), password).expect_err("closed").to_string();
    assert_eq!(refusal(""), "p.pdf: expected the document's password, found none");
    assert_eq!(refusal("wrong"), "p.pdf: expected the document's password, found another one");
    let document = Document::read("p.pdf", bytes(), "open sesame").expect("a document");
    let page = document.drawer().draw(0, 72).expect("drawn").page;
    assert_eq!(pixel(&page, 10, 10), [0, 0, 255]);
}

/// One page of 200 × 100 points filled with blue, encrypted by pypdf with the password "open sesame".
const PROTECTED: &[u8] = include_bytes!("../../testdata/protected.pdf");
