//! A checkpoint on disk: one `.safetensors` file, or a directory of them with or without an index.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{ConvertError, Violation, ViolationKind, Violations};

use super::index::{self, INDEX_FILE, Index};
use super::{Scan, SourceFile, TensorInfo, TensorSource, Unreadable, header};

/// An open safetensors checkpoint. Files stay open, so that a rename of the directory under us changes nothing.
#[derive(Debug)]
pub struct Checkpoint {
    root: PathBuf,
    handles: Vec<File>,
    files: Vec<SourceFile>,
    tensors: BTreeMap<String, TensorInfo>,
}

impl Checkpoint {
    /// Opens `path` (a directory or one file), reading headers only. What is wrong with the checkpoint comes back in the [`Scan`], so
    /// that later checks can add to it.
    ///
    /// # Errors
    /// [`ConvertError::NoSuchSource`] when `path` is nothing; [`ConvertError::Io`] when the directory cannot be listed.
    pub fn scan(path: &Path) -> Result<Scan, ConvertError> {
        let meta = std::fs::metadata(path).map_err(|_| ConvertError::NoSuchSource(path.display().to_string()))?;
        if meta.is_dir() {
            return scan_directory(path);
        }
        let root = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if !meta.is_file() || !name.ends_with(".safetensors") {
            return Err(ConvertError::Violations(Violations(vec![Violation::new(
                ViolationKind::Unsupported,
                path.display().to_string(),
                "a directory or a .safetensors file",
                "something else (PyTorch pickles are not supported yet)",
            )])));
        }
        let mut scan = empty(root);
        add_file(&mut scan, &name);
        Ok(scan)
    }

    /// The directory that holds the files (for a single file, its parent): where `config.json` and the tokenizer lie.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl TensorSource for Checkpoint {
    fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    fn files(&self) -> &[SourceFile] {
        &self.files
    }

