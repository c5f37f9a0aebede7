//! `mlxport ocr` loses nothing in silence: results are known by what they are made of, one bad page is one page, and what is not read is
//! told.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::ocr::{object, ocr, pdf, pdf_with};
use crate::support::{code, schemas, stderr, vocabulary::data};

fn files(name: &str) -> PathBuf {
    data("files").join(name)
}

/// A run with `--out` and `--json`.
fn run(inputs: &[&Path], out: &Path, more: &[&str]) -> (i32, Value, String) {
    let out = out.to_string_lossy().into_owned();
    let output = ocr(inputs, &[&["--out", &out, "--json"], more].concat());
    (code(&output), object(&output), stderr(&output))
}

fn names(told: &Value, key: &str) -> Vec<String> {
    let name = |one: &Value| one["page"].as_str().or(one.as_str()).map(str::to_owned);
    told[key].as_array().expect("a list").iter().filter_map(name).collect()
}

#[test]
fn an_input_is_never_taken_for_a_result_nor_overwritten() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (image, document) = (dir.path().join("plain.png"), dir.path().join("c.pdf"));
    fs::copy(data("pages/small.png"), &image).expect("copied");
    fs::write(&document, pdf(&["0 0 9 9 re f"])).expect("written");
    let before = (fs::read(&image).expect("read"), fs::read(&document).expect("read"));
    let (code, told, said) = run(&[dir.path()], dir.path(), &[]);
    assert_eq!((code, &told["ok"]), (2, &json!(false)), "{said}");
    for name in ["plain.png", "c.pdf"] {
        assert!(said.contains(&format!("{name}: its results would go to")), "{said}");
    }
    assert!(said.contains("name another --out"), "{said}");
    let after = (fs::read(&image).expect("there"), fs::read(&document).expect("there"));
    assert!(before == after && fs::read_dir(dir.path()).expect("listed").count() == 2);
    // Something else in a result's place is left as it is.
    let out = dir.path().join("out");
    fs::create_dir_all(out.join("plain.png")).expect("made");
    fs::write(out.join("plain.png/mine.txt"), "mine").expect("written");
    let (code, told, said) = run(&[&image], &out, &[]);
    assert_eq!((code, names(&told, "failed")), (2, vec!["plain.png".to_owned()]), "{said}");
    assert_eq!(fs::read(out.join("plain.png/mine.txt")).expect("there"), b"mine");
}

#[test]
fn results_are_done_again_unless_all_they_are_made_of_is_the_same() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (image, out) = (dir.path().join("scan.png"), dir.path().join("out"));
    fs::copy(data("pages/small.png"), &image).expect("copied");
    let (_, first, _) = run(&[&image], &out, &[]);
    let record: Value = serde_json::from_slice(&fs::read(out.join("scan.png/page.json")).expect("read")).expect("JSON");
    schemas::conforms("page", &record);
    assert_eq!(record["made_of"]["mode"], "tiny");
    let (code, told, said) = run(&[&image], &out, &[]);
    assert_eq!((code, names(&told, "done_before")), (0, vec!["scan.png".to_owned()]), "{said}");
    assert!(said.contains("it came to no end"), "a page that --max-tokens cut off is told as such: {said}");
    assert_eq!(names(&told, "cut_off"), ["scan.png"]);
    fs::copy(data("pages/gray.png"), &image).expect("replaced");
    let (_, told, said) = run(&[&image], &out, &["--keep"]);
    assert_eq!(names(&told, "done_before"), ["scan.png"]);
    assert!(said.contains("kept: another source"), "{said}");
    let (_, told, said) = run(&[&image], &out, &[]);
    assert_eq!(names(&told, "pages"), ["scan.png"]);
    assert!(said.contains("read again: another source"), "{said}");
    assert_ne!(told["pages"][0]["width"], first["pages"][0]["width"], "the new picture's text");
    for (more, what) in [(["--max-tokens", "7"], "--max-tokens"), (["--task", "free-ocr"], "prompt")] {
        let (_, told, said) = run(&[&image], &out, &more);
        assert_eq!(names(&told, "pages"), ["scan.png"], "{what}");
        assert!(said.contains(what), "{what}: {said}");
    }
    assert_eq!(fs::read_dir(&out).expect("listed").count(), 1, "nothing old lies about");
}

#[test]
fn one_page_that_cannot_be_read_or_written_is_one_page() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let long = dir.path().join("a_long.tif");
    image_of(&long, 400, 65_536);
    fs::copy(data("pages/small.png"), dir.path().join("b.png")).expect("copied");
    let out = dir.path().join("out");
    fs::create_dir(&out).expect("made");
    let (code, told, said) = run(&[&long, &dir.path().join("b.png")], &out, &[]);
    assert!(names(&told, "pages").contains(&"b.png".to_owned()), "{said}");
    assert_eq!(code, 0, "a page too long for a JPEG has its text, and a smaller picture: {said}");
    assert!(said.contains("smaller than the page"), "{said}");
    let cut = dir.path().join("cut.jpg");
    fs::copy(files("trunc50.jpg"), &cut).expect("copied");
    let (code, told, said) = run(&[&cut, &dir.path().join("b.png")], &out, &["--max-tokens", "5"]);
    assert_eq!((code, names(&told, "failed")), (2, vec!["cut.jpg".to_owned()]), "{said}");
    assert_eq!(names(&told, "pages"), ["b.png"]);
}

