//! `model.safetensors.index.json`: which shard has which key, read without trusting it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::path::Path;

use serde::Deserializer;
use serde::de::{Deserialize, MapAccess, Visitor};

use crate::error::{Violation, ViolationKind};
use crate::files::{is_plain_name, read_bounded};

use super::MAX_JSON_BYTE_LEN;

/// The name an index has in a release.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// Key → shard file name, with only usable file names left in.
#[derive(Debug, Default)]
pub struct Index {
    /// Which file each key is said to be in.
    pub weight_map: BTreeMap<String, String>,
    /// Keys mapped to a file name that cannot be used.
    pub unusable: Vec<String>,
}

/// Reads the index at `path`.
pub fn read(path: &Path) -> (Index, Vec<Violation>) {
    let bad = |found: String| {
        let expected = "a JSON object with a weight_map of file names by key";
        vec![Violation::new(ViolationKind::IndexMismatch, INDEX_FILE, expected, found)]
    };
    let bytes = match read_bounded(path, MAX_JSON_BYTE_LEN) {
        Ok(bytes) => bytes,
        Err(error) => return (Index::default(), bad(error.to_string())),
    };
    let raw: RawIndex = match serde_json::from_slice(&bytes) {
        Ok(raw) => raw,
        Err(error) => return (Index::default(), bad(error.to_string())),
    };
    check(raw.weight_map)
}

/// Refuses file names that leave the directory and keys that come twice.
fn check(map: Pairs) -> (Index, Vec<Violation>) {
    let (mut index, mut violations) = (Index::default(), Vec::new());
    for (key, file) in map.0 {
        if !is_plain_name(&file) || !file.ends_with(".safetensors") {
            violations.push(Violation::new(
                ViolationKind::BadPath,
                format!("{INDEX_FILE}: {key}"),
                "the plain name of a .safetensors file beside the index",
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
                format!("{INDEX_FILE}: {}", entry.key()),
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
