//! The header of a safetensors file. Input: two bytes (little endian) for the length of the tensors' bytes, then the header's JSON.

use std::collections::BTreeSet;
use std::fs::File;

use mlxport_convert::checkpoint::header::{self, Entry};
use mlxport_convert::dtype::byte_len;
use mlxport_convert::{Violation, ViolationKind};
use safetensors::tensor::Metadata;
use serde_json::{Map, Value, json};

use crate::place;

const NAME: &str = "x.safetensors";

/// Parses the header, and reads the file that it would head.
pub fn run(data: &[u8]) {
    let Some((claim, json)) = data.split_at_checked(2) else {
        return as_a_file(data);
    };
    let data_byte_len = u64::from(u16::from_le_bytes([claim[0], claim[1]]));
    as_a_file(data);
    let parsed = header::parse(json, data_byte_len, NAME);
    same_from_a_file(json, data_byte_len, &parsed);
    match parsed {
        Ok((sound, broken, violations)) => {
            check(&sound, &broken, &violations, data_byte_len);
            upstream_agrees(json, data_byte_len, &violations);
            round_trip(&sound);
        }
        Err(violations) => assert!(!violations.is_empty(), "refused without a reason"),
    }
}

/// What the reader must say of every header.
fn check(sound: &[Entry], broken: &[String], violations: &[Violation], data_byte_len: u64) {
    let mut keys = BTreeSet::new();
    let mut covered = 0;
    for Entry { key, info } in sound {
        let (begin, end) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        assert!(begin <= end && end <= data_byte_len, "{key}: {begin}..{end} of {data_byte_len}");
        let shape: Vec<u64> = info.shape.iter().map(|&n| n as u64).collect();
        assert_eq!(byte_len(info.dtype, &shape), Some(end - begin), "{key}");
        assert!(keys.insert(key.as_str()), "{key} is sound twice");
        covered += end - begin;
    }
    for key in broken {
        assert!(!keys.contains(key.as_str()), "{key} is sound and broken");
        assert!(!violations.is_empty(), "{key} is broken without a reason");
    }
    if violations.is_empty() {
        assert_eq!(covered, data_byte_len, "a sound header covers every byte once");
    }
}

/// What the `safetensors` crate takes, this reader takes; but for repeated keys, of which that crate lets the last one win.
fn upstream_agrees(json: &[u8], data_byte_len: u64, violations: &[Violation]) {
    let Ok(theirs) = serde_json::from_slice::<Metadata>(json) else { return };
    let repeated = violations.iter().any(|violation| violation.kind == ViolationKind::DuplicateKey);
    if theirs.data_len() as u64 == data_byte_len && !repeated {
        assert!(violations.is_empty(), "the safetensors crate takes what is refused here: {violations:?}");
    }
}

/// Printed and read again, sound entries are the same.
fn round_trip(sound: &[Entry]) {
    let mut printed = Map::new();
    for Entry { key, info } in sound {
        let (begin, end) = info.data_offsets;
        let entry = json!({ "dtype": info.dtype.to_string(), "shape": info.shape, "data_offsets": [begin, end] });
        printed.insert(key.clone(), entry);
    }
    let text = Value::Object(printed).to_string();
    let (again, broken, _) = header::parse(text.as_bytes(), u64::MAX, NAME).expect("our own print parses");
    assert!(broken.is_empty(), "{broken:?}");
    let plain = |entries: &[Entry]| -> Vec<_> {
        entries
            .iter()
            .map(|Entry { key, info }| (key.clone(), info.clone()))
            .map(|(k, i)| (k, format!("{i:?}")))
            .collect()
    };
    assert_eq!(plain(&again), plain(sound));
}

type Parsed = Result<(Vec<Entry>, Vec<String>, Vec<Violation>), Vec<Violation>>;

/// Reading a file with this header finds what parsing the JSON found.
fn same_from_a_file(json: &[u8], data_byte_len: u64, parsed: &Parsed) {
    let path = place::path("header.safetensors");
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json);
    let data_start = bytes.len() as u64;
    place::write(&path, &bytes);
    let file = File::options().read(true).write(true).open(&path).expect("just written");
    file.set_len(data_start + data_byte_len).expect("a few sparse bytes");
    match (header::read(&file, NAME, data_start + data_byte_len), parsed) {
        (Ok((header, violations)), Ok((sound, broken, expected))) => {
            assert_eq!(header.data_start, data_start);
            assert_eq!((header.sound.len(), &header.broken, &violations), (sound.len(), broken, expected));
        }
        (Err(found), Err(expected)) => assert_eq!(&found, expected),
        (found, _) => panic!("the file and its header's JSON are judged differently: {found:?}"),
    }
}

/// Any bytes as a whole file, length field included.
fn as_a_file(bytes: &[u8]) {
    let path = place::path("raw.safetensors");
    place::write(&path, bytes);
    let file = File::open(&path).expect("just written");
    let byte_len = bytes.len() as u64;
    match header::read(&file, NAME, byte_len) {
        Ok((header, violations)) => {
            assert!(header.data_start <= byte_len);
            check(&header.sound, &header.broken, &violations, byte_len - header.data_start);
        }
        Err(violations) => assert!(!violations.is_empty(), "refused without a reason"),
    }
}
