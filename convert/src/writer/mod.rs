//! The writer: a plan becomes a directory that appears complete or not at all.
//!
//! Everything is written into a temporary directory beside the target, flushed to disk, and renamed into place. Tensors are made several at
//! a time through bounded buffers and written where they belong; hashes are taken on the way.

mod companions;
mod same;
mod shards;
mod stage;
mod stream;
mod target;
mod worker;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::checkpoint::TensorSource;
use crate::error::ConvertError;
use crate::manifest::{DroppedRecord, FileRecord, MANIFEST_FILE, Manifest, Packed, SCHEMA, SourceRecord, TensorRecord};
use crate::plan::{Making, Plan};
use crate::progress::Progress;
use crate::quantize::Quantization;

pub use companions::{Beside, beside, is_companion};
pub use shards::DEFAULT_MAX_SHARD_BYTE_LEN;
use shards::Shard;
use stage::Stage;
pub use stream::{DEFAULT_MEMORY_BYTE_LEN, MIN_MEMORY_BYTE_LEN};

/// Where and how to write.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// The directory to make.
    pub target: PathBuf,
    /// Replace what is there.
    pub force: bool,
    /// The most bytes of tensors in one file (a single larger tensor gets a file of its own).
    pub max_shard_byte_len: u64,
    /// Bytes of all workers' buffers together; the memory a conversion takes does not depend on the model.
    pub memory_byte_len: usize,
}

impl WriteOptions {
    /// The defaults for a target.
    pub fn to(target: impl Into<PathBuf>) -> Self {
        Self {
            target: target.into(),
            force: false,
            max_shard_byte_len: DEFAULT_MAX_SHARD_BYTE_LEN,
            memory_byte_len: DEFAULT_MEMORY_BYTE_LEN,
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
    progress: &dyn Progress,
) -> Result<Manifest, ConvertError> {
    same::check(plan, source)?;
    let shards = shards::arrange(plan, options.max_shard_byte_len);
    let byte_len = shards.iter().map(|shard| shard.byte_len).sum();
    let stage = Stage::open(&options.target, options.force, companions, byte_len)?;
    let files = stream::Files::create(stage.path(), &shards)?;
    let hashes = files.write(plan, &shards, source, options.memory_byte_len, progress)?;
    let changed = source.changed_files()?;
    if !changed.is_empty() {
        return Err(ConvertError::SourceChanged { files: changed });
    }
    progress.flushing();
    files.flush()?;
    let (tensors, mut files) = (tensor_records(plan, &shards, &hashes), weight_files(&shards));
    files.push(text_file(&stage, "model.safetensors.index.json", &index_json(plan, &shards))?);
    let config = format!("{}\n", crate::json::to_text(&plan.config));
    files.push(text_file(&stage, "config.json", &config)?);
    let mut left = None;
    if let Some(root) = companions {
        let weights: BTreeSet<&str> = source.files().iter().map(|file| file.name.as_str()).collect();
        let beside = beside(root, &weights)?;
        files.extend(beside.copy(root, stage.path())?);
        left = beside.note();
    }
    let mut manifest = manifest(plan, source, tensors, files);
    manifest.notes.extend(left);
    let text = manifest.to_text().map_err(|error| ConvertError::io("write", stage.path())(error.into()))?;
    text_file(&stage, MANIFEST_FILE, &text)?;
    stage.commit()?;
    Ok(manifest)
}

/// Every tensor's record, in file order.
fn tensor_records(plan: &Plan, shards: &[Shard], hashes: &[blake3::Hash]) -> Vec<TensorRecord> {
    let of = |shard: &Shard, at: usize| record(plan, at, &shard.file_name, &hashes[at]);
    shards.iter().flat_map(|shard| shard.tensors.iter().map(|&at| of(shard, at))).collect()
}

/// The weight files' records. Their tensors have hashes of their own, so only the header is hashed here: together they are every byte.
fn weight_files(shards: &[Shard]) -> Vec<FileRecord> {
    let record = |shard: &Shard| FileRecord {
        name: shard.file_name.clone(),
        byte_len: shard.byte_len,
        hashed_byte_len: shard.header.len() as u64,
        blake3: blake3::hash(&shard.header).to_hex().to_string(),
    };
    shards.iter().map(record).collect()
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
        quantization: plan.quantization.map(settings),
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
        packed: packed(tensor.making),
        blake3: hash.to_hex().to_string(),
        op: tensor.op.clone(),
        row: tensor.row,
        sources: sources.collect(),
    }
}

/// How a packed tensor was packed.
fn packed(making: Making) -> Option<Packed> {
    let (Making::Quantize { to, .. } | Making::Repack { to }) = making else { return None };
    Some(settings(to))
}

fn settings(to: Quantization) -> Packed {
    Packed { mode: to.mode().to_string(), bits: to.bits(), group_size: to.group_size() }
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
        hashed_byte_len: text.len() as u64,
        blake3: blake3::hash(text.as_bytes()).to_hex().to_string(),
    })
}
