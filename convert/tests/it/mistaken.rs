//! What lies in the place of a checkpoint by mistake, and the one line that says so.

use std::fs;
use std::path::{Path, PathBuf};

use mlxport_convert::{Request, ViolationKind, WriteOptions, digest, prepare, survey};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::pickled::{archive, checkpoint, dict, made, pickle, tuple};
use crate::support::tiny::Tiny;

const WEIGHTS: &str = "model.safetensors";

fn release() -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().expect("a directory");
    let source = home.path().join("release");
    Tiny::default().write(&source);
    (home, source)
}

fn request(source: &Path) -> Request {
    Request { source: source.to_owned(), ..Request::default() }
}

/// What a person reads of all that is wrong with a release.
fn told(source: &Path) -> String {
    let survey = survey(&request(source)).expect("a survey");
    digest::lines(&survey.violations, 40, "--all")
}

#[track_caller]
fn is_one_line(source: &Path, what: &str) {
    let lines = told(source);
    assert!(lines.lines().count() == 1 && lines.contains(what), "{lines}");
}

/// The weights replaced by these bytes.
fn with(bytes: &[u8]) -> (TempDir, PathBuf) {
    let (home, source) = release();
    fs::write(source.join(WEIGHTS), bytes).expect("writes");
    (home, source)
}

#[test]
fn a_server_s_answer_is_no_checkpoint() {
    for body in ["Access to this model is restricted.\n", "{\"error\": \"Repository not found\"}"] {
        let (_home, source) = with(body.as_bytes());
        is_one_line(&source, "text, such as a server's answer");
    }
}

#[test]
fn a_link_that_leads_nowhere_says_where_it_leads() {
    let (_home, source) = release();
    fs::remove_file(source.join(WEIGHTS)).expect("removes");
    std::os::unix::fs::symlink("../blobs/none", source.join(WEIGHTS)).expect("a link");
    is_one_line(&source, "a link to ../blobs/none");
}

#[test]
fn a_config_that_is_no_object_or_is_missing_comes_first() {
    let (_home, source) = release();
    fs::write(source.join("config.json"), "[]").expect("writes");
    is_one_line(&source, "JSON that is no object");
    fs::remove_file(source.join("config.json")).expect("removes");
    let named = Request { recipe: Some("deepseek-ocr".into()), ..request(&source) };
    let violations = survey(&named).expect("a survey").violations;
    assert_eq!((violations[0].kind, &*violations[0].place), (ViolationKind::MissingFile, "config.json"));
}

#[test]
fn numbers_that_json_has_not_are_told_as_python_writes_them() {
    let (_home, source) = release();
    let text = fs::read_to_string(source.join("config.json")).expect("a config");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config["language_config"]["hidden_size"] = json!("here");
    fs::write(source.join("config.json"), config.to_string().replace("\"here\"", "NaN")).expect("writes");
    is_one_line(&source, "found NaN");
}

#[test]
fn an_index_may_name_its_shards_from_the_directory_but_not_from_above() {
    let (_home, source) = release();
    let keys: Vec<String> = Tiny::default().tensors().into_iter().map(|(key, ..)| key).collect();
    let index = |file: &str| {
        let map: serde_json::Map<String, Value> = keys.iter().map(|key| (key.clone(), file.into())).collect();
        let index = json!({ "weight_map": map });
        fs::write(source.join("model.safetensors.index.json"), index.to_string()).expect("writes");
    };
    index("./model.safetensors");
    assert_eq!(told(&source), "");
    index("../model.safetensors");
    is_one_line(&source, "more like it]");
}

#[test]
fn a_trainer_s_state_is_no_shard() {
    let (_home, source) = release();
    fs::copy(source.join(WEIGHTS), source.join("optimizer.safetensors")).expect("copies");
    let plan = survey(&request(&source)).expect("a survey").plan.expect("a plan");
    assert!(plan.notes.iter().any(|note| note.starts_with("optimizer.safetensors: a trainer's state")));
}

#[test]
fn pickles_without_weights_say_what_they_hold() {
    let meta = made("torch._utils", "_rebuild_meta_tensor_no_storage", &[]);
    let array = made("numpy.core.multiarray", "_reconstruct", &[]);
    for (object, what) in [(meta, "of the device meta"), (array, "a NumPy array")] {
        let (_home, source) = release();
        fs::remove_file(source.join(WEIGHTS)).expect("removes");
        let entries = [("a", object.clone()), ("b.c", object)];
        let bytes = checkpoint(&pickle(dict(&entries)), &[0; 16]);
        fs::write(source.join("pytorch_model.bin"), bytes).expect("writes");
        // What the file holds comes before what the recipe misses.
        let lines = told(&source);
        assert!(lines.lines().next().is_some_and(|first| first.contains(what)), "{lines}");
    }
}

#[test]
fn a_pickle_of_nothing_but_levels_is_read_in_time_of_its_length() {
    let (_home, source) = release();
    fs::remove_file(source.join(WEIGHTS)).expect("removes");
    // Each level is a tuple of the one before: `)` and then `\x85` two hundred thousand times.
    let mut levels = tuple(&[]);
    levels.extend(std::iter::repeat_n(0x85, 200_000));
    fs::write(source.join("pytorch_model.bin"), archive(&[("x/data.pkl", &pickle(levels))])).expect("writes");
    is_one_line(&source, "no tensor in it");
}

#[test]
fn a_person_s_edits_of_what_was_written_are_kept() {
    let (home, source) = release();
    let target = home.path().join("out");
    let ready = prepare(&request(&source)).expect("plans");
    ready.write(&WriteOptions::to(&target)).expect("converts");
    let config = target.join("config.json");
    let written = fs::read_to_string(&config).expect("a config");
    fs::write(&config, format!("{written}\n")).expect("edits");
    let force = WriteOptions { force: true, ..WriteOptions::to(&target) };
    let refused = ready.write(&force).expect_err("someone's work lies there");
    assert!(refused.to_string().contains("config.json, edited since"), "{refused}");
    fs::write(&config, written).expect("restores");
    ready.write(&force).expect("replaces what it wrote");
}
