//! Verification: a converted directory against its own manifest, every byte hashed again, every difference listed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
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
    if !is_plain_name(name) {
        let found = format!("{name:?}");
        return (0, vec![differs(name, "a plain file name", found)]);
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
    match hash_file(file, record, &spans) {
        Ok(found) => differences.extend(found),
        Err(error) => differences.push(differs(name, "a readable file", error.to_string())),
    }
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

/// Reads the file once, hashing it whole and tensor by tensor.
fn hash_file(mut file: File, record: &FileRecord, spans: &[Span<'_>]) -> std::io::Result<Vec<Violation>> {
    let mut differences = Vec::new();
    let mut whole = blake3::Hasher::new();
    let mut part = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTE_LEN];
    let (mut at, mut next) = (0_u64, 0_usize);
    loop {
        let count = file.read(&mut buffer)?;
        whole.update(&buffer[..count]);
        let end = at + count as u64;
        while let Some((from, to, tensor)) = spans.get(next) {
            let (begin, stop) = ((*from).max(at), (*to).min(end));
            if begin < stop {
                part.update(&buffer[(begin - at) as usize..(stop - at) as usize]);
            }
            if *to > end {
                break;
            }
            check_hash(&format!("{}: {}", record.name, tensor.name), &tensor.blake3, &part, &mut differences);
            part.reset();
            next += 1;
        }
        if count == 0 {
            break;
        }
        at = end;
    }
    check_hash(&record.name, &record.blake3, &whole, &mut differences);
    Ok(differences)
}

fn check_hash(place: &str, expected: &str, hasher: &blake3::Hasher, differences: &mut Vec<Violation>) {
    let found = hasher.finalize().to_hex();
    if found.as_str() != expected {
        let expected = format!("blake3 {expected}");
        differences.push(differs(place, expected, format!("blake3 {found}")));
    }
}