    fn read_at(&self, key: &str, byte_offset: u64, out: &mut [u8]) -> Result<(), ConvertError> {
        let info = self.tensors.get(key);
        let info = info.ok_or_else(|| ConvertError::Io {
            action: "find the tensor in",
            path: self.root.join(key),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
        let path = self.root.join(&self.files[info.file].name);
        self.handles[info.file]
            .read_exact_at(out, info.byte_offset + byte_offset)
            .map_err(ConvertError::io("read the weights of", &path))
    }
}

fn empty(root: &Path) -> Scan {
    Scan {
        checkpoint: Checkpoint {
            root: root.to_owned(),
            handles: Vec::new(),
            files: Vec::new(),
            tensors: BTreeMap::new(),
        },
        violations: Vec::new(),
        unreadable: Unreadable::default(),
    }
}

fn scan_directory(root: &Path) -> Result<Scan, ConvertError> {
    let mut scan = empty(root);
    if root.join(INDEX_FILE).exists() {
        scan_indexed(&mut scan);
        return Ok(scan);
    }
    let names = list(root)?;
    if names.safetensors.is_empty() {
        let found = if names.pickles.is_empty() {
            "none".to_owned()
        } else {
            format!("only PyTorch pickles, which are not supported yet: {}", names.pickles.join(", "))
        };
        scan.unreadable.any = true;
        scan.violations.push(Violation::new(
            ViolationKind::MissingFile,
            root.display().to_string(),
            format!("*.safetensors files or {INDEX_FILE}"),
            found,
        ));
    }
    for name in &names.safetensors {
        add_file(&mut scan, name);
    }
    Ok(scan)
}

struct Names {
    safetensors: Vec<String>,
    pickles: Vec<String>,
}

/// The weight files of a directory, by name, so that the listing's order does not matter.
fn list(root: &Path) -> Result<Names, ConvertError> {
    let mut all = BTreeSet::new();
    for entry in std::fs::read_dir(root).map_err(ConvertError::io("list", root))? {
        let entry = entry.map_err(ConvertError::io("list", root))?;
        all.insert(entry.file_name().to_string_lossy().into_owned());
    }
    let ending = |ends: &[&str]| -> Vec<String> {
        let keep = |name: &&String| !name.starts_with('.') && ends.iter().any(|end| name.ends_with(end));
        all.iter().filter(keep).cloned().collect()
    };
    Ok(Names { safetensors: ending(&[".safetensors"]), pickles: ending(&[".bin", ".pt", ".pth"]) })
}

/// Opens the shards an index names and holds index and headers against each other.
fn scan_indexed(scan: &mut Scan) {
    let (index, violations) = index::read(&scan.checkpoint.root.join(INDEX_FILE));
    if index.weight_map.is_empty() && violations.is_empty() {
        let expected = "a weight_map that names at least one key";
        scan.violations.push(Violation::new(ViolationKind::IndexMismatch, INDEX_FILE, expected, "an empty one"));
    }
    scan.violations.extend(violations);
    let nothing_known = index.weight_map.is_empty();
    let names: BTreeSet<&String> = index.weight_map.values().collect();
    for name in names {
        add_file(scan, name);
    }
    // A shard that cannot be read hides just the keys that the index puts there.
    scan.unreadable.any = nothing_known;
    scan.unreadable.keys.extend(index.unusable.iter().cloned());
    check_listed(scan, &index);
    check_unlisted(scan, &index);
}

/// Every key of the index must be where the index says, unless that file could not be read.
fn check_listed(scan: &mut Scan, index: &Index) {
    let readable: BTreeSet<String> = scan.checkpoint.files.iter().map(|file| file.name.clone()).collect();
    for (key, file) in &index.weight_map {
        if !readable.contains(file) {
            scan.unreadable.keys.insert(key.clone());
            continue;
        }
        let home = scan.checkpoint.tensors.get(key).map(|info| scan.checkpoint.files[info.file].name.clone());
        let found = match home {
            Some(home) if home == *file => continue,
            None if scan.unreadable.keys.contains(key) => continue,
            Some(home) => format!("it in {home}"),
            None => "no such key in that file".to_owned(),
        };
        mismatch(scan, key, format!("it in {file}, as the index says"), found);
    }
}

/// Every key of a shard must be in the index.
fn check_unlisted(scan: &mut Scan, index: &Index) {
    let Checkpoint { tensors, files, .. } = &scan.checkpoint;
    let known = |key: &String| index.weight_map.contains_key(key) || scan.unreadable.keys.contains(key);
    let unlisted: Vec<(String, String)> = tensors
        .iter()
        .filter(|(key, _)| !known(key))
        .map(|(key, info)| (key.clone(), format!("it in {} only", files[info.file].name)))
        .collect();
    for (key, found) in unlisted {
        mismatch(scan, &key, format!("it in {INDEX_FILE}"), found);
    }
}

fn mismatch(scan: &mut Scan, key: &str, expected: String, found: String) {
    scan.violations.push(Violation::new(ViolationKind::IndexMismatch, key, expected, found));
}

/// Opens one file and adds its tensors, or says why it cannot.
fn add_file(scan: &mut Scan, name: &str) {
    let path = scan.checkpoint.root.join(name);
    let opened = open_regular(&path)
        .map_err(|found| vec![Violation::new(ViolationKind::MissingFile, name, "a regular file", found)])
        .and_then(|(file, byte_len)| {
            let (header, violations) = header::read(&file, name, byte_len)?;
            Ok((file, byte_len, header, violations))
        });
    let (handle, byte_len, header, violations) = match opened {
        Ok(opened) => opened,
        Err(violations) => {
            scan.violations.extend(violations);
            scan.unreadable.any = true;
            return;
        }
    };
    scan.violations.extend(violations);
    scan.unreadable.keys.extend(header.broken.iter().cloned());
    let at = scan.checkpoint.files.len();
    scan.checkpoint.handles.push(handle);
    scan.checkpoint.files.push(SourceFile {
        name: name.to_owned(),
        byte_len,
        header_blake3: header.hash.to_hex().to_string(),
    });
    add_tensors(scan, at, header);
}

/// Enters a header's tensors in the table; a key that another file has already is a violation, and the first one stays.
fn add_tensors(scan: &mut Scan, file: usize, header: header::Header) {
    for entry in header.sound {
        let info = TensorInfo {
            dtype: entry.info.dtype,
            shape: entry.info.shape.iter().map(|&n| n as u64).collect(),
            file,
            byte_offset: header.data_start + entry.info.data_offsets.0 as u64,
        };
        if let Some(first) = scan.checkpoint.tensors.get(&entry.key) {
            let files = &scan.checkpoint.files;
            scan.violations.push(Violation::new(
                ViolationKind::DuplicateKey,
                entry.key,
                "each key in one file",
                format!("it in {} and {}", files[first.file].name, files[file].name),
            ));
        } else {
            scan.checkpoint.tensors.insert(entry.key, info);
        }
    }
}

/// Opens a file after making sure that it is one: opening a pipe would wait for ever.
fn open_regular(path: &Path) -> Result<(File, u64), String> {
    let meta = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !meta.is_file() {
        return Err("something that is not a regular file".into());
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    Ok((file, meta.len()))
}
