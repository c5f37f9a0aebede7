//! The writer: a plan becomes a directory that appears complete or not at all.
//!
//! Everything is written into a temporary directory beside the target, flushed to disk, and renamed into place. Weights stream in
//! source order of the output file through a few bounded buffers; hashes are taken on the way.

mod companions;
mod shards;
mod stage;
mod stream;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::checkpoint::TensorSource;
use crate::error::ConvertError;
use crate::manifest::{DroppedRecord, FileRecord, MANIFEST_FILE, Manifest, SCHEMA, SourceRecord, TensorRecord};
use crate::plan::Plan;

pub use companions::NAMES as COMPANIONS;
pub use shards::DEFAULT_MAX_SHARD_BYTE_LEN;
use shards::Shard;
use stage::Stage;
pub use stream::DEFAULT_BUFFER_BYTE_LEN;

/// Where and how to write.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// The directory to make.
    pub target: PathBuf,
    /// Replace what is there.
    pub force: bool,
    /// The most bytes of tensors in one file (a single larger tensor gets a file of its own).
    pub max_shard_byte_len: u64,
    /// Bytes of all stream buffers together; the memory a conversion takes does not depend on the model.
    pub buffer_byte_len: usize,
}

impl WriteOptions {
    /// The defaults for a target.
    pub fn to(target: impl Into<PathBuf>) -> Self {
        Self {
            target: target.into(),
            force: false,
            max_shard_byte_len: DEFAULT_MAX_SHARD_BYTE_LEN,
            buffer_byte_len: DEFAULT_BUFFER_BYTE_LEN,
        }
    }
}

/// Carries out a plan. `companions` is the directory whose tokenizer and processor files come along, if any.
///
/// # Errors
/// Anything that goes wrong leaves the target as it was and no other file behind.
pub fn write(
    plan: &Plan,
    source: &dyn TensorSource,
    companions: Option<&Path>,
    options: &WriteOptions,
) -> Result<Manifest, ConvertError> {
    let stage = Stage::open(&options.target, options.force, companions)?;
    let shards = shards::arrange(plan, options.max_shard_byte_len);
    let (mut tensors, mut files) = (Vec::new(), Vec::new());
    for shard in &shards {
        let written =
            stream::write_shard(plan, source, shard, &stage.path().join(&shard.file_name), options.buffer_byte_len)?;
        for (&at, hash) in shard.tensors.iter().zip(&written.tensors) {
            tensors.push(record(plan, at, &shard.file_name, hash));
        }
        files.push(FileRecord {
            name: shard.file_name.clone(),
            byte_len: written.byte_len,
            blake3: written.file.to_hex().to_string(),
        });
    }
    files.push(text_file(&stage, "model.safetensors.index.json", &index_json(plan, &shards))?);
    let config = format!("{:#}\n", plan.config);
    files.push(text_file(&stage, "config.json", &config)?);
    if let Some(root) = companions {
        files.extend(companions::copy(root, stage.path())?);
    }
    let manifest = manifest(plan, source, tensors, files);
    let text = manifest.to_text().map_err(|error| ConvertError::io("write", stage.path())(error.into()))?;
    text_file(&stage, MANIFEST_FILE, &text)?;
    stage.commit()?;
    Ok(manifest)
}

fn manifest(plan: &Plan, source: &dyn TensorSource, tensors: Vec<TensorRecord>, files: Vec<FileRecord>) -> Manifest {
    let dropped = plan.dropped.iter().map(|dropped| DroppedRecord {
        key: dropped.key.clone(),
        row: dropped.row,
        reason: dropped.reason.clone(),
    });
    Manifest {
        schema: SCHEMA,
        tool: "mlxport".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        recipe: plan.recipe.clone(),
        recipe_blake3: plan.recipe_hash.clone(),
        layout: plan.layout.clone(),
        dtype: plan.dtype.to_string(),
        notes: plan.notes.clone(),
        source_files: source.files().to_vec(),
        dropped: dropped.collect(),
        tensors,
        files,
    }
}

fn record(plan: &Plan, at: usize, file: &str, hash: &blake3::Hash) -> TensorRecord {
    let tensor = &plan.tensors[at];
    let sources = tensor.sources.iter().map(|source| SourceRecord {
        key: source.key.clone(),
        dtype: source.dtype,
        shape: source.shape.clone(),
    });
    TensorRecord {
        name: tensor.name.clone(),
        file: file.to_owned(),
        dtype: tensor.dtype,
        shape: tensor.shape.clone(),
        byte_len: tensor.byte_len(),
        blake3: hash.to_hex().to_string(),
        op: tensor.op.clone(),
        row: tensor.row,
        sources: sources.collect(),
    }
}

/// The index as MLX and PyTorch tools write it, also for a single file.
fn index_json(plan: &Plan, shards: &[Shard]) -> String {
    let mut map: Vec<(&str, &str)> = shards
        .iter()
        .flat_map(|shard| {
            let name = |&at: &usize| (plan.tensors[at].name.as_str(), shard.file_name.as_str());
            shard.tensors.iter().map(name)
        })
        .collect();
    map.sort_unstable();
    let map: serde_json::Map<_, _> = map.into_iter().map(|(key, file)| (key.to_owned(), json!(file))).collect();
    let index = json!({ "metadata": { "total_size": plan.byte_len() }, "weight_map": map });
    format!("{index:#}\n")
}

/// Writes one small file into the stage and flushes it.
fn text_file(stage: &Stage, name: &str, text: &str) -> Result<FileRecord, ConvertError> {
    let path = stage.path().join(name);
    let mut file = File::create_new(&path).map_err(ConvertError::io("create", &path))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(ConvertError::io("write", &path))?;
    Ok(FileRecord {
        name: name.to_owned(),
        byte_len: text.len() as u64,
        blake3: blake3::hash(text.as_bytes()).to_hex().to_string(),
    })
}
