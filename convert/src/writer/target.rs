//! What lies at a target: whether a conversion may take its place without anyone losing a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::ConvertError;
use crate::files::read_bounded;
use crate::manifest::{MANIFEST_FILE, MAX_BYTE_LEN};

/// The most foreign names that a message lists.
const MAX_LISTED: usize = 5;
/// The longest text that is looked at for a person's edits.
const MAX_TEXT_BYTE_LEN: u64 = 64 << 20;
/// The most links that are followed.
const MAX_LINKS: usize = 16;
/// What a file manager leaves in any directory it shows.
const CLUTTER: &[&str] = &[".DS_Store"];

/// What lies at a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lying {
    /// Nothing.
    Nothing,
    /// A directory without anything in it.
    Empty,
    /// What a conversion wrote, and nothing else.
    Ours,
    /// Files that no conversion wrote (some of them by name), or something that is no directory.
    Foreign(String),
}

/// Where a target really is: behind the links that lead there, which stay as they are.
///
/// # Errors
/// [`ConvertError::BadTarget`] when links lead in a circle, [`ConvertError::Io`] when one cannot be read.
pub fn behind_links(target: &Path) -> Result<PathBuf, ConvertError> {
    let mut at = target.to_owned();
    for _ in 0..MAX_LINKS {
        if !fs::symlink_metadata(&at).is_ok_and(|meta| meta.is_symlink()) {
            return Ok(at);
        }
        let to = fs::read_link(&at).map_err(ConvertError::io("read the link", &at))?;
        at = at.parent().unwrap_or(Path::new("")).join(to);
    }
    let reason = "links that lead in a circle".to_owned();
    Err(ConvertError::BadTarget { path: target.to_owned(), reason })
}

/// Looks at a target, which is no link.
///
/// # Errors
/// [`ConvertError::Io`] when it cannot be listed.
pub fn lying(target: &Path) -> Result<Lying, ConvertError> {
    let Ok(meta) = fs::symlink_metadata(target) else { return Ok(Lying::Nothing) };
    if !meta.is_dir() {
        return Ok(Lying::Foreign("a file, where a directory is to be".to_owned()));
    }
    let own = written(target);
    let mut foreign = BTreeSet::new();
    let mut is_empty = true;
    list(target, "", &mut |name| {
        is_empty = false;
        let foreigner = match own.get(name) {
            None => (!CLUTTER.contains(&name)).then(|| name.to_owned()),
            Some(hash) => is_edited(&target.join(name), hash.as_deref()).then(|| format!("{name}, edited since")),
        };
        if foreign.len() <= MAX_LISTED {
            foreign.extend(foreigner);
        }
    })?;
    if is_empty {
        return Ok(Lying::Empty);
    }
    if foreign.is_empty() && !own.is_empty() {
        return Ok(Lying::Ours);
    }
    let mut names: Vec<String> = foreign.into_iter().collect();
    if names.len() > MAX_LISTED {
        names[MAX_LISTED] = "and more".to_owned();
    }
    Ok(Lying::Foreign(names.join(", ")))
}

/// Whether a person has edited a file of text that a conversion wrote with this hash. Weights are not looked at: nobody edits them, and a
/// damaged file may be replaced.
fn is_edited(path: &Path, hash: Option<&str>) -> bool {
    let Some(hash) = hash else { return false };
    match read_bounded(path, MAX_TEXT_BYTE_LEN) {
        Ok(bytes) => !bytes.is_empty() && blake3::hash(&bytes).to_hex().as_str() != hash,
        Err(_) => false,
    }
}

/// The files that a directory's manifest names (of any schema), and the manifest; none where there is no manifest of ours. Files whose
/// every byte was hashed come with the hash.
fn written(target: &Path) -> BTreeMap<String, Option<String>> {
    let bytes = read_bounded(&target.join(MANIFEST_FILE), MAX_BYTE_LEN).unwrap_or_default();
    let manifest: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if manifest["tool"] != "mlxport" {
        return BTreeMap::new();
    }
    let files = manifest["files"].as_array().into_iter().flatten();
    let record = |file: &Value| {
        let is_whole = file["byte_len"] == file["hashed_byte_len"];
        let hash = file["blake3"].as_str().filter(|_| is_whole).map(str::to_owned);
        Some((file["name"].as_str()?.to_owned(), hash))
    };
    files.filter_map(record).chain([(MANIFEST_FILE.to_owned(), None)]).collect()
}

/// Tells of every file under a directory by its path from there, and of every empty folder.
fn list(root: &Path, prefix: &str, tell: &mut dyn FnMut(&str)) -> Result<(), ConvertError> {
    let folder = root.join(prefix);
    let entries = fs::read_dir(&folder).map_err(ConvertError::io("list", &folder))?;
    let mut is_empty = true;
    for entry in entries {
        let entry = entry.map_err(ConvertError::io("list", &folder))?;
        is_empty = false;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        // Not behind links: they are files of their own.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(root, &path, tell)?;
        } else {
            tell(&path);
        }
    }
    if is_empty && !prefix.is_empty() {
        tell(&format!("{prefix}/"));
    }
    Ok(())
}
