//! What makes a result what it is: source, model, and all settings. A result is done again unless all of it is the same.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde_json::{Value, json};

use crate::{settings::Settings, sources::Kind};

/// The key of the record in `page.json`.
pub(crate) const KEY: &str = "made_of";
/// Bytes of a weight file that are hashed at its start, in its middle, and at its end.
const SAMPLE: u64 = 1 << 20;

/// The model and its tokenizer, as hashes: the same for all pages of a run.
#[derive(Debug, Clone)]
pub(crate) struct ModelFingerprint {
    model: String,
    tokenizer: Option<String>,
}

impl ModelFingerprint {
    /// Looks at the model: its small files whole, of its weights the length and three samples.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn of(model: &Path, tokenizer: Option<&PathBuf>) -> anyhow::Result<Self> {
        let reading = || format!("reading {}", model.display());
        let mut files: Vec<PathBuf> = fs::read_dir(model)
            .with_context(reading)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()
            .with_context(reading)?;
        files.retain(|path| path.extension().is_some_and(|ending| ending == "json" || ending == "safetensors"));
        files.sort();
        let mut hasher = blake3::Hasher::new();
        for path in &files {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            hasher.update(name.as_bytes()).update(&[0]);
            hasher.update(sample(path).with_context(|| format!("reading {}", path.display()))?.as_bytes());
        }
        let tokenizer = tokenizer.map(|path| hash_of_file(path)).transpose()?;
        Ok(Self { model: hasher.finalize().to_hex().to_string(), tokenizer })
    }

    /// What a page is made of. `sources`: hashes of its files; `number`: its page of a document, counted from 1.
    pub fn made_of(
        &self,
        settings: &Settings,
        kind: Kind,
        sources: &[String],
        number: Option<usize>,
        prompt: &str,
    ) -> Value {
        let options = settings.options(kind);
        let no_repeat = options.no_repeat.map(|rule| {
            let mut exempt: Vec<i32> = rule.exempt.iter().copied().collect();
            exempt.sort_unstable();
            json!({ "size": rule.size, "window": rule.window, "exempt": exempt })
        });
        json!({
            "sources": sources,
            "source_page": number,
            "model": self.model,
            "tokenizer": self.tokenizer,
            "mode": settings.mode().name(),
            "prompt": prompt,
            "dpi": number.map(|_| settings.drawing.dpi),
            "max_tokens": options.max_tokens,
            "no_repeat": no_repeat,
            "dtype": settings.dtype_name(),
            "flatten": settings.decoding.flatten_white.then_some("white"),
            "scale_16bit": settings.decoding.scale_16bit,
        })
    }
}

/// The hash of a file's bytes.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn hash_of_file(path: &Path) -> anyhow::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let reading = || format!("reading {}", path.display());
    anyhow::ensure!(path.metadata().with_context(reading)?.is_file(), "{}: not a regular file", path.display());
    let mut file = File::open(path).with_context(reading)?;
    std::io::copy(&mut file, &mut hasher).with_context(reading)?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn sample(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&length.to_le_bytes());
    let whole = path.extension().is_some_and(|ending| ending == "json") || length <= 3 * SAMPLE;
    let starts = if whole { vec![0] } else { vec![0, length / 2, length - SAMPLE] };
    for start in starts {
        file.seek(SeekFrom::Start(start))?;
        let most = if whole { u64::MAX } else { SAMPLE };
        std::io::copy(&mut (&mut file).take(most), &mut hasher)?;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// What a document's page is made of otherwise than the document's pages are now, by name.
pub(crate) fn differences_of_document(page: &Value, now: &Value) -> Vec<String> {
    let mut now = now.clone();
    if let Some(entries) = now.as_object_mut() {
        entries.remove("source_page");
    }
    differences(page, &now)
}

/// What of two records differs, by name; empty where nothing does.
pub(crate) fn differences(then: &Value, now: &Value) -> Vec<String> {
    let Some(now) = now.as_object() else { return Vec::new() };
    let called = |name: &str| {
        match name {
            "sources" | "source_page" => "source",
            "max_tokens" => "--max-tokens",
            "no_repeat" => "no-repeat rule",
            "scale_16bit" => "--scale-16bit",
            "flatten" => "--flatten",
            "dpi" => "--dpi",
            other => other,
        }
        .to_owned()
    };
    let mut names: Vec<String> =
        now.iter().filter(|(name, value)| then[name.as_str()] != **value).map(|(name, _)| called(name)).collect();
    names.dedup();
    names
}
