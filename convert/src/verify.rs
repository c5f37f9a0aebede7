//! Verification: a converted directory against its own manifest, every byte hashed again, every difference listed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rayon::prelude::*;

use crate::checkpoint::header;
use crate::error::{ConvertError, Violation, ViolationKind};
use crate::files::is_plain_name;
use crate::manifest::{FileRecord, MANIFEST_FILE, Manifest, TensorRecord};

/// Bytes hashed at a time.
const BUFFER_BYTE_LEN: usize = 1 << 20;

/// What was checked, and what differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// Files hashed.
    pub files: usize,
    /// Tensors hashed.
    pub tensors: usize,
    /// Bytes hashed.
    pub byte_len: u64,
    /// Every difference.
    pub differences: Vec<Violation>,
}

/// Hashes every file and tensor of `directory` again and compares with its manifest.
///
/// # Errors
/// [`ConvertError::NoManifest`] or [`ConvertError::Io`] when there is no usable manifest or the directory cannot be listed; differences
/// are not errors here but listed in the report.
pub fn verify(directory: &Path) -> Result<VerifyReport, ConvertError> {
    let manifest = Manifest::read(directory)?;
    let mut tensors: BTreeMap<&str, Vec<&TensorRecord>> = BTreeMap::new();
    for tensor in &manifest.tensors {
        tensors.entry(&tensor.file).or_default().push(tensor);
    }
    let mut report = VerifyReport {
        files: manifest.files.len(),
        tensors: manifest.tensors.len(),
        byte_len: 0,
        differences: Vec::new(),
    };
    let known: BTreeSet<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
    for file in tensors.keys().filter(|file| !known.contains(*file)) {
        report.differences.push(differs(file, "a record of the file", "tensors only"));
    }
    report.differences.extend(unknown_files(directory, &known)?);
    let checked: Vec<(u64, Vec<Violation>)> = manifest
        .files
        .par_iter()
        .map(|file| {
            let own = tensors.get(file.name.as_str());
            check_file(directory, file, own.map_or(&[], Vec::as_slice))
        })
        .collect();
    for (byte_len, differences) in checked {
        report.byte_len += byte_len;
        report.differences.extend(differences);
    }
    Ok(report)
}

fn differs(place: &str, expected: impl Into<String>, found: impl Into<String>) -> Violation {
    Violation::new(ViolationKind::Verify, place, expected, found)
}

/// Weight files that the manifest does not know: a loader that takes `*.safetensors` would load them too.
fn unknown_files(directory: &Path, known: &BTreeSet<&str>) -> Result<Vec<Violation>, ConvertError> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(directory).map_err(ConvertError::io("list", directory))? {
        let entry = entry.map_err(ConvertError::io("list", directory))?;
        names.insert(entry.file_name().to_string_lossy().into_owned());
    }
    let unknown = names
        .iter()
        .filter(|name| !known.contains(name.as_str()) && *name != MANIFEST_FILE && name.ends_with(".safetensors"));
    Ok(unknown.map(|name| differs(name, "no such file", "it")).collect())
}

/// One file: its length, its hash, and for weights the header and each tensor's hash.
fn check_file(directory: &Path, record: &FileRecord, tensors: &[&TensorRecord]) -> (u64, Vec<Violation>) {
    let name = record.name.as_str();
    if !name.split('/').all(is_plain_name) {
        let found = format!("{name:?}");
        return (0, vec![differs(name, "a file name inside the directory", found)]);
    }
    let path = directory.join(name);
    let opened = std::fs::metadata(&path).and_then(|meta| Ok((meta.is_file(), meta.len(), File::open(&path)?)));
    let (file, byte_len) = match opened {
        Ok((true, byte_len, file)) => (file, byte_len),
        Ok((false, ..)) => return (0, vec![differs(name, "a regular file", "something else")]),
        Err(error) => return (0, vec![differs(name, "a file", error.to_string())]),
    };
    let mut differences = Vec::new();
    if byte_len != record.byte_len {
        let (expected, found) = (record.byte_len, byte_len);
        differences.push(differs(name, format!("{expected} bytes"), format!("{found} bytes")));
    }
    let mut spans = Vec::new();
    if name.ends_with(".safetensors") {
        match header::read(&file, name, byte_len) {
            Ok((header, violations)) => {
                differences.extend(violations);
                spans = check_header(name, &header, tensors, &mut differences);
            }
            Err(violations) => differences.extend(violations),
        }
    }
    differences.extend(check_hashes(&file, byte_len, record, &spans));
    (byte_len, differences)
}

/// A tensor's place in its file: begin, end, record.
type Span<'a> = (u64, u64, &'a TensorRecord);

/// Header against records; the spans of the tensors that both agree on, in file order.
fn check_header<'a>(
    name: &str,
    header: &header::Header,
    tensors: &[&'a TensorRecord],
    differences: &mut Vec<Violation>,
) -> Vec<Span<'a>> {
    let mut records: BTreeMap<&str, &TensorRecord> =
        tensors.iter().map(|tensor| (tensor.name.as_str(), *tensor)).collect();
    let mut spans = Vec::new();
    for entry in &header.sound {
        let place = format!("{name}: {}", entry.key);
        let Some(record) = records.remove(entry.key.as_str()) else {
            differences.push(differs(&place, "no such tensor", "it"));
            continue;
        };
        let shape: Vec<u64> = entry.info.shape.iter().map(|&n| n as u64).collect();
        if record.dtype == entry.info.dtype && record.shape == shape {
            let at = |offset: usize| header.data_start + offset as u64;
            let (begin, end) = entry.info.data_offsets;
            spans.push((at(begin), at(end), record));
        } else {
            let expected = format!("{} {:?}", record.dtype, record.shape);
            differences.push(differs(&place, expected, format!("{} {shape:?}", entry.info.dtype)));
        }
    }
    for missing in records.values() {
        let place = format!("{name}: {}", missing.name);
        differences.push(differs(&place, "the tensor", "nothing"));
    }
    spans.sort_by_key(|(begin, end, _)| (*begin, *end));
    spans
}

/// The hash of the part that the record has one of, and every tensor's, several at a time. A file too short has been reported; what is
/// not there is not hashed.
fn check_hashes(file: &File, byte_len: u64, record: &FileRecord, spans: &[Span<'_>]) -> Vec<Violation> {
    let own = (0, record.hashed_byte_len, record.name.clone(), record.blake3.as_str());
    let mut all = vec![own];
    for &(begin, end, tensor) in spans {
        all.push((begin, end, format!("{}: {}", record.name, tensor.name), tensor.blake3.as_str()));
    }
    let check = |(begin, end, place, expected): &(u64, u64, String, &str)| {
        if *end > byte_len {
            return None;
        }
        match hash_range(file, *begin..*end) {
            Ok(found) if found.to_hex().as_str() == *expected => None,
            Ok(found) => Some(differs(place, format!("blake3 {expected}"), format!("blake3 {}", found.to_hex()))),
            Err(error) => Some(differs(place, "readable bytes", error.to_string())),
        }
    };
    all.par_iter().filter_map(check).collect()
}

fn hash_range(file: &File, range: Range<u64>) -> std::io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTE_LEN.min((range.end - range.start) as usize)];
    let mut at = range.start;
    while at < range.end {
        let len = (range.end - at).min(BUFFER_BYTE_LEN as u64) as usize;
        file.read_exact_at(&mut buffer[..len], at)?;
        hasher.update(&buffer[..len]);
        at += len as u64;
    }
    Ok(hasher.finalize())
}