/// A white TIFF of one bit a pixel.
fn image_of(path: &Path, width: u32, height: u32) {
    let byte_len = width.div_ceil(8) * height;
    // Tag and value: sides, bits, no compression, 0 is black, where the strip is, samples, rows and bytes of the strip.
    let entries = [
        (256_u16, width),
        (257, height),
        (258, 1),
        (259, 1),
        (262, 1),
        (273, 122),
        (277, 1),
        (278, height),
        (279, byte_len),
    ];
    let mut file = b"II*\0\x08\0\0\0\x09\0".to_vec();
    for (tag, value) in entries {
        file.extend(tag.to_le_bytes());
        file.extend([4, 0, 1, 0, 0, 0]);
        file.extend(value.to_le_bytes());
    }
    file.extend([0; 4]);
    assert_eq!(file.len(), 122);
    file.resize(file.len() + byte_len as usize, 0xFF);
    fs::write(path, file).expect("written");
}

#[test]
fn a_document_names_its_missing_pages() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (document, out) = (dir.path().join("mixed.pdf"), dir.path().join("out"));
    let pages = ["0 0 9 9 re f", "0 0 50 9 re f", "0 0 9 50 re f"];
    let text = String::from_utf8(pdf(&pages)).expect("text");
    // The second page's sides cannot be meant.
    let broken = text.replacen("[0 0 100 100]/Contents 6", "[0 0 900000 900000]/Contents 6", 1);
    assert_ne!(broken, text);
    fs::write(&document, broken).expect("written");
    let (code, told, said) = run(&[&document], &out, &[]);
    assert_eq!((code, names(&told, "failed")), (2, vec!["mixed.pdf/page-0002".to_owned()]), "{said}");
    let text = fs::read_to_string(out.join("mixed.pdf/mixed.mmd")).expect("joined");
    assert_eq!(text.matches("<--- Page Split --->").count(), 3, "{text}");
    assert!(text.contains("[Page 2 is missing: "), "{text}");
    let printed = ocr(&[&document], &[]);
    assert!(String::from_utf8_lossy(&printed.stdout).contains("[Page 2 is missing: "), "{}", stderr(&printed));
}

#[test]
fn what_is_not_read_of_a_directory_is_told_and_tiff_pages_are_pages() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let d = dir.path().join("d");
    fs::create_dir_all(d.join("sub")).expect("made");
    for name in ["a.png", "noext", "sub/b.png"] {
        fs::copy(data("pages/small.png"), d.join(name)).expect("copied");
    }
    fs::copy(files("jpg-o1.jpg"), d.join("y.jfif")).expect("copied");
    fs::write(d.join("IMG_0001.HEIC"), "heic").expect("written");
    let output = ocr(&[&d], &["--json"]);
    let told = object(&output);
    assert_eq!((code(&output), names(&told, "pages").len()), (0, 2), "{}", stderr(&output));
    let skipped = told["skipped"].to_string();
    for name in ["noext", "sub", "IMG_0001.HEIC"] {
        assert!(skipped.contains(name) && stderr(&output).contains(name), "{name}: {skipped}");
    }
    let told = object(&ocr(&[&d], &["--json", "--recursive"]));
    assert!(names(&told, "pages").contains(&"b.png".to_owned()), "{told:#}");
    let out = dir.path().join("out");
    let (code, told, said) = run(&[&files("multi_g4.tif")], &out, &[]);
    assert_eq!((code, names(&told, "pages").len()), (0, 3), "{said}");
    assert!(out.join("multi_g4.tif/page-0003/result.mmd").exists());
    assert!(out.join("multi_g4.tif/multi_g4.mmd").exists());
}

