//! `model.safetensors.index.json` and `pytorch_model.bin.index.json`: which shard has which key, read without trusting it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::path::Path;

use serde::Deserializer;
use serde::de::{Deserialize, MapAccess, Visitor};

use crate::error::{Violation, ViolationKind};
use crate::files::{is_plain_name, read_bounded};

use super::form::stands_for;
use super::source::MAX_JSON_BYTE_LEN;

/// One of the two kinds of index; they differ in names only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexForm {
    /// The name an index has in a release.
    pub file_name: &'static str,
    /// What its shards' names end in.
    pub ending: &'static str,
}

/// The index of safetensors shards.
pub const SAFETENSORS: IndexForm = IndexForm { file_name: "model.safetensors.index.json", ending: ".safetensors" };
/// The index of PyTorch's own files.
pub const PICKLES: IndexForm = IndexForm { file_name: "pytorch_model.bin.index.json", ending: ".bin" };

/// Key → shard file name, with only usable file names left in.
#[derive(Debug, Default)]
pub struct Index {
    /// Which file each key is said to be in.
    pub weight_map: BTreeMap<String, String>,
    /// Keys mapped to a file name that cannot be used.
    pub unusable: Vec<String>,
}

/// Reads the index at `path`.
pub fn read(path: &Path, form: IndexForm) -> (Index, Vec<Violation>) {
    match read_bounded(path, MAX_JSON_BYTE_LEN) {
        Ok(bytes) => match stands_for(&bytes) {
            Some(what) => (Index::default(), vec![unusable(form, what.to_owned())]),
            None => parse(crate::json::without_bom(&bytes), form),
        },
        Err(error) => (Index::default(), vec![unusable(form, error.to_string())]),
    }
}

/// Parses the text of an index and checks every file name and key. What is wrong comes with what is left.
pub fn parse(json: &[u8], form: IndexForm) -> (Index, Vec<Violation>) {
    // As text, not bytes: serde_json would let through what is no UTF-8 in the fields that nobody asks for.
    let raw = std::str::from_utf8(json).map_err(|error| error.to_string()).and_then(|text| {
        let raw: Result<RawIndex, _> = serde_json::from_str(text);
        raw.map_err(|error| error.to_string())
    });
    match raw {
        Ok(raw) => check(raw.weight_map, form),
        Err(why) => (Index::default(), vec![unusable(form, why)]),
    }
}

fn unusable(form: IndexForm, found: String) -> Violation {
    let expected = "a JSON object with a weight_map of file names by key";
    Violation::new(ViolationKind::IndexMismatch, form.file_name, expected, found)
}

/// Refuses file names that leave the directory and keys that come twice.
fn check(map: Pairs, form: IndexForm) -> (Index, Vec<Violation>) {
    let (mut index, mut violations) = (Index::default(), Vec::new());
    let IndexForm { file_name, ending } = form;
    for (key, file) in map.0 {
        // The same file to whoever joins folder and name.
        let file = file.strip_prefix("./").map_or(file.clone(), str::to_owned);
        if !is_plain_name(&file) || !file.ends_with(ending) {
            violations.push(Violation::new(
                ViolationKind::BadPath,
                format!("{file_name}: {key}"),
                format!("the plain name of a {ending} file beside the index"),
                format!("{file:?}"),
            ));
            index.unusable.push(key);
            continue;
        }
        match index.weight_map.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(file);
            }
            Entry::Occupied(entry) => violations.push(Violation::new(
                ViolationKind::DuplicateKey,
                format!("{file_name}: {}", entry.key()),
                "each key once in weight_map",
                "the key again",
            )),
        }
    }
    (index, violations)
}

#[derive(serde::Deserialize)]
struct RawIndex {
    weight_map: Pairs,
}

/// A JSON object of strings in order, repeated keys included.
struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object of file names by key")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}
