//! `mlxport ocr`, end to end: a small random model with the release's vocabulary reads pages. Its text is noise; what is checked is that
//! every page comes out, once, whole, the same each time, and that what cannot be read is told.

#[path = "../../ocr/testdata/pdf.rs"]
mod written;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::LazyLock,
};

use serde_json::{Value, json};
use written::pdf_of;

use crate::support::{
    code, converted, mlxport, schemas, stderr,
    vocabulary::{VOCABULARY, data, model_with},
};

/// The model of all tests here.
static MODEL: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ocr");
    let _ = fs::remove_dir_all(&dir);
    model(&dir, 1.0);
    dir.join("model")
});

/// Those tokens that `tiny-small` has are embedded again and again; only they are ever said, so that no two tokens are equally likely.
fn model(dir: &Path, head: f32) {
    model_with(dir, |last| {
        last.zero_rows_up_to(VOCABULARY);
        if !head.is_finite() {
            last.bytes = last.bytes.chunks_exact(4).flat_map(|_| head.to_le_bytes()).collect();
        }
    });
}

/// Arguments of a run on `inputs`.
fn arguments(inputs: &[&Path], more: &[&str]) -> Vec<String> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let (model, tokenizer) = (text(&MODEL), text(&data("tokenizer.json")));
    let fixed = ["ocr", "--model", &model, "--tokenizer", &tokenizer, "--mode", "tiny"].map(str::to_owned);
    let most = if more.contains(&"--max-tokens") { vec![] } else { vec!["--max-tokens".to_owned(), "6".to_owned()] };
    fixed
        .into_iter()
        .chain(most)
        .chain(inputs.iter().map(|path| text(path)))
        .chain(more.iter().map(|&m| m.into()))
        .collect()
}

pub fn ocr(inputs: &[&Path], more: &[&str]) -> Output {
    mlxport(arguments(inputs, more))
}

/// What `--json` printed, which must be as published.
pub fn object(output: &Output) -> Value {
    let object = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("one object: {error}: {}", stderr(output)));
    schemas::conforms("ocr", &object);
    object
}

/// A document of one page for each contents, 100 × 100 points.
pub fn pdf(pages: &[&str]) -> Vec<u8> {
    written::pdf(pages, [100, 100], "")
}

/// As [`pdf`], with these further entries of each page.
pub fn pdf_with(pages: &[&str], entries: &str) -> Vec<u8> {
    written::pdf(pages, [100, 100], entries)
}

/// A document of one page that draws a form, which draws the next one twice, and so on: 2⁴⁰ of the last, which takes months.
fn endless_pdf() -> Vec<u8> {
    let head = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Count 1/Kids[3 0 R]>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 100 100]/Contents 4 0 R/Resources<</XObject<</X 5 0 R>>>>>>",
        "<</Length 5>>\nstream\n/X Do\nendstream",
    ];
    let form = |at: usize| {
        let next = format!("/Resources<</XObject<</X {} 0 R>>>>", at + 1);
        format!("<</Type/XObject/Subtype/Form/BBox[0 0 9 9]{next}/Length 11>>\nstream\n/X Do /X Do\nendstream")
    };
    let last = "<</Type/XObject/Subtype/Form/BBox[0 0 9 9]/Length 12>>\nstream\n0 0 9 9 re f\nendstream".to_owned();
    pdf_of(&head.map(str::to_owned).into_iter().chain((5..45).map(form)).chain([last]).collect::<Vec<_>>())
}

/// Three pages that differ.
fn three_pages() -> Vec<u8> {
    pdf(&["1 0 0 rg 0 50 100 50 re f", "0 1 0 rg 0 0 50 100 re f", "0 0 1 rg 20 20 60 60 re f"])
}

/// Every file under a folder, by path, with its bytes; how long a page took is left out.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("listed") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(tree(&path).into_iter().map(|(name, bytes)| (path.join(name), bytes)));
        } else {
            let text = fs::read(&path).expect("read");
            let lines = text.split_inclusive(|byte| *byte == b'\n');
            let lasting = lines.filter(|line| !line.starts_with(b"  \"seconds\""));
            all.insert(path.clone(), lasting.flatten().copied().collect());
        }
    }
    let bare = |path: PathBuf| path.strip_prefix(folder).map(Path::to_owned).unwrap_or(path);
    all.into_iter().map(|(path, bytes)| (bare(path), bytes)).collect()
}

