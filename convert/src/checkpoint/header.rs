//! The header of a safetensors file, read without trusting it.
//!
//! A file is: 8 bytes little-endian header length, that many bytes of JSON (`{key: {dtype, shape, data_offsets}}`), then the tensors'
//! bytes. Entries are parsed as the `safetensors` crate's own types; the checks are made here because that crate stops at the first
//! error, needs the whole file in memory, and lets a repeated key win silently.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;

use safetensors::Dtype;
use safetensors::tensor::TensorInfo as RawInfo;
use serde::Deserializer;
use serde::de::{Deserialize, IgnoredAny, MapAccess, Visitor};

use crate::dtype::byte_len;
use crate::error::{Violation, ViolationKind};

/// The longest header that is read, in bytes (the format's own limit).
pub const MAX_HEADER_BYTE_LEN: u64 = 100_000_000;
/// The most tensors one file may claim.
const MAX_TENSORS: usize = 1_000_000;
/// Bytes of the length field in front of the JSON.
const LENGTH_BYTE_LEN: u64 = 8;

/// One tensor of a header.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The tensor's key.
    pub key: String,
    /// dtype, shape and offsets as written.
    pub info: RawInfo,
}

/// A parsed header. `sound` entries passed every check; `broken` keys are named but cannot be read.
#[derive(Debug)]
pub struct Header {
    /// Where the tensors' bytes begin in the file.
    pub data_start: u64,
    /// Entries that may be read, by offset.
    pub sound: Vec<Entry>,
    /// Keys whose entry is wrong.
    pub broken: Vec<String>,
    /// BLAKE3 of the length field and the JSON.
    pub hash: blake3::Hash,
    /// Whether the metadata says that MLX tools wrote the file.
    pub is_mlx: bool,
}

/// Reads and checks the header of `file`, which is `file_byte_len` bytes long and called `name` in messages.
///
/// # Errors
/// The violations alone when no entry can be known; otherwise the header comes with those that concern single entries or the length.
pub fn read(file: &File, name: &str, file_byte_len: u64) -> Result<(Header, Vec<Violation>), Vec<Violation>> {
    let bad = |expected: String, found: String| vec![Violation::new(ViolationKind::BadHeader, name, expected, found)];
    let mut length = [0_u8; LENGTH_BYTE_LEN as usize];
    if file_byte_len < LENGTH_BYTE_LEN {
        return Err(vec![Violation::new(
            ViolationKind::TruncatedFile,
            name,
            "at least the 8 bytes of a header length",
            format!("{file_byte_len} bytes"),
        )]);
    }
    let system = |error: std::io::Error| bad("a readable header".into(), error.to_string());
    file.read_exact_at(&mut length, 0).map_err(system)?;
    let json_byte_len = u64::from_le_bytes(length);
    if json_byte_len > MAX_HEADER_BYTE_LEN {
        return Err(bad(
            format!("a header of at most {MAX_HEADER_BYTE_LEN} bytes"),
            format!("a claim of {json_byte_len} bytes"),
        ));
    }
    if json_byte_len > file_byte_len - LENGTH_BYTE_LEN {
        return Err(vec![Violation::new(
            ViolationKind::TruncatedFile,
            name,
            format!("a header of {json_byte_len} bytes, as its length field says"),
            format!("a file of {file_byte_len} bytes"),
        )]);
    }
    // Bounded by the two checks above.
    let mut json = vec![0_u8; json_byte_len as usize];
    file.read_exact_at(&mut json, LENGTH_BYTE_LEN).map_err(system)?;
    let data_start = LENGTH_BYTE_LEN + json_byte_len;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&length).update(&json);
    let (sound, broken, violations) = parse(&json, file_byte_len - data_start, name)?;
    let header = Header { data_start, sound, broken, hash: hasher.finalize(), is_mlx: says_mlx(&json) };
    Ok((header, violations))
}

/// Whether the metadata names MLX as the format's writer; what cannot be read says nothing.
fn says_mlx(json: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Only {
        #[serde(rename = "__metadata__", default)]
        metadata: serde_json::Map<String, serde_json::Value>,
    }
    let read: Result<Only, _> = serde_json::from_slice(json);
    read.is_ok_and(|only| only.metadata.get("format").and_then(serde_json::Value::as_str) == Some("mlx"))
}

/// Sound entries, the keys of broken ones, and what is wrong.
type Parsed = (Vec<Entry>, Vec<String>, Vec<Violation>);

