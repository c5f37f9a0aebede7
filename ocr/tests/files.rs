//! Image files against Pillow, every pixel; documents that lose something, and what is said of it.

use std::{collections::BTreeMap, path::PathBuf};

use mlxport_ocr::{Decoded, Decoding, ImageFile, OcrError, page::MAX_PIXELS, pdf};
use serde_json::Value;

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/files").join(name)
}

fn first(name: &str, decoding: Decoding) -> Result<Decoded, OcrError> {
    ImageFile::open(&data(name))?.page(0, decoding, MAX_PIXELS)
}

fn fnv(bytes: &[u8]) -> String {
    let step = |value: u64, byte: &u8| (value ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3);
    format!("{:016x}", bytes.iter().fold(0xCBF2_9CE4_8422_2325, step))
}

/// `make.py` beside the files wrote what Pillow 13 makes of them.
#[test]
fn every_pixel_is_pillows_and_what_pillow_refuses_is_refused() {
    let recorded = std::fs::read(data("pixels.json")).expect("pixels.json");
    let recorded: BTreeMap<String, Value> = serde_json::from_slice(&recorded).expect("JSON");
    assert!(recorded.len() > 80, "{} files", recorded.len());
    let mut wrong = Vec::new();
    for (name, want) in &recorded {
        let mut file = ImageFile::open(&data(name)).expect("opens");
        let pages: Result<Vec<Value>, OcrError> = (0..file.page_count())
            .map(|index| {
                let page = file.page(index, Decoding::default(), MAX_PIXELS)?.page;
                Ok(serde_json::json!([page.width(), page.height(), fnv(page.rgb())]))
            })
            .collect();
        let made = pages.map_or_else(|_| Value::from("error"), Value::from);
        if made != *want {
            wrong.push(format!("{name}: Pillow {want}, here {made}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_the_release_makes_unreadable_is_told_and_can_be_mended() {
    let dark = |decoded: &Decoded| decoded.page.rgb().iter().filter(|value| **value < 128).count();
    let light = |decoded: &Decoded| decoded.page.rgb().iter().filter(|value| **value > 127).count();
    let plain = first("grey16.png", Decoding::default()).expect("decoded");
    assert!(plain.notes[0].contains("--scale-16bit"), "{:?}", plain.notes);
    let scaled = first("grey16.png", Decoding { scale_16bit: true, ..Decoding::default() }).expect("decoded");
    assert!(scaled.notes.is_empty() && dark(&scaled) > dark(&plain), "the letters are there");
    let plain = first("rgba_clear.png", Decoding::default()).expect("decoded");
    assert!(plain.notes[0].contains("--flatten white"), "{:?}", plain.notes);
    assert!(10 * light(&plain) < dark(&plain), "black on black, but for the letters' edges, as in the release");
    let flat = first("rgba_clear.png", Decoding { flatten_white: true, ..Decoding::default() }).expect("decoded");
    assert!(flat.notes.is_empty() && light(&flat) > dark(&flat) && dark(&flat) > 100);
    let animation = first("gif-anim.gif", Decoding::default()).expect("decoded");
    assert!(animation.notes[0].contains("only its first frame"), "{:?}", animation.notes);
    for name in ["P-raw.tif", "png-o6.png", "gif-plain.gif", "I16s-raw.tif"] {
        let notes = first(name, Decoding { scale_16bit: true, ..Decoding::default() }).expect("decoded").notes;
        assert!(notes.is_empty(), "{name} loses nothing: {notes:?}");
    }
}

#[test]
fn a_jpeg_that_is_cut_off_is_an_error_and_a_png_without_its_end_is_none() {
    let error = first("trunc50.jpg", Decoding::default()).expect_err("cut").to_string();
    assert!(error.contains("truncated"), "{error}");
    assert!(first("noiend.png", Decoding::default()).expect("whole").notes.is_empty());
    for name in ["xmp6.jpg", "xo_rawprofile.png", "xo_xmp.png"] {
        let page = first(name, Decoding::default()).expect("decoded").page;
        assert_eq!((page.width(), page.height()), (200, 300), "{name} is turned upright");
    }
}

#[test]
fn all_pages_of_a_tiff_file_are_there() {
    assert_eq!(ImageFile::open(&data("multi_g4.tif")).expect("opens").page_count(), 3);
    assert_eq!(ImageFile::open(&data("multi.tif")).expect("opens").page_count(), 4);
}

fn drawn(name: &str, fonts: Vec<PathBuf>) -> Result<Decoded, OcrError> {
    let document = pdf::Document::open(&data(name), "")?;
    let mut drawer = document.drawer_with(fonts);
    drawer.draw(0, pdf::DPI)
}

#[test]
fn form_values_and_annotations_without_an_appearance_are_drawn_where_pymupdf_draws_them() {
    // Left, top, right, bottom in pixels, and the fewest dark values: a third of those that PyMuPDF 2.0 has there. The pages have none
    // without them, but under the highlight, 3633.
    let form = [
        ("Ada Lovelace", [240, 60, 640, 120], 1346),
        ("a tick", [240, 160, 300, 220], 428),
        ("Japan", [240, 260, 640, 320], 621),
    ];
    let marks = [
        ("free text", [60, 120, 600, 200], 2293),
        ("a stamp", [400, 222, 760, 318], 5531),
        ("ink", [46, 346, 274, 454], 376),
        ("a highlight", [60, 50, 260, 90], 5900),
        ("a square", [298, 358, 442, 462], 640),
    ];
    for (name, places) in [("form_noap.pdf", &form[..]), ("form_noap_need.pdf", &form), ("annots_noap.pdf", &marks)] {
        let drawn = drawn(name, Vec::new()).expect("drawn");
        assert!(drawn.notes.is_empty(), "{name}: {:?}", drawn.notes);
        for (what, [left, top, right, bottom], least) in places {
            let part = drawn.page.part(*left, *top, right - left, bottom - top);
            let dark = part.rgb().iter().filter(|value| **value < 128).count();
            assert!(dark >= *least, "{name}: {what}: {dark} dark values, expected at least {least}");
        }
    }
    let own = drawn("form_evince.pdf", Vec::new()).expect("drawn");
    assert!(own.notes.is_empty(), "{:?}", own.notes);
}

#[test]
fn a_page_of_a_document_says_what_it_loses() {
    let error = drawn("trunc.pdf", Vec::new()).map(|page| page.notes);
    let told = error.map_or_else(|error| error.to_string(), |notes| notes.join("\n"));
    assert!(told.contains("cut off") || told.contains("end of the file is missing"), "{told}");
    let unit = drawn("userunit.pdf", Vec::new()).expect("drawn");
    assert_eq!((unit.page.width(), unit.page.height()), (1600, 1200));
    assert!(unit.notes.is_empty(), "{:?}", unit.notes);
    let scan = drawn("mb_scan600.pdf", Vec::new()).expect("drawn");
    let pixels = scan.page.width() as u64 * scan.page.height() as u64;
    assert!(pixels <= pdf::MAX_PIXELS && pixels > pdf::MAX_PIXELS / 2, "{pixels} pixels");
}

#[test]
fn contents_and_pictures_that_are_cut_or_missing_are_told() {
    for (name, told) in [
        ("flate_cut.pdf", "1 of the 1 parts of its contents are cut off or broken"),
        ("img_missingobj.pdf", "that its contents name are not in the document: I"),
        ("img_rawshort.pdf", "1 images or forms are cut off or broken: I"),
        ("img_jpxbad.pdf", "1 images or forms are cut off or broken: I"),
    ] {
        let notes = drawn(name, Vec::new()).expect("drawn").notes;
        assert!(notes.iter().any(|note| note.contains(told)), "{name}: {notes:?}");
    }
}

#[test]
fn text_without_its_font_is_drawn_with_one_that_is_named_or_told() {
    let dark = |page: &Decoded| page.page.rgb().iter().filter(|value| **value < 128).count();
    let with = drawn("cjk_mupdf.pdf", vec![data("fonts")]).expect("drawn");
    assert!(with.notes.is_empty(), "{:?}", with.notes);
    assert!(dark(&with) > 5000, "{} dark values", dark(&with));
    let with = drawn("cjk_noembed.pdf", vec![data("fonts")]).expect("drawn");
    assert!(dark(&with) > 5000 || !with.notes.is_empty(), "{} dark values, {:?}", dark(&with), with.notes);
    let with = drawn("simsun_gbk_noembed.pdf", vec![data("fonts")]).expect("drawn");
    assert!(with.notes.is_empty(), "{:?}", with.notes);
}