#[test]
fn a_page_that_lost_something_says_so_and_strict_makes_it_a_failure() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (form, out) = (dir.path().join("form.pdf"), dir.path().join("out"));
    // No standard font has these two characters.
    let field = "/Annots[<</Subtype/Widget/FT/Tx/T(a)/V<FEFF65E5672C>/Rect[10 10 90 30]>>]";
    fs::write(&form, pdf_with(&["0 0 9 9 re f"], field)).expect("written");
    let (status, told, said) = run(&[&form], &out, &[]);
    assert_eq!(status, 0, "{said}");
    assert_eq!(names(&told, "degraded"), ["form.pdf/page-0001"]);
    assert!(said.contains("degraded: 1 form values") && said.contains("1 degraded"), "{said}");
    let record = fs::read(out.join("form.pdf/page-0001/page.json")).expect("read");
    let record: Value = serde_json::from_slice(&record).expect("JSON");
    assert!(record["degraded"][0].as_str().is_some_and(|reason| reason.contains("日本")), "{record:#}");
    let (status, told, said) = run(&[&form], &out, &[]);
    assert_eq!((status, names(&told, "done_before").len()), (0, 1), "{said}");
    let (status, told, said) = run(&[&form], &out, &["--strict"]);
    assert_eq!((status, names(&told, "failed").len()), (2, 1), "read before, and no less degraded: {said}");
    let output = ocr(&[&form, &files("grey16.png")], &["--json", "--strict"]);
    assert_eq!(code(&output), 2);
    assert_eq!(object(&output)["failed"].as_array().map(Vec::len), Some(2), "{}", stderr(&output));
    let mended = ocr(&[&files("grey16.png")], &["--json", "--strict", "--scale-16bit"]);
    assert_eq!(code(&mended), 0, "{}", stderr(&mended));
}

#[test]
fn a_document_that_was_replaced_is_never_mixed_with_the_old_one() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (document, out) = (dir.path().join("book.pdf"), dir.path().join("out"));
    fs::write(&document, pdf(&["0 0 9 9 re f", "0 0 50 9 re f", "0 0 9 50 re f"])).expect("written");
    let (_, told, said) = run(&[&document], &out, &[]);
    assert_eq!(names(&told, "pages").len(), 3, "{said}");
    fs::write(&document, pdf(&["0 0 19 9 re f", "0 0 51 9 re f"])).expect("replaced");
    let (status, told, said) = run(&[&document], &out, &["--pages", "1"]);
    assert_eq!((status, names(&told, "pages")), (0, vec!["book.pdf/page-0001".to_owned()]), "{said}");
    let text = fs::read_to_string(out.join("book.pdf/book.mmd")).expect("joined");
    assert_eq!(text.matches("<--- Page Split --->").count(), 2, "two pages, not three: {text}");
    assert!(text.contains("[Page 2 is missing: its results are of another source]"), "{text}");
    assert!(
        said.contains("page-0002 is of another source") && said.contains("page-0003 is of another document"),
        "{said}"
    );
    let (_, _, said) = run(&[&document], &out, &["--pages", "2", "--max-tokens", "5"]);
    assert!(said.contains("page-0001 was read before with another --max-tokens"), "{said}");
    let text = fs::read_to_string(out.join("book.pdf/book.mmd")).expect("joined");
    assert!(!text.contains("missing"), "{text}");
}

#[test]
fn a_page_whose_results_cannot_be_written_is_one_page() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (long, good) = (dir.path().join(format!("{}.png", "n".repeat(250))), dir.path().join("z.png"));
    for page in [&long, &good] {
        fs::copy(data("pages/small.png"), page).expect("copied");
    }
    let out = dir.path().join("out");
    // With `_det.md` the name is longer than a file's may be.
    let (status, told, said) = run(&[&long, &good], &out, &["--format", "eval"]);
    assert_eq!((status, names(&told, "pages")), (2, vec!["z.png".to_owned()]), "{said}");
    assert_eq!(names(&told, "failed").len(), 1, "{said}");
    // A file lies where a page's folder would go: it is nobody's result.
    let out = dir.path().join("other");
    fs::create_dir(&out).expect("made");
    fs::write(out.join("z.png"), "mine").expect("written");
    let small = dir.path().join("a.png");
    fs::copy(data("pages/small.png"), &small).expect("copied");
    let (status, told, said) = run(&[&good, &small], &out, &[]);
    assert_eq!(
        (status, names(&told, "failed"), names(&told, "pages")),
        (2, vec!["z.png".into()], vec!["a.png".into()]),
        "{said}"
    );
    assert_eq!(fs::read(out.join("z.png")).expect("there"), b"mine");
}

#[test]
fn pages_of_one_name_in_two_folders_have_results_of_their_own() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (folder, page) in [("a", "pages/small.png"), ("b", "pages/gray.png")] {
        fs::create_dir(dir.path().join(folder)).expect("made");
        fs::copy(data(page), dir.path().join(folder).join("page1.png")).expect("copied");
    }
    let out = dir.path().join("out");
    let (status, told, said) = run(&[&dir.path().join("a"), &dir.path().join("b")], &out, &[]);
    assert_eq!((status, names(&told, "pages")), (0, vec!["a/page1.png".into(), "b/page1.png".into()]), "{said}");
    assert!(out.join("a/page1.png/result.mmd").exists() && out.join("b/page1.png/result.mmd").exists());
    let (_, told, _) = run(&[&dir.path().join("a"), &dir.path().join("b")], &out, &[]);
    assert_eq!(names(&told, "done_before").len(), 2);
}
