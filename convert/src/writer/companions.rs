//! Files that come along unchanged: tokenizer, processor, generation settings, chat templates.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use crate::error::ConvertError;
use crate::manifest::FileRecord;

/// The names MLX tools look for.
pub const NAMES: &[&str] = &[
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
];
/// Bytes copied at a time.
const BUFFER_BYTE_LEN: usize = 1 << 20;

/// Copies those that are there as regular files (links to files count) and hashes them on the way.
pub fn copy(root: &Path, target: &Path) -> Result<Vec<FileRecord>, ConvertError> {
    let mut files = Vec::new();
    for &name in NAMES {
        let from = root.join(name);
        if from.is_file() {
            files.push(copy_one(&from, &target.join(name), name)?);
        }
    }
    Ok(files)
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
