//! The format before PyTorch 1.6: five pickles one after the other, then the storages' bytes.
//!
//! ```text
//! magic number │ protocol version │ system │ the object │ the storages' keys │ for each key: u64 elements, bytes
//! ```
//!
//! Answers to `torch/serialization.py` (`_legacy_save`, `_legacy_load`). How long the pickles are stands nowhere, so as much of the file is
//! read as they take, up to [`MAX_PICKLE_BYTE_LEN`].

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::{Violation, ViolationKind};

use super::archive::{MAX_PICKLE_BYTE_LEN, Span};
use super::globals;
use super::machine::{Loaded, load};
use super::object::{Heap, Id, Value};
use super::opcodes::{Flaw, flaw};
use super::tensors::{StorageName, storage_name};

/// The first pickle's integer: its opcode, how many bytes it has, and those bytes, little-endian.
const MAGIC: [u8; 12] = [0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// The same integer as protocols 0 and 1 write it.
const MAGIC_AS_TEXT: &[u8] = b"L119547037146038801333356L\n";
/// Bytes of the length of a frame, which protocols from 4 on put first.
const FRAME_BYTE_LEN: usize = 8;
/// The second's.
const PROTOCOL_VERSION: i64 = 1001;
/// How much of the file is read at first.
const FIRST_BYTE_LEN: u64 = 1 << 18;
/// Bytes of the number in front of each storage.
const COUNT_BYTE_LEN: u64 = 8;

/// What of a file is used.
#[derive(Debug)]
pub struct Legacy {
    /// The object.
    pub loaded: Loaded,
    /// Storages by key.
    pub storages: BTreeMap<String, Span>,
    /// BLAKE3 of the pickles.
    pub hash: blake3::Hash,
}

/// Whether a file that begins like this is of this format.
pub fn begins(head: &[u8]) -> bool {
    match head {
        [0x80, _, 0x95, rest @ ..] => rest.get(FRAME_BYTE_LEN..).is_some_and(|rest| rest.starts_with(&MAGIC)),
        [0x80, _, rest @ ..] => rest.starts_with(&MAGIC),
        _ => head.starts_with(MAGIC_AS_TEXT),
    }
}

/// Reads the pickles and finds the storages.
///
/// # Errors
/// Everything that keeps it from being a checkpoint of a little-endian machine, whole.
pub fn open(file: &File, name: &str, file_byte_len: u64) -> Result<Legacy, Vec<Violation>> {
    let limit = file_byte_len.min(MAX_PICKLE_BYTE_LEN);
    let mut byte_len = limit.min(FIRST_BYTE_LEN);
    loop {
        let mut stream = vec![0; byte_len as usize];
        file.read_exact_at(&mut stream, 0).map_err(|error| {
            vec![Violation::new(ViolationKind::BadHeader, name, "a readable file", error.to_string())]
        })?;
        match pickles(&stream) {
            Ok(pickles) => return pickles.located(&stream, (file, file_byte_len), name),
            Err(flaws) if byte_len < limit && flaws.iter().any(|flaw| flaw.is_end) => {
                byte_len = byte_len.saturating_mul(4).min(limit);
            }
            Err(flaws) => {
                return Err(flaws
                    .into_iter()
                    .map(|flaw| violation_of(name, flaw, byte_len == file_byte_len))
                    .collect());
            }
        }
    }
}

fn violation_of(name: &str, flaw: Flaw, is_whole: bool) -> Violation {
    let is_cut = flaw.is_end && is_whole;
    let kind = if is_cut { ViolationKind::TruncatedFile } else { ViolationKind::Unsupported };
    Violation::new(kind, format!("{name}: byte {}", flaw.at), flaw.expected, flaw.found)
}

/// The pickles that matter.
struct Pickles {
    object: Loaded,
    keys: Vec<String>,
    byte_len: usize,
}

fn pickles(stream: &[u8]) -> Result<Pickles, Vec<Flaw>> {
    let mut at = 0;
    // The magic number is known by its bytes.
    let mut next = |what: &str| {
        let begin = at;
        let loaded = load(&stream[begin..]).map_err(|flaws| {
            let moved =
                |flaw: Flaw| Flaw { at: flaw.at + begin, expected: format!("{} ({what})", flaw.expected), ..flaw };
            flaws.into_iter().map(moved).collect::<Vec<_>>()
        })?;
        at += loaded.byte_len;
        Ok::<_, Vec<Flaw>>((begin, loaded))
    };
    next("the magic number")?;
    let (begin, version) = next("the version of the format")?;
    if version.heap.int(version.root) != Some(PROTOCOL_VERSION) {
        let found = version.heap.describe(version.root);
        return Err(vec![flaw(begin, format!("version {PROTOCOL_VERSION} of the format"), found)]);
    }
    let (begin, system) = next("the system")?;
    let is_little = system.heap.entry(system.root, "little_endian").map(|id| system.heap.get(id));
    if is_little != Some(&Value::Bool(true)) {
        return Err(vec![flaw(begin, "a file of a little-endian machine", "one that does not say so")]);
    }
    let (_, object) = next("the object")?;
    let (begin, listed) = next("the storages' keys")?;
    let key = |&id: &Id| listed.heap.text(id).map(str::to_owned);
    let keys: Option<Vec<String>> = listed.heap.elements(listed.root).unwrap_or_default().iter().map(key).collect();
    let keys = keys.ok_or_else(|| vec![flaw(begin, "text as every storage's key", "something else")])?;
    Ok(Pickles { object, keys, byte_len: at })
}

impl Pickles {
    /// Finds every storage behind the pickles.
    fn located(self, stream: &[u8], from: (&File, u64), name: &str) -> Result<Legacy, Vec<Violation>> {
        let (file, file_byte_len) = from;
        let hash = blake3::hash(&stream[..self.byte_len]);
        let element_byte_lens = element_byte_lens(&self.object.heap);
        let (mut storages, mut at) = (BTreeMap::new(), self.byte_len as u64);
        for key in self.keys {
            let bad = |kind, expected: &str, found: String| {
                vec![Violation::new(kind, format!("{name}: storage {key}"), expected, found)]
            };
            let Some(&element_byte_len) = element_byte_lens.get(&key) else {
                return Err(bad(
                    ViolationKind::BadHeader,
                    "a storage whose element type the file names",
                    "none".into(),
                ));
            };
            let mut count = [0; COUNT_BYTE_LEN as usize];
            file.read_exact_at(&mut count, at).map_err(|_| {
                bad(ViolationKind::TruncatedFile, "the number of its elements", "the end of the file".into())
            })?;
            let begin = at + COUNT_BYTE_LEN;
            let byte_len = u64::from_le_bytes(count).checked_mul(element_byte_len);
            let end = byte_len.and_then(|byte_len| begin.checked_add(byte_len)).filter(|&end| end <= file_byte_len);
            let (Some(end), Some(byte_len)) = (end, byte_len) else {
                let found = format!("{} from byte {begin} on", u64::from_le_bytes(count));
                let expected = format!("elements inside the file's {file_byte_len} bytes");
                return Err(bad(ViolationKind::TruncatedFile, &expected, found));
            };
            storages.insert(key, Span { byte_offset: begin, byte_len });
            at = end;
        }
        Ok(Legacy { loaded: self.object, storages, hash })
    }
}

/// Bytes of an element of each storage, as the object's tensors name them.
fn element_byte_lens(heap: &Heap) -> BTreeMap<String, u64> {
    let named = (0..heap.values().len()).filter_map(|at| storage_name(heap, at as Id));
    let one = |name: StorageName<'_>| Some((name.key.to_owned(), globals::storage_element_byte_len(name.class?)?));
    named.filter_map(one).collect()
}
