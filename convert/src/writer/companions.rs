//! Files that come along unchanged: tokenizer, processor, generation settings, chat templates. What stays behind is listed.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use crate::checkpoint::form::{HEAD_BYTE_LEN, stands_for};
use crate::error::{ConvertError, Violation, ViolationKind};
use crate::manifest::{FileRecord, MANIFEST_FILE};

/// Whole names that MLX tools, transformers or a tokenizer look for.
const NAMES: &[&str] = &[
    "added_tokens.json",
    "bpe.codes",
    "encoder.json",
    "generation_config.json",
    "merges.txt",
    "normalizer.json",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tekken.json",
    "vocab.bpe",
    "vocab.json",
    "vocab.txt",
];
/// Beginnings of such names.
const BEGINNINGS: &[&str] =
    &["added_tokens", "chat_template", "generation_config", "merges", "special_tokens", "tokenizer", "vocab"];
/// Ends of such names.
const ENDS: &[&str] =
    &[".bpe.model", ".jinja", ".model", ".spm", ".tiktoken", "processor_config.json", "_tokenizer.json"];
/// What a name that fits by its beginning must end in.
const TEXTS: &[&str] =
    &[".bin", ".bpe", ".codes", ".jinja", ".json", ".jsonl", ".model", ".spm", ".tiktoken", ".txt", ".v3"];
/// Folders whose templates come along.
const FOLDERS: &[&str] = &["additional_chat_templates"];
/// The largest such file, in bytes; the largest vocabularies take some tens of millions.
const MAX_BYTE_LEN: u64 = 256 << 20;
/// The most names that are listed as left behind.
const MAX_LISTED: usize = 20;
/// Bytes copied at a time.
const BUFFER_BYTE_LEN: usize = 1 << 20;

/// Whether a file of this name in a release is one that comes along: a plain name, or one inside a folder of templates.
pub fn is_companion(name: &str) -> bool {
    if let Some((folder, inner)) = name.split_once('/') {
        return FOLDERS.contains(&folder) && inner.ends_with(".jinja") && !inner.contains('/');
    }
    let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    let begins = BEGINNINGS.iter().any(|beginning| name.starts_with(beginning)) && ends(TEXTS);
    !name.starts_with('.') && !is_weights(name) && (NAMES.contains(&name) || ends(ENDS) || begins)
}

/// Names that weights have, whatever they begin with.
fn is_weights(name: &str) -> bool {
    [".safetensors", ".pt", ".pth", ".ckpt", ".gguf", ".index.json"].iter().any(|end| name.ends_with(end))
        || (name.ends_with(".bin") && !name.starts_with("vocab"))
}

/// What lies in a release beside its weights.
#[derive(Debug, Default)]
pub struct Beside {
    /// What comes along, with `/` where it lies in a folder.
    pub companions: Vec<String>,
    /// What does not; a folder with its `/`.
    pub left: Vec<String>,
}

/// Looks through the directory that the weights were read from. Hidden files and those that were read are on neither list.
///
/// # Errors
/// [`ConvertError::Io`] when it cannot be listed.
pub fn beside(root: &Path, weights: &BTreeSet<&str>) -> Result<Beside, ConvertError> {
    let mut found = Beside::default();
    for name in names(root)? {
        let path = root.join(&name);
        let is_read = weights.contains(name.as_str()) || name == "config.json" || name == MANIFEST_FILE;
        if name.starts_with('.') || is_read || name.ends_with(".index.json") {
            continue;
        }
        if path.is_dir() {
            let inner = if FOLDERS.contains(&name.as_str()) { names(&path)? } else { BTreeSet::new() };
            let inner: Vec<String> = inner.iter().map(|inner| format!("{name}/{inner}")).collect();
            let (taken, left): (Vec<String>, Vec<String>) =
                inner.into_iter().partition(|inner| is_companion(inner) && root.join(inner).is_file());
            if taken.is_empty() {
                found.left.push(format!("{name}/"));
            } else {
                found.companions.extend(taken);
                found.left.extend(left);
            }
        } else if is_companion(&name)
            && std::fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_BYTE_LEN)
        {
            found.companions.push(name);
        } else {
            found.left.push(name);
        }
    }
    Ok(found)
}