#[test]
fn pages_come_out_whole_once_and_the_same_each_time() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pages = dir.path().join("pages");
    fs::create_dir(&pages).expect("made");
    for name in ["small.png", "gray.png"] {
        fs::copy(data("pages").join(name), pages.join(name)).expect("copied");
    }
    fs::write(pages.join("notes.txt"), "no page").expect("written");
    fs::write(pages.join("broken.png"), b"no image").expect("written");
    let out = dir.path().join("out");
    let out_name = out.to_string_lossy().into_owned();
    let first = ocr(&[&pages], &["--out", &out_name, "--json"]);
    assert_eq!(code(&first), 2, "one page is broken: {}", stderr(&first));
    let told = object(&first);
    assert_eq!(told["failed"][0]["page"], "broken.png", "{told:#}");
    let read = told["pages"].as_array().expect("pages");
    assert_eq!(
        read.iter().map(|page| page["page"].as_str().expect("a name")).collect::<Vec<_>>(),
        ["gray.png", "small.png"]
    );
    for page in read {
        assert_eq!(page["tokens"].as_array().map(Vec::len), Some(6), "{page:#}");
        let folder = out.join(page["page"].as_str().expect("a name"));
        let text = fs::read_to_string(folder.join("result.mmd")).expect("result.mmd");
        assert_eq!(Some(text.as_str()), page["text"].as_str());
        assert!(fs::read(folder.join("result_with_boxes.jpg")).expect("boxes").starts_with(&[0xFF, 0xD8]));
        let record = fs::read(folder.join("page.json")).expect("page.json");
        let record: Value = serde_json::from_slice(&record).expect("JSON");
        schemas::conforms("page", &record);
        assert_eq!((&record["tokens"], record["mode"].as_str()), (&page["tokens"], Some("tiny")));
    }
    assert_eq!(fs::read_dir(&out).expect("listed").count(), 2, "nothing half-written lies about");
    assert_eq!(told["skipped"].as_array().map(Vec::len), Some(1), "notes.txt: {told:#}");
    fs::remove_file(pages.join("broken.png")).expect("removed");
    fs::remove_dir_all(out.join("small.png")).expect("removed");
    let again = ocr(&[&pages], &["--out", &out_name, "--json"]);
    assert_eq!(code(&again), 0, "{}", stderr(&again));
    let second = object(&again);
    assert_eq!(second["done_before"], json!(["gray.png"]));
    assert_eq!(second["pages"][0]["tokens"], read[1]["tokens"], "the same page, the same tokens");
    let alone = ocr(&[&data("pages/small.png")], &[]);
    assert_eq!(code(&alone), 0);
    let text = String::from_utf8(alone.stdout.clone()).expect("UTF-8");
    assert_eq!(text.trim_end(), read[1]["text"].as_str().expect("text").trim_end());
    assert!(stderr(&alone).contains("1 page, 6 tokens") && !stderr(&alone).contains('\u{1b}'), "{}", stderr(&alone));
    let twins = ocr(&[&data("pages/small.png"), &pages.join("small.png")], &["--json"]);
    assert_eq!(code(&twins), 0, "{}", stderr(&twins));
    let named = object(&twins);
    let named: Vec<&str> =
        named["pages"].as_array().expect("pages").iter().filter_map(|p| p["page"].as_str()).collect();
    assert!(named.len() == 2 && named.iter().all(|name| name.ends_with("pages/small.png")), "{named:?}");
    assert_ne!(named[0], named[1], "each by its path");
}

