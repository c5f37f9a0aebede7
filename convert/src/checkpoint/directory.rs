//! A checkpoint on disk: one file, or a directory of them with or without an index; safetensors or PyTorch's pickles.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{ConvertError, Violation, ViolationKind, Violations};
use crate::files::open_regular;

use super::form::{self, Form};
use super::index::{self, Index, IndexForm};
use super::listing::{self, Chosen};
use super::source::{SourceFile, TensorInfo, TensorSource, Unreadable};
use super::together::{ONE_FILE, join_repeated, stale, them};
use super::{header, pickle};

/// An open checkpoint. Files stay open, so that a rename of the directory under us changes nothing.
#[derive(Debug)]
pub struct Checkpoint {
    root: PathBuf,
    handles: Vec<File>,
    /// Length and time of the last write of every file when it was opened.
    stamps: Vec<Option<Stamp>>,
    files: Vec<SourceFile>,
    tensors: BTreeMap<String, TensorInfo>,
    /// Whether every file says that MLX tools wrote it.
    is_mlx: bool,
    /// Whether any file is one of `torch.save`.
    has_pickles: bool,
}

/// A checkpoint as far as it could be read, with everything that is wrong with it.
#[derive(Debug)]
pub struct Scan {
    /// The readable part.
    pub checkpoint: Checkpoint,
    /// What is wrong, in file order.
    pub violations: Vec<Violation>,
    /// What the violations hide.
    pub unreadable: Unreadable,
    /// What a person may want to know.
    pub notes: Vec<String>,
}

impl Checkpoint {
    /// Opens `path` (a directory or one file), reading headers only. What is wrong with the checkpoint comes back in the [`Scan`], so
    /// that later checks can add to it.
    ///
    /// # Errors
    /// [`ConvertError::NoSuchSource`] when `path` is nothing; [`ConvertError::Io`] when the directory cannot be listed.
    pub fn scan(path: &Path) -> Result<Scan, ConvertError> {
        Self::scan_named(path, None)
    }

    /// The same; of PyTorch's files, the state dict is the one that `state_dict` names (dotted, `a.b`), where it is given.
    ///
    /// # Errors
    /// As [`Checkpoint::scan`].
    pub fn scan_named(path: &Path, state_dict: Option<&str>) -> Result<Scan, ConvertError> {
        let meta = std::fs::metadata(path).map_err(|_| ConvertError::NoSuchSource(path.display().to_string()))?;
        if meta.is_dir() {
            return scan_directory(path, state_dict);
        }
        let root = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if !meta.is_file() {
            return Err(ConvertError::Violations(Violations(vec![Violation::new(
                ViolationKind::Unsupported,
                path.display().to_string(),
                "a directory, a .safetensors file, or one that torch.save wrote",
                "something that is neither a file nor a directory",
            )])));
        }
        let mut scan = empty(root);
        add_file(&mut scan, &name, state_dict);
        refuse_unused_name(&mut scan, state_dict);
        Ok(scan)
    }

    /// Takes a prefix off every key that begins with it; a key that would then be there twice keeps its name.
    pub fn strip_prefix(&mut self, prefix: &str) {
        let all = std::mem::take(&mut self.tensors);
        let (with, without): (BTreeMap<_, _>, BTreeMap<_, _>) =
            all.into_iter().partition(|(key, _)| key.len() > prefix.len() && key.starts_with(prefix));
        self.tensors = without;
        for (key, info) in with {
            let short = key[prefix.len()..].to_owned();
            let key = if self.tensors.contains_key(&short) { key } else { short };
            self.tensors.insert(key, info);
        }
    }

    /// The keys with what the headers say of them, without the files: to be planned with, not read.
    pub(crate) fn keys_alone(&self) -> Self {
        Self {
            root: self.root.clone(),
            handles: Vec::new(),
            stamps: Vec::new(),
            files: self.files.clone(),
            tensors: self.tensors.clone(),
            is_mlx: self.is_mlx,
            has_pickles: self.has_pickles,
        }
    }