fn names(root: &Path) -> Result<BTreeSet<String>, ConvertError> {
    let entries = std::fs::read_dir(root).map_err(ConvertError::io("list", root))?;
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        Ok(entry.map_err(ConvertError::io("list", root))?.file_name().to_string_lossy().into_owned())
    };
    entries.map(name).collect()
}

impl Beside {
    /// What stayed behind, for people.
    pub fn note(&self) -> Option<String> {
        let more = self.left.len().saturating_sub(MAX_LISTED);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        let shown = self.left[..self.left.len() - more].join(", ");
        (!self.left.is_empty()).then(|| format!("left behind: {shown}{rest}"))
    }

    /// Companions that are not what their names say: a git-lfs pointer, a web page.
    pub fn violations(&self, root: &Path) -> Vec<Violation> {
        let one = |name: &String| {
            let mut head = Vec::new();
            File::open(root.join(name)).ok()?.take(HEAD_BYTE_LEN).read_to_end(&mut head).ok()?;
            let found = stands_for(&head)?;
            Some(Violation::new(ViolationKind::TruncatedFile, name, "the file that goes with the weights", found))
        };
        self.companions.iter().filter_map(one).collect()
    }

    /// Copies the companions and hashes them on the way.
    ///
    /// # Errors
    /// [`ConvertError::Io`] when the system refuses.
    pub fn copy(&self, root: &Path, target: &Path) -> Result<Vec<FileRecord>, ConvertError> {
        let mut files = Vec::new();
        for name in &self.companions {
            let to = target.join(name);
            if let Some(folder) = to.parent() {
                std::fs::create_dir_all(folder).map_err(ConvertError::io("create", folder))?;
            }
            files.push(copy_one(&root.join(name), &to, name)?);
        }
        Ok(files)
    }
}

fn copy_one(from: &Path, to: &Path, name: &str) -> Result<FileRecord, ConvertError> {
    let mut source = File::open(from).map_err(ConvertError::io("read", from))?;
    let mut target = File::create_new(to).map_err(ConvertError::io("create", to))?;
    let mut buffer = vec![0; BUFFER_BYTE_LEN];
    let (mut hasher, mut byte_len) = (blake3::Hasher::new(), 0);
    loop {
        let count = source.read(&mut buffer).map_err(ConvertError::io("read", from))?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        byte_len += count as u64;
        target.write_all(&buffer[..count]).map_err(ConvertError::io("write", to))?;
    }
    target.sync_all().map_err(ConvertError::io("flush", to))?;
    Ok(FileRecord {
        name: name.to_owned(),
        byte_len,
        hashed_byte_len: byte_len,
        blake3: hasher.finalize().to_hex().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::is_companion;

    #[test]
    fn what_a_tokenizer_or_processor_needs_comes_along_and_code_and_weights_do_not() {
        for name in [
            "tokenizer.json",
            "tokenizer_config.json",
            "tokenizer.model",
            "tokenizer.model.v3",
            "spiece.model",
            "tekken.json",
            "sentencepiece.bpe.model",
            "qwen.tiktoken",
            "source.spm",
            "vocab.json",
            "video_preprocessor_config.json",
            "additional_chat_templates/tool_use.jinja",
            "chat_template.jinja",
            "generation_config.json",
            "special_tokens.txt",
        ] {
            assert!(is_companion(name), "{name}");
        }
        for name in [
            "tokenization_x.py",
            "tokenizer.py",
            "model.safetensors",
            "tokenizer.safetensors",
            "README.md",
            "config.json",
            "a/b.jinja",
            "additional_chat_templates/../x.jinja",
            "pytorch_model.bin",
            "tokenizer.bin",
            "params.json",
            ".tokenizer.json",
        ] {
            assert!(!is_companion(name), "{name}");
        }
    }
}