#[test]
fn a_document_is_read_page_by_page_and_put_together() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (document, out) = (dir.path().join("book.pdf"), dir.path().join("out"));
    fs::write(&document, three_pages()).expect("written");
    let out_name = out.to_string_lossy().into_owned();
    let some = ocr(&[&document], &["--out", &out_name, "--json", "--pages", "3,1"]);
    assert_eq!(code(&some), 0, "{}", stderr(&some));
    let names = |told: &Value| told["pages"].as_array().expect("pages").iter().map(|p| p["page"].clone()).collect();
    let read: Vec<Value> = names(&object(&some));
    assert_eq!(read, [json!("book.pdf/page-0001"), json!("book.pdf/page-0003")]);
    assert_eq!(object(&some)["pages"][0]["width"], 200, "144 dots an inch");
    let all = ocr(&[&document], &["--out", &out_name, "--json"]);
    assert_eq!(code(&all), 0, "{}", stderr(&all));
    let told = object(&all);
    assert_eq!(
        (names(&told), told["done_before"].as_array().map(Vec::len)),
        (vec![json!("book.pdf/page-0002")], Some(2))
    );
    let folder = out.join("book.pdf");
    let text = |name: &str| fs::read_to_string(folder.join(name)).expect("readable");
    let each = |name: &str| {
        let pages = (1..=3).map(|page| text(&format!("page-000{page}/{name}")));
        pages.map(|text| text + "\n\n<--- Page Split --->\n").collect::<String>()
    };
    assert_eq!(text("book_det.mmd"), each("result_ori.mmd"));
    assert_eq!(text("book.mmd").matches("\n\n<--- Page Split --->\n").count(), 3);
    assert!(fs::read(folder.join("book_layouts.pdf")).expect("layouts").starts_with(b"%PDF-"));
    let drawn = ocr(&[&folder.join("book_layouts.pdf")], &["--json", "--pages", "2-"]);
    assert_eq!(object(&drawn)["pages"].as_array().map(Vec::len), Some(2), "{}", stderr(&drawn));
    let printed = ocr(&[&document], &["--batch", "2"]);
    assert_eq!(String::from_utf8_lossy(&printed.stdout), text("book.mmd"), "{}", stderr(&printed));
    let joined = text("book.mmd");
    assert_eq!(code(&ocr(&[&document], &["--out", &out_name])), 0);
    assert_eq!(text("book.mmd"), joined);
}

#[test]
fn what_is_wrong_with_a_document_is_told_and_the_others_are_read() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).expect("written");
        path
    };
    let endless = file("endless.pdf", &endless_pdf());
    let whole = three_pages();
    let (broken, cut) = (file("broken.pdf", b"%PDF-1.4 and nothing"), file("cut.pdf", &whole[..whole.len() / 6]));
    let (good, short) = (file("good.pdf", &pdf(&["0 0 9 9 re f"])), file("short.pdf", &whole));
    let protected = data("protected.pdf");
    let inputs = [endless.as_path(), &broken, &protected, &cut, &short, &good];
    let output = ocr(&inputs, &["--json", "--page-seconds", "1", "--batch", "2", "--pages", "1"]);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    let told = object(&output);
    let failed: BTreeMap<&str, &str> = told["failed"]
        .as_array()
        .expect("failed")
        .iter()
        .map(|one| (one["page"].as_str().expect("a name"), one["error"].as_str().expect("an error")))
        .collect();
    assert!(failed["broken.pdf"].contains("expected a PDF document"), "{failed:#?}");
    assert!(failed["cut.pdf"].contains("expected a PDF document"), "{failed:#?}");
    assert!(failed["protected.pdf"].contains("expected the document's password, found none"), "{failed:#?}");
    assert!(failed["endless.pdf/page-0001"].contains("expected at most 1 seconds, took longer"), "{failed:#?}");
    let read: Vec<&Value> = told["pages"].as_array().expect("pages").iter().map(|page| &page["page"]).collect();
    assert_eq!(read, ["short.pdf/page-0001", "good.pdf/page-0001"]);
    let beyond = ocr(&[&good], &["--pages", "1-3"]);
    assert_eq!(code(&beyond), 2);
    assert!(stderr(&beyond).contains("--pages: expected pages up to 1, found 3"), "{}", stderr(&beyond));
    let opened = ocr(&[&protected], &["--json", "--password", "open sesame"]);
    assert_eq!(object(&opened)["pages"].as_array().map(Vec::len), Some(1), "{}", stderr(&opened));
}

