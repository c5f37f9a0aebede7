//! The zip archive that `torch.save` writes: one pickle, and each storage's bytes as an uncompressed entry.
//!
//! Only where an entry's bytes begin is taken from the archive; they are read from the file itself, in pieces, later.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::rc::Rc;

use zip::read::{ArchiveOffset, Config};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use crate::error::{Violation, ViolationKind};

use super::directory_end;

/// The longest pickle, in bytes.
pub const MAX_PICKLE_BYTE_LEN: u64 = 32 << 20;
/// What reading one entry's own header may take, in bytes.
const ENTRY_ALLOWANCE: u64 = 4096;
/// Small, because each entry's header lies elsewhere.
const BUFFER_BYTE_LEN: usize = 512;

/// Where an entry's bytes lie in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub byte_offset: u64,
    /// How many.
    pub byte_len: u64,
}

/// What of an archive is used.
#[derive(Debug)]
pub struct Archive {
    /// `data.pkl`, whole.
    pub pickle: Vec<u8>,
    /// Storages by key.
    pub storages: BTreeMap<String, Span>,
}

type Reader<'a> = BufReader<Bounded<'a>>;

/// Opens an archive and reads its pickle.
///
/// # Errors
/// Everything that keeps it from being a checkpoint of this machine's byte order with uncompressed storages.
pub fn open(file: &File, name: &str, file_byte_len: u64) -> Result<Archive, Vec<Violation>> {
    let one = |violation| vec![violation];
    let directory_byte_len = directory_end::check(file, name, file_byte_len).map_err(one)?;
    let allowance = Rc::new(Cell::new(directory_byte_len + (1 << 20)));
    let reader = Bounded { file, allowance: Rc::clone(&allowance) };
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let opened = ZipArchive::with_config(config, BufReader::with_capacity(BUFFER_BYTE_LEN, reader));
    let mut zip = opened.map_err(|error| one(damaged(name, &error)))?;
    allowance.set(zip.len() as u64 * ENTRY_ALLOWANCE + MAX_PICKLE_BYTE_LEN);
    let prefix = prefix(&zip, name)?;
    let entries = entries(&mut zip, name, file_byte_len)?;
    check_byte_order(&mut zip, name, &format!("{prefix}byteorder")).map_err(one)?;
    let pickle = read_entry(&mut zip, name, &format!("{prefix}data.pkl"), MAX_PICKLE_BYTE_LEN).map_err(one)?;
    let data = format!("{prefix}data/");
    let storage = |(entry, span): (String, Span)| Some((entry.strip_prefix(&data)?.to_owned(), span));
    Ok(Archive { pickle, storages: entries.into_iter().filter_map(storage).collect() })
}

/// Whether a zip archive has what every archive of `torch.save` has. Anything wrong with it counts as no.
pub fn is_checkpoint(file: &File, name: &str, file_byte_len: u64) -> bool {
    let Ok(directory_byte_len) = directory_end::check(file, name, file_byte_len) else { return false };
    let reader = Bounded { file, allowance: Rc::new(Cell::new(directory_byte_len + (1 << 20))) };
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let opened = ZipArchive::with_config(config, BufReader::with_capacity(BUFFER_BYTE_LEN, reader));
    opened.is_ok_and(|zip| zip.file_names_raw().any(|entry| entry == b"data.pkl" || entry.ends_with(b"/data.pkl")))
}

/// The folder of the archive that everything lies in, with its slash.
fn prefix(zip: &ZipArchive<Reader<'_>>, name: &str) -> Result<String, Vec<Violation>> {
    let mut violations = Vec::new();
    if zip.has_duplicate_names() {
        let kind = ViolationKind::DuplicateKey;
        violations.push(Violation::new(kind, name, "each entry of the archive once", "an entry again"));
    }
    let (mut prefixes, mut is_script) = (Vec::new(), false);
    for raw in zip.file_names_raw() {
        let Some(entry) = std::str::from_utf8(raw).ok().filter(|entry| is_plain(entry)) else {
            let place = format!("{name}: {}", String::from_utf8_lossy(raw));
            violations.push(Violation::new(
                ViolationKind::BadPath,
                place,
                "an entry name inside the archive's folder",
                "one that is not",
            ));
            continue;
        };
        let (folder, rest) = entry.split_once('/').unwrap_or(("", entry));
        if rest == "data.pkl" {
            prefixes.push(if folder.is_empty() { String::new() } else { format!("{folder}/") });
        }
        is_script |= rest == "constants.pkl" || rest.starts_with("code/");
    }
    if is_script {
        let found = "a TorchScript archive, which is a program (in PyTorch: torch.save(torch.jit.load(FILE).state_dict(), NEW))";
        violations.push(Violation::new(ViolationKind::Unsupported, name, "weights saved by torch.save", found));
    }
    if prefixes.len() != 1 && !is_script {
        let found = format!("{} of them", prefixes.len());
        violations.push(Violation::new(ViolationKind::BadHeader, name, "one data.pkl in the archive", found));
    }
    match (violations.is_empty(), prefixes.pop()) {
        (true, Some(prefix)) => Ok(prefix),
        _ => Err(violations),
    }
}