    /// The directory that holds the files (for a single file, its parent): where `config.json` and the tokenizer lie.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether MLX tools wrote it, as the files' own metadata say.
    pub fn is_mlx(&self) -> bool {
        self.is_mlx && !self.files.is_empty()
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

    fn changed_files(&self) -> Result<Vec<String>, ConvertError> {
        let mut changed = Vec::new();
        for ((handle, before), file) in self.handles.iter().zip(&self.stamps).zip(&self.files) {
            let now = stamp(handle).map_err(ConvertError::io("look at", &self.root.join(&file.name)))?;
            if before.is_some_and(|before| before != now) {
                changed.push(file.name.clone());
            }
        }
        Ok(changed)
    }
}

/// Length in bytes and the time of the last write.
type Stamp = (u64, SystemTime);

fn stamp(file: &File) -> std::io::Result<Stamp> {
    let metadata = file.metadata()?;
    Ok((metadata.len(), metadata.modified()?))
}

fn empty(root: &Path) -> Scan {
    Scan {
        checkpoint: Checkpoint {
            root: root.to_owned(),
            handles: Vec::new(),
            stamps: Vec::new(),
            files: Vec::new(),
            tensors: BTreeMap::new(),
            is_mlx: true,
            has_pickles: false,
        },
        violations: Vec::new(),
        unreadable: Unreadable::default(),
        notes: Vec::new(),
    }
}

fn scan_directory(root: &Path, state_dict: Option<&str>) -> Result<Scan, ConvertError> {
    let mut scan = empty(root);
    let listing = listing::choose(root)?;
    scan.notes.extend(listing.notes);
    match listing.chosen {
        Chosen::Indexed(form) => scan_indexed(&mut scan, form, state_dict),
        Chosen::Files(names) => {
            names.iter().for_each(|name| add_file(&mut scan, name, state_dict));
            join_repeated(&mut scan.violations);
        }
        Chosen::Nothing(violations) => {
            scan.unreadable.any = true;
            scan.violations.extend(violations);
        }
    }
    refuse_unused_name(&mut scan, state_dict);
    Ok(scan)
}

/// A state dict's name says nothing about safetensors; whoever gave one expects it to be heeded.
fn refuse_unused_name(scan: &mut Scan, state_dict: Option<&str>) {
    if let Some(name) = state_dict
        && !scan.checkpoint.files.is_empty()
        && !scan.checkpoint.has_pickles
    {
        let expected = "a PyTorch pickle, of which --state-dict chooses a part";
        let found = format!("safetensors, which have no {name}");
        scan.violations.push(Violation::new(ViolationKind::Unsupported, "--state-dict", expected, found));
    }
}

/// Opens the shards an index names and holds index and headers against each other.
fn scan_indexed(scan: &mut Scan, form: IndexForm, state_dict: Option<&str>) {
    let (index, violations) = index::read(&scan.checkpoint.root.join(form.file_name), form);
    if index.weight_map.is_empty() && violations.is_empty() {
        let expected = "a weight_map that names at least one key";
        scan.violations.push(Violation::new(ViolationKind::IndexMismatch, form.file_name, expected, "an empty one"));
    }
    scan.violations.extend(violations);
    let nothing_known = index.weight_map.is_empty();
    let named: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
    let (present, absent): (Vec<&str>, Vec<&str>) =
        named.iter().partition(|name| scan.checkpoint.root.join(name).symlink_metadata().is_ok());
    let unnamed = listing::unnamed(&scan.checkpoint.root, form.ending, &named);
    if !absent.is_empty() {
        scan.unreadable.any = true;
        scan.violations.push(stale(form.file_name, &absent, &unnamed));
    } else if !unnamed.is_empty() {
        let (index, names) = (form.file_name, unnamed.join(", "));
        scan.notes.push(format!("{names}: not read, because {index} does not name {}", them(unnamed.len())));
    }
    for name in present {
        add_file(scan, name, state_dict);
    }
    // A shard that cannot be read hides just the keys that the index puts there.
    scan.unreadable.any = nothing_known;
    scan.unreadable.keys.extend(index.unusable.iter().cloned());
    check_listed(scan, &index);
    check_unlisted(scan, &index, form.file_name);
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
fn check_unlisted(scan: &mut Scan, index: &Index, index_file: &str) {
    let Checkpoint { tensors, files, .. } = &scan.checkpoint;
    let known = |key: &String| index.weight_map.contains_key(key) || scan.unreadable.keys.contains(key);
    let unlisted: Vec<(String, String)> = tensors
        .iter()
        .filter(|(key, _)| !known(key))
        .map(|(key, info)| (key.clone(), format!("it in {} only", files[info.file].name)))
        .collect();
    for (key, found) in unlisted {
        mismatch(scan, &key, format!("it in {index_file}"), found);
    }
}

fn mismatch(scan: &mut Scan, key: &str, expected: String, found: String) {
    scan.violations.push(Violation::new(ViolationKind::IndexMismatch, key, expected, found));
}

/// What one file holds.
struct Contents {
    tensors: Vec<(String, TensorInfo)>,
    broken: Vec<String>,
    hash: blake3::Hash,
    violations: Vec<Violation>,
    is_mlx: bool,
    notes: Vec<String>,
    is_pickle: bool,
}

/// Reads what a file is by its bytes says it holds; its name decides only where the bytes are no file of weights.
fn contents_of(
    at: usize,
    (file, name, byte_len): (&File, &str, u64),
    state_dict: Option<&str>,
) -> Result<Contents, Vec<Violation>> {
    let form = form::of_file(file, byte_len);
    match form {
        Form::Archive => Ok(pickled(at, pickle::read_archive(file, name, byte_len, state_dict)?)),
        Form::Legacy => Ok(pickled(at, pickle::read_legacy(file, name, byte_len, state_dict)?)),
        // A broken header is told as one.
        Form::Safetensors | Form::Empty | Form::Other if listing::is_safetensors(name) => {
            safetensors(at, file, name, byte_len)
        }
        Form::Safetensors => safetensors(at, file, name, byte_len),
        other => Err(other.refusal(name).into_iter().collect()),
    }
}

fn safetensors(at: usize, file: &File, name: &str, byte_len: u64) -> Result<Contents, Vec<Violation>> {
    let (header, violations) = header::read(file, name, byte_len)?;
    Ok(headed(at, header, violations))
}

/// Opens one file and adds its tensors, or says why it cannot.
fn add_file(scan: &mut Scan, name: &str, state_dict: Option<&str>) {
    let path = scan.checkpoint.root.join(name);
    let at = scan.checkpoint.files.len();
    let opened = open_regular(&path)
        .map_err(|found| vec![Violation::new(ViolationKind::MissingFile, name, "a regular file", found)])
        .and_then(|(file, byte_len)| {
            // Before anything is read, so that no write goes unseen.
            let stamp = stamp(&file).ok();
            let contents = contents_of(at, (&file, name, byte_len), state_dict)?;
            Ok((file, stamp, byte_len, contents))
        });
    let (handle, stamp, byte_len, contents) = match opened {
        Ok(opened) => opened,
        Err(violations) => {
            scan.violations.extend(violations);
            scan.unreadable.any = true;
            return;
        }
    };
    scan.checkpoint.is_mlx &= contents.is_mlx;
    scan.violations.extend(contents.violations);
    scan.notes.extend(contents.notes);
    scan.unreadable.keys.extend(contents.broken);
    scan.checkpoint.has_pickles |= contents.is_pickle;
    scan.checkpoint.stamps.push(stamp);
    scan.checkpoint.handles.push(handle);
    scan.checkpoint.files.push(SourceFile {
        name: name.to_owned(),
        byte_len,
        header_blake3: contents.hash.to_hex().to_string(),
    });
    for (key, info) in contents.tensors {
        add_tensor(scan, key, info);
    }
}

fn headed(file: usize, header: header::Header, violations: Vec<Violation>) -> Contents {
    let tensor = |entry: header::Entry| {
        let shape = entry.info.shape.iter().map(|&n| n as u64).collect();
        let byte_offset = header.data_start + entry.info.data_offsets.0 as u64;
        (entry.key, TensorInfo::row_major(entry.info.dtype, shape, file, byte_offset))
    };
    let tensors = header.sound.into_iter().map(tensor).collect();
    Contents {
        tensors,
        broken: header.broken,
        hash: header.hash,
        violations,
        notes: Vec::new(),
        is_pickle: false,
        is_mlx: header.is_mlx,
    }
}

fn pickled(file: usize, pickled: pickle::Pickled) -> Contents {
    let tensor = |tensor: pickle::PickledTensor| {
        let pickle::PickledTensor { key, dtype, shape, strides, byte_offset } = tensor;
        (key, TensorInfo { dtype, shape, file, byte_offset, strides })
    };
    let pickle::Tensors { sound, broken, violations, notes } = pickled.tensors;
    let tensors = sound.into_iter().map(tensor).collect();
    Contents { tensors, broken, hash: pickled.hash, violations, notes, is_pickle: true, is_mlx: false }
}

/// Enters a tensor in the table; a key that another file has already is a violation, and the first one stays.
fn add_tensor(scan: &mut Scan, key: String, info: TensorInfo) {
    if let Some(first) = scan.checkpoint.tensors.get(&key) {
        let files = &scan.checkpoint.files;
        scan.violations.push(Violation::new(
            ViolationKind::DuplicateKey,
            key,
            ONE_FILE,
            format!("it in {} and {}", files[first.file].name, files[info.file].name),
        ));
    } else {
        scan.checkpoint.tensors.insert(key, info);
    }
}