#[test]
fn pages_read_together_are_the_pages_read_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let document = dir.path().join("book.pdf");
    fs::write(&document, three_pages()).expect("written");
    let (small, gray) = (data("pages/small.png"), data("pages/gray.png"));
    let tokens = |batch: &str| {
        let more = ["--json", "--dtype", "f32", "--max-tokens", "16", "--no-repeat-ngram", "1", "--batch", batch];
        let output = ocr(&[&small, &document, &gray], &more);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let pages = object(&output)["pages"].as_array().expect("pages").clone();
        pages.iter().map(|page| (page["page"].clone(), page["tokens"].clone())).collect::<Vec<_>>()
    };
    let alone = tokens("1");
    assert_eq!(alone.len(), 5);
    assert!(alone.iter().any(|(_, tokens)| *tokens != alone[0].1), "the pages differ");
    // Fewer at a time than there are: the others join as these end.
    assert_eq!(tokens("3"), alone);
}

/// Starts a run and hands it over once its first page is there.
fn stopped(inputs: &[&Path], out: &Path, first: &str, signal: &str) -> Option<i32> {
    let more = ["--out", &out.to_string_lossy(), "--max-tokens", "16"];
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("mlxport"))
        .args(arguments(inputs, &more))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    while !out.join(first).exists() {
        assert_eq!(child.try_wait().expect("asked"), None, "ended before its first page");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill");
    assert!(sent.success());
    child.wait().expect("waited for").code()
}

#[test]
#[cfg(unix)]
fn a_run_that_is_stopped_goes_on_where_it_was() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (document, whole, parts) = (dir.path().join("b.pdf"), dir.path().join("whole"), dir.path().join("parts"));
    let contents: Vec<String> = (0..5).map(|at| format!("0 0 {} 50 re f", 5 * at)).collect();
    fs::write(&document, pdf(&contents.iter().map(String::as_str).collect::<Vec<_>>())).expect("written");
    let inputs = [data("pages/small.png"), document];
    let inputs = [inputs[0].as_path(), inputs[1].as_path()];
    let run = |out: &Path| ocr(&inputs, &["--out", &out.to_string_lossy(), "--max-tokens", "16", "--json"]);
    assert_eq!(code(&run(&whole)), 0);
    assert_eq!(stopped(&inputs, &parts, "small.png", "-INT"), Some(130), "asked, it ends by itself");
    assert!(!parts.join("b.pdf/b.mmd").exists(), "it was not done yet");
    let before = fs::metadata(parts.join("small.png/page.json")).expect("there").modified().expect("a time");
    assert_eq!(stopped(&inputs, &parts, "b.pdf/page-0002", "-KILL"), None, "killed, it does not");
    // What a kill in the middle of writing would leave.
    fs::create_dir_all(parts.join(".mlxport-half/images")).expect("made");
    let last = run(&parts);
    assert_eq!(code(&last), 0, "{}", stderr(&last));
    let told = object(&last);
    let (now, earlier) =
        (told["pages"].as_array().map_or(0, Vec::len), told["done_before"].as_array().map_or(0, Vec::len));
    assert_eq!(now + earlier, 6, "{told:#}");
    assert!(earlier >= 3 && now > 0, "{earlier} were there, {now} were read");
    assert_eq!(fs::metadata(parts.join("small.png/page.json")).expect("there").modified().expect("a time"), before);
    let (whole, parts) = (tree(&whole), tree(&parts));
    assert_eq!(whole.keys().collect::<Vec<_>>(), parts.keys().collect::<Vec<_>>());
    assert!(whole == parts, "all is as if nothing had happened");
}