/// Parses the header's JSON and checks every entry against `data_byte_len` bytes of tensors.
///
/// # Errors
/// One violation when the JSON as a whole cannot be read.
pub fn parse(json: &[u8], data_byte_len: u64, name: &str) -> Result<Parsed, Vec<Violation>> {
    let bad = |why: String| {
        let expected = "a JSON object of {dtype, shape, data_offsets} by key";
        vec![Violation::new(ViolationKind::BadHeader, name, expected, why)]
    };
    // As text, not bytes: serde_json would let through what is no UTF-8 in the metadata, and other readers refuse such a file.
    let text = std::str::from_utf8(json).map_err(|error| bad(error.to_string()))?;
    let entries: Entries = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
    let (mut sound, mut broken, mut violations) = (Vec::new(), Vec::new(), Vec::new());
    for key in entries.repeated {
        violations.push(Violation::new(
            ViolationKind::DuplicateKey,
            format!("{name}: {key}"),
            "each key once in a header",
            "the key again",
        ));
    }
    for (key, dtype) in entries.unknown {
        let expected = "a dtype that safetensors 0.8 names";
        violations.push(Violation::new(
            ViolationKind::BadHeader,
            format!("{name}: {key}"),
            expected,
            format!("{dtype:?}"),
        ));
        broken.push(key);
    }
    for entry in entries.list {
        match check_size(&entry, name) {
            Ok(()) => sound.push(entry),
            Err(violation) => {
                violations.push(violation);
                broken.push(entry.key);
            }
        }
    }
    sound.sort_by(|a, b| (a.info.data_offsets, &a.key).cmp(&(b.info.data_offsets, &b.key)));
    violations.extend(check_cover(&sound, broken.is_empty(), data_byte_len, name));
    let (inside, outside): (Vec<_>, Vec<_>) =
        sound.into_iter().partition(|entry| entry.info.data_offsets.1 as u64 <= data_byte_len);
    broken.extend(outside.into_iter().map(|entry| entry.key));
    Ok((inside, broken, violations))
}

/// The bytes an entry spans must be what its dtype and shape make.
fn check_size(entry: &Entry, name: &str) -> Result<(), Violation> {
    let (begin, end) = entry.info.data_offsets;
    let shape: Vec<u64> = entry.info.shape.iter().map(|&n| n as u64).collect();
    let expected = byte_len(entry.info.dtype, &shape);
    let found = end.checked_sub(begin).map(|n| n as u64);
    if expected.is_some() && expected == found {
        return Ok(());
    }
    Err(Violation::new(
        ViolationKind::BadHeader,
        format!("{name}: {}", entry.key),
        expected.map_or("a shape whose bytes can be counted".into(), |n| {
            format!("{n} bytes for {} {:?}", entry.info.dtype, shape)
        }),
        format!("{} {shape:?} at offsets {begin}..{end}", entry.info.dtype),
    ))
}

/// The entries, in offset order, must cover the tensors' bytes without gap or overlap. Gaps mean nothing while broken entries hide
/// what lies there.
fn check_cover(sorted: &[Entry], all_known: bool, data_byte_len: u64, name: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut at = 0_u64;
    for entry in sorted {
        let (begin, end) = (entry.info.data_offsets.0 as u64, entry.info.data_offsets.1 as u64);
        if begin < at || (begin > at && all_known) {
            let what = if begin < at { "an overlap" } else { "a gap" };
            violations.push(Violation::new(
                ViolationKind::BadHeader,
                format!("{name}: {}", entry.key),
                format!("to begin at byte {at}, where the tensor before it ends"),
                format!("{what}: it begins at {begin}"),
            ));
        }
        at = at.max(end);
    }
    if at > data_byte_len {
        violations.push(Violation::new(
            ViolationKind::TruncatedFile,
            name,
            format!("{at} bytes of tensors, as the header says"),
            format!("{data_byte_len} bytes"),
        ));
    } else if at < data_byte_len && all_known {
        violations.push(Violation::new(
            ViolationKind::BadHeader,
            name,
            format!("nothing after the {at} bytes of tensors that the header describes"),
            format!("{data_byte_len} bytes"),
        ));
    }
    violations
}

/// The header's JSON object in order, with the keys that came twice.
struct Entries {
    list: Vec<Entry>,
    repeated: Vec<String>,
    /// Keys whose dtype has a name that is not known, with the name.
    unknown: Vec<(String, String)>,
}

/// An entry whose dtype may be one that came to be named later.
#[derive(serde::Deserialize)]
struct AnyEntry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object of tensors by key")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut seen = std::collections::HashSet::new();
        let (mut list, mut repeated, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(key) = map.next_key::<String>()? {
            if key == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let AnyEntry { dtype, shape, data_offsets } = map.next_value()?;
            let known: Option<Dtype> = crate::dtype::from_name(&dtype);
            if !seen.insert(key.clone()) {
                repeated.push(key);
            } else if unknown.len() == MAX_TENSORS || list.len() == MAX_TENSORS {
                return Err(serde::de::Error::custom(format!("more than {MAX_TENSORS} tensors")));
            } else if let Some(dtype) = known {
                list.push(Entry { key, info: RawInfo { dtype, shape, data_offsets } });
            } else {
                unknown.push((key, dtype));
            }
        }
        Ok(Entries { list, repeated, unknown })
    }
}