/// Whether an entry's name stays where it is: no empty, `.` or `..` parts, no other system's separator.
fn is_plain(entry: &str) -> bool {
    !entry.contains(['\\', '\0', ':']) && entry.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Where every entry's bytes lie. Each must be stored as it is and lie inside the file.
fn entries(
    zip: &mut ZipArchive<Reader<'_>>,
    name: &str,
    file_byte_len: u64,
) -> Result<BTreeMap<String, Span>, Vec<Violation>> {
    let (mut entries, mut violations) = (BTreeMap::new(), Vec::new());
    for at in 0..zip.len() {
        let entry = match zip.by_index_raw(at) {
            Ok(entry) => entry,
            Err(error) => {
                violations.push(damaged(&format!("{name}: entry {at}"), &error));
                continue;
            }
        };
        let own_name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        let place = format!("{name}: {own_name}");
        if entry.encrypted() || entry.compression() != CompressionMethod::Stored {
            let found = if entry.encrypted() { "an encrypted one" } else { "a compressed one" };
            violations.push(Violation::new(ViolationKind::Unsupported, place, "an entry stored as it is", found));
            continue;
        }
        let span = Span { byte_offset: entry.data_start().unwrap_or(u64::MAX), byte_len: entry.compressed_size() };
        let is_inside = span.byte_offset.checked_add(span.byte_len).is_some_and(|end| end <= file_byte_len);
        if !is_inside || entry.size() != entry.compressed_size() {
            let found = format!("{} bytes from byte {} on", entry.size(), span.byte_offset);
            let expected = format!("an entry inside the file's {file_byte_len} bytes");
            violations.push(Violation::new(ViolationKind::TruncatedFile, place, expected, found));
            continue;
        }
        entries.insert(own_name, span);
    }
    if violations.is_empty() { Ok(entries) } else { Err(violations) }
}

fn check_byte_order(zip: &mut ZipArchive<Reader<'_>>, name: &str, entry: &str) -> Result<(), Violation> {
    // Releases of PyTorch before 2.1 wrote none; they ran on little-endian machines.
    if zip.index_for_name(entry).is_none() {
        return Ok(());
    }
    let order = read_entry(zip, name, entry, 16)?;
    if order == b"little" {
        return Ok(());
    }
    let found = String::from_utf8_lossy(&order).into_owned();
    Err(Violation::new(ViolationKind::Unsupported, format!("{name}: {entry}"), "little", found))
}

/// An entry's bytes, whole; the crate compares their checksum.
fn read_entry(
    zip: &mut ZipArchive<Reader<'_>>,
    name: &str,
    entry: &str,
    max_byte_len: u64,
) -> Result<Vec<u8>, Violation> {
    let place = format!("{name}: {entry}");
    let mut reader = zip.by_name(entry).map_err(|error| damaged(&place, &error))?;
    if reader.size() > max_byte_len {
        let (expected, found) = (format!("at most {max_byte_len} bytes"), format!("{}", reader.size()));
        return Err(Violation::new(ViolationKind::BadHeader, place, expected, found));
    }
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(|error| damaged(&place, &error.into()))?;
    Ok(bytes)
}

fn damaged(place: &str, error: &ZipError) -> Violation {
    Violation::new(ViolationKind::BadHeader, place, "a sound zip archive", error.to_string())
}

/// The file, of which only so much may be read: an archive's directory can make a reader read, and keep, any amount.
struct Bounded<'a> {
    file: &'a File,
    allowance: Rc<Cell<u64>>,
}

impl Read for Bounded<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(out)?;
        match self.allowance.get().checked_sub(count as u64) {
            Some(left) => self.allowance.set(left),
            None => return Err(io::Error::new(io::ErrorKind::InvalidData, "a directory longer than it says")),
        }
        Ok(count)
    }
}

impl Seek for Bounded<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