#[test]
fn images_of_one_prompt_the_prompts_by_name_and_the_evaluations_files() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (small, gray) = (data("pages/small.png"), data("pages/gray.png"));
    let tokens = |inputs: &[&Path], more: &[&str]| {
        let output = ocr(inputs, &[&["--json", "--no-repeat-ngram", "1"], more].concat());
        assert_eq!(code(&output), 0, "{more:?}: {}", stderr(&output));
        object(&output)["pages"][0].clone()
    };
    let asked = ["--together", "--prompt", "<image>\n<image>\nWhat changed?", "--dtype", "f32", "--max-tokens", "40"];
    let both = tokens(&[&small, &gray], &asked);
    assert_eq!(both["page"], "together");
    let turned = tokens(&[&gray, &small], &asked);
    assert_ne!(both["tokens"], turned["tokens"], "the order counts");
    assert_eq!(
        tokens(&[&small, &gray], &["--together", "--task", "free-ocr"])["tokens"],
        tokens(&[&small, &gray], &["--together", "--prompt", "<image>\n<image>\nFree OCR."])["tokens"]
    );
    let wrong = ocr(&[&small, &gray], &["--together", "--prompt", "<image>\nWhat?", "--json"]);
    assert_eq!(code(&wrong), 2);
    assert_eq!(object(&wrong)["ok"], false, "without a result, the object says why");
    assert!(stderr(&wrong).contains("found 1 for 2 images"), "{}", stderr(&wrong));
    let same = [
        ["--task", "figure", "--template", "plain"],
        ["--prompt", "<image>\nParse the figure.", "--template", "plain"],
    ];
    assert_eq!(tokens(&[&small], &same[0])["tokens"], tokens(&[&small], &same[1])["tokens"]);
    let out = dir.path().join("out");
    let evaluated = ["--format", "eval", "--out", &out.to_string_lossy()];
    let page = tokens(&[&small], &evaluated);
    let names: Vec<PathBuf> = tree(&out).into_keys().collect();
    let kept = [".mlxport/small.json", "small.md", "small_det.md"];
    assert_eq!(names, kept.map(PathBuf::from));
    let written = fs::read_to_string(out.join("small_det.md")).expect("readable");
    assert_eq!(written.trim(), page["text"].as_str().expect("text").trim(), "no references in noise");
    let chat = ocr(&[&small], &["--template", "deepseek", "--out", &out.to_string_lossy()]);
    assert_eq!(code(&chat), 0, "{}", stderr(&chat));
    let other = ocr(&[&small], &["--task", "ocr", "--keep", "--out", &out.to_string_lossy()]);
    assert!(stderr(&other).contains("small.png: done before, and kept: another prompt"), "{}", stderr(&other));
    let again = ocr(&[&small], &[&evaluated[..], &["--json", "--no-repeat-ngram", "1"]].concat());
    assert_eq!(object(&again)["done_before"], json!(["small.png"]));
}

#[test]
fn a_projector_that_makes_fewer_tokens_of_a_page_is_refused_before_anything_is_read() {
    let dir = converted("tiny-squares", "mlx-vlm");
    let model = dir.path().join("model");
    std::fs::remove_file(model.join("model.safetensors")).expect("weights are not asked for");
    let (page, model, nothing) = (data("pages/small.png"), model.to_string_lossy().into_owned(), "none.json");
    for args in [vec!["ocr", &page.to_string_lossy()], vec!["serve", "--port", "0"]] {
        let output = mlxport(args.iter().copied().chain(["--model", &model, "--tokenizer", nothing]));
        assert_eq!(code(&output), 2, "{args:?}");
        let told = stderr(&output);
        for part in ["config.json: projector_config.downsample_ratio = 3", "expected", "`mlxport parity`"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}

#[test]
fn a_step_that_fails_fails_for_its_own_pages() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    model(dir.path(), f32::NAN);
    let broken = dir.path().join("model").to_string_lossy().into_owned();
    let arguments = arguments(&[&data("pages/small.png"), &data("pages/gray.png")], &["--json", "--batch", "2"]);
    let own = MODEL.to_string_lossy().into_owned();
    let output = mlxport(arguments.into_iter().map(|argument| if argument == own { broken.clone() } else { argument }));
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    let told = object(&output);
    assert_eq!(told["failed"].as_array().map(Vec::len), Some(2), "{told:#}");
    assert!(told["failed"][1]["error"].as_str().is_some_and(|error| error.contains("logits")), "{told:#}");
}
