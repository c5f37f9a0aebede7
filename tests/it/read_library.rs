//! `read/` as a library: a program of its own reads a page, and the binary is not asked. (It converts the model that reads.)

use std::{path::PathBuf, sync::atomic::AtomicBool};

use mlxport_ocr::Mode;
use mlxport_read::{Outcome, Settings, TextRules, Watcher, read_pages};

use crate::support::vocabulary::{data, model};

/// All that a run says.
#[derive(Default)]
struct Heard {
    pages: usize,
    read: usize,
    tokens: usize,
    notes: Vec<String>,
    texts: Vec<String>,
}

impl Watcher for Heard {
    fn more_pages(&mut self, count: usize) {
        self.pages += count;
    }

    fn page_done(&mut self, was_read: bool) {
        self.read += usize::from(was_read);
    }

    fn tokens(&mut self, made: usize, _pages: usize) {
        self.tokens += made;
    }

    fn note(&mut self, line: &str) {
        self.notes.push(line.to_owned());
    }

    fn text(&mut self, text: &str) -> std::io::Result<()> {
        self.texts.push(text.to_owned());
        Ok(())
    }
}

fn settings(model: PathBuf) -> Settings {
    Settings {
        tokenizer: Some(data("tokenizer.json")),
        mode: Some(Mode::Tiny),
        rules: TextRules { max_tokens: 6, ..TextRules::default() },
        ..Settings::new(vec![data("pages").join("small.png")], model)
    }
}

fn read(settings: &Settings, stop: bool) -> (Outcome, Heard) {
    let mut heard = Heard::default();
    let outcome = read_pages(settings, &AtomicBool::new(stop), &mut heard).expect("a run");
    (outcome, heard)
}

#[test]
fn a_program_reads_pages_without_the_binary() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let model = model(dir.path());
    let (outcome, heard) = read(&settings(model.clone()), false);
    assert!(outcome.failed.is_empty() && outcome.pages.is_empty() && !outcome.interrupted, "{outcome:?}");
    assert_eq!((heard.pages, heard.read, heard.tokens, heard.texts.len()), (1, 1, 6, 1), "{:?}", heard.notes);
    assert!(heard.notes.iter().any(|note| note.starts_with("small.png: 6 tokens")), "{:?}", heard.notes);

    let (outcome, heard_again) = read(&Settings { collect_pages: true, ..settings(model.clone()) }, false);
    let page = outcome.pages.get(&0).expect("a page");
    assert_eq!((page.tokens.len(), &format!("{}\n", page.found.text)), (6, &heard.texts[0]), "read alike");
    assert!(heard_again.texts.is_empty(), "a page that is collected is not handed on");

    let (outcome, heard) = read(&settings(model.clone()), true);
    assert!(outcome.interrupted && heard.read == 0 && heard.notes.iter().any(|note| note.contains("interrupted")));

    let missing = Settings { inputs: vec![data("pages").join("no such page.png")], ..settings(model) };
    let (outcome, _) = read(&missing, false);
    assert_eq!(outcome.failed.len(), 1, "{outcome:?}");
    assert_eq!(outcome.remarks(), ["1 failed"]);
}
