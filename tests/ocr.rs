//! `mlxport ocr`, end to end: a small random model with the release's vocabulary reads pages. Its text is noise; what is checked is that
//! every page comes out, once, whole, the same each time, and that what cannot be read is told.

mod support;
#[path = "support/tensors.rs"]
mod tensors;
#[path = "support/vocabulary.rs"]
mod vocabulary;

use std::path::Path;

use support::{code, mlxport, stderr};
use vocabulary::{data, model};

fn ocr(model: &Path, inputs: &[&Path], more: &[&str]) -> std::process::Output {
    let (model, tokenizer) = (model.to_string_lossy(), data("tokenizer.json").to_string_lossy().into_owned());
    let inputs: Vec<String> = inputs.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let mut args = vec!["ocr", "--model", &model, "--tokenizer", &tokenizer, "--mode", "tiny", "--max-tokens", "6"];
    args.extend(inputs.iter().map(String::as_str));
    args.extend(more);
    mlxport(args)
}

#[test]
fn pages_come_out_whole_once_and_the_same_each_time() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let model = model(dir.path());
    let pages = dir.path().join("pages");
    std::fs::create_dir(&pages).expect("made");
    for name in ["small.png", "gray.png"] {
        std::fs::copy(data("pages").join(name), pages.join(name)).expect("copied");
    }
    std::fs::write(pages.join("notes.txt"), "no page").expect("written");
    std::fs::write(pages.join("broken.png"), b"no image").expect("written");
    let (out, said) = (dir.path().join("out"), |output: &std::process::Output| stderr(output));
    let out_name = out.to_string_lossy().into_owned();
    let first = ocr(&model, &[&pages], &["--out", &out_name, "--json"]);
    assert_eq!(code(&first), 2, "one page is broken: {}", said(&first));
    let object: serde_json::Value = serde_json::from_slice(&first.stdout).expect("one object");
    assert_eq!(object["failed"][0]["page"], "broken.png", "{object:#}");
    let read = object["pages"].as_array().expect("pages");
    assert_eq!(
        read.iter().map(|page| page["page"].as_str().expect("a name")).collect::<Vec<_>>(),
        ["gray.png", "small.png"]
    );
    for page in read {
        assert_eq!(page["tokens"].as_array().map(Vec::len), Some(6), "{page:#}");
        let folder = out.join(page["page"].as_str().expect("a name"));
        let text = std::fs::read_to_string(folder.join("result.mmd")).expect("result.mmd");
        assert_eq!(Some(text.as_str()), page["text"].as_str());
        assert!(std::fs::read(folder.join("result_with_boxes.jpg")).expect("boxes").starts_with(&[0xFF, 0xD8]));
    }
    assert_eq!(std::fs::read_dir(&out).expect("listed").count(), 2, "nothing half-written lies about");
    std::fs::remove_file(pages.join("broken.png")).expect("removed");
    std::fs::remove_dir_all(out.join("small.png")).expect("removed");
    let again = ocr(&model, &[&pages], &["--out", &out_name, "--json"]);
    assert_eq!(code(&again), 0, "{}", said(&again));
    let second: serde_json::Value = serde_json::from_slice(&again.stdout).expect("one object");
    assert_eq!(second["done_before"], serde_json::json!(["gray.png"]));
    assert_eq!(second["pages"][0]["tokens"], read[1]["tokens"], "the same page, the same tokens");
    let alone = ocr(&model, &[&data("pages/small.png")], &[]);
    assert_eq!(code(&alone), 0);
    let text = String::from_utf8(alone.stdout).expect("UTF-8");
    assert_eq!(text.trim_end(), read[1]["text"].as_str().expect("text").trim_end());
    let twins = ocr(&model, &[&data("pages/small.png"), &pages.join("small.png")], &[]);
    assert_eq!(code(&twins), 2);
    assert!(said(&twins).contains("two pages are called small.png"), "{}", said(&twins));
}
