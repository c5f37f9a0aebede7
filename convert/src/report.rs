//! What `mlxport convert` says when it is done: a plan or a summary for people, and the same as JSON.

use std::collections::{BTreeMap, BTreeSet};

use mlxport_convert::manifest::Manifest;
use mlxport_convert::plan::Plan;
use mlxport_convert::show_byte_len;
use serde_json::{Value, json};

/// The plan as JSON.
pub fn plan_json(plan: &Plan) -> Value {
    let tensors: Vec<Value> = plan
        .tensors
        .iter()
        .map(|tensor| {
            let keys: Vec<&str> = tensor.sources.iter().map(|s| s.key.as_str()).collect();
            json!({
                "name": tensor.name,
                "dtype": tensor.dtype.to_string(),
                "shape": tensor.shape,
                "op": tensor.op,
                "row": tensor.row,
                "sources": keys,
            })
        })
        .collect();
    let dropped: Vec<Value> = plan
        .dropped
        .iter()
        .map(|dropped| json!({ "key": dropped.key, "row": dropped.row, "reason": dropped.reason }))
        .collect();
    json!({
        "recipe": plan.recipe,
        "recipe_blake3": plan.recipe_hash,
        "layout": plan.layout,
        "dtype": plan.dtype.to_string(),
        "byte_len": plan.byte_len(),
        "tensors": tensors,
        "dropped": dropped,
        "notes": plan.notes,
        "config": plan.config,
    })
}

/// What was written, as JSON; `seconds` is the time it took.
pub fn written(manifest: &Manifest, seconds: f64) -> Value {
    json!({
        "recipe": manifest.recipe,
        "recipe_blake3": manifest.recipe_blake3,
        "layout": manifest.layout,
        "dtype": manifest.dtype,
        "tensors": manifest.tensors.len(),
        "quantization": manifest.quantization,
        "byte_len": byte_len(manifest),
        "source_byte_len": source_byte_len(manifest),
        "source_tensors": source_count(manifest),
        "operations": operations(manifest),
        "files": manifest.files,
        "notes": manifest.notes,
        "violations": [],
        "seconds": seconds,
        "bytes_per_second": throughput(manifest, seconds),
    })
}

/// How many source keys went into the output or were left out; a packed one that was split counts once.
fn source_count(manifest: &Manifest) -> usize {
    let used = manifest.tensors.iter().flat_map(|tensor| &tensor.sources);
    let keys: BTreeSet<&str> = used.map(|source| source.key.as_str()).collect();
    keys.len() + manifest.dropped.len()
}

fn operations(manifest: &Manifest) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for tensor in &manifest.tensors {
        *counts.entry(tensor.op.as_str()).or_default() += 1;
    }
    counts
}

fn byte_len(manifest: &Manifest) -> u64 {
    manifest.tensors.iter().map(|tensor| tensor.byte_len).sum()
}

fn source_byte_len(manifest: &Manifest) -> u64 {
    manifest.source_files.iter().map(|file| file.byte_len).sum()
}

/// Bytes read and written per second.
fn throughput(manifest: &Manifest, seconds: f64) -> f64 {
    (byte_len(manifest) + source_byte_len(manifest)) as f64 / seconds.max(1e-9)
}

/// The plan's table with its notes, for people.
pub fn table(plan: &Plan) -> String {
    let mut text = plan.table();
    for note in &plan.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    let (count, size) = (plan.tensors.len(), show_byte_len(plan.byte_len()));
    text.push_str(&format!("{count} tensors, {size}, recipe {}, layout {}\n", plan.recipe, plan.layout));
    text
}

/// What was written, for people: sizes before and after, tensors by operation, time and throughput.
pub fn summary(target: &str, manifest: &Manifest, seconds: f64) -> String {
    let counts = operations(manifest);
    let operations: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let mut text = String::new();
    for note in &manifest.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    let packed = manifest
        .quantization
        .as_ref()
        .map_or(String::new(), |to| format!(", {} {} bits in groups of {}", to.mode, to.bits, to.group_size));
    text.push_str(&format!(
        "{target}: {} tensors from {}, {} -> {} in {seconds:.1} s, {}/s read and written\n  recipe {}, layout {}, dtype {}{packed}\n  {}\n",
        manifest.tensors.len(),
        source_count(manifest),
        show_byte_len(source_byte_len(manifest)),
        show_byte_len(byte_len(manifest)),
        show_byte_len(throughput(manifest, seconds) as u64),
        manifest.recipe,
        manifest.layout,
        manifest.dtype,
        operations.join(", "),
    ));
    text
}
