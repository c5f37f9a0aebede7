//! What convert, inspect and verify say when they are done: text for people, and the same as JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::digest;
use crate::error::{Violation, count};
use crate::inspect::Inspection;
use crate::manifest::Manifest;
use crate::plan::Plan;
use crate::recipe::Recipe;
use crate::size::show_byte_len;
use crate::verify::VerifyReport;

/// The plan as JSON.
#[must_use]
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
#[must_use]
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
#[must_use]
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
#[must_use]
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

/// How many forms of violations are shown to a person.
const SHOWN: usize = 36;

/// Violations for a person: one line for each form, or all of them.
#[must_use]
pub fn listed(violations: &[Violation], all: bool) -> String {
    let count = count(violations);
    if all {
        let lines: String = violations.iter().map(|violation| format!("  {violation}\n")).collect();
        return format!("{count}\n{lines}");
    }
    format!("{count}\n{}", digest::lines(violations, SHOWN, "--all"))
}

/// How many forms of violations of a recipe are shown to a person.
const SHOWN_OF_A_RECIPE: usize = 8;

/// What a path holds and which recipe fits, for people.
#[must_use]
pub fn inspection(inspection: &Inspection) -> String {
    let mut out = String::new();
    let dtypes: Vec<String> = inspection.dtypes.iter().map(|(dtype, count)| format!("{count} {dtype}")).collect();
    out.push_str(&format!(
        "{} tensors ({}), {} in {} files, model_type {}{}\n",
        inspection.tensors,
        dtypes.join(", "),
        show_byte_len(inspection.byte_len),
        inspection.files.len(),
        inspection.model_type.as_deref().unwrap_or("not stated"),
        if inspection.converted { ", converted by mlxport" } else { "" },
    ));
    let width = inspection.groups.iter().map(|group| group.pattern.len()).max().unwrap_or(0);
    for group in &inspection.groups {
        out.push_str(&format!("{:>6} x  {:width$}  {:5} {:?}\n", group.count, group.pattern, group.dtype, group.shape));
    }
    for note in &inspection.notes {
        out.push_str(&format!("note: {note}\n"));
    }
    // What is for another model is no news.
    let (others, own): (Vec<_>, Vec<_>) = inspection.recipes.iter().partition(|verdict| verdict.is_for_another());
    own.iter().for_each(|verdict| out.push_str(&verdict.text(SHOWN_OF_A_RECIPE)));
    if !others.is_empty() {
        out.push_str(&format!("{} built-in recipes are for other models (--json lists them)\n", others.len()));
    }
    out
}

/// What a check against the manifest found, in a line for people.
#[must_use]
pub fn verified(directory: &str, report: &VerifyReport) -> String {
    let verdict = match report.differences.len() {
        0 => "as the manifest says".to_owned(),
        count => format!("{count} differences"),
    };
    let (files, tensors, size) = (report.files, report.tensors, show_byte_len(report.byte_len));
    format!("{directory}: {files} files, {tensors} tensors, {size}: {verdict}\n")
}

/// Recipes as one JSON object, with what each is for.
#[must_use]
pub fn recipes_json(recipes: &[Recipe]) -> String {
    let one = |recipe: &Recipe| {
        json!({
            "name": recipe.name, "model_types": recipe.model_types, "architectures": recipe.architectures,
            "layouts": recipe.layouts, "description": recipe.description,
        })
    };
    let all: Vec<Value> = recipes.iter().map(one).collect();
    format!("{:#}\n", json!({ "schema": "mlxport.recipe-list/1", "recipes": all }))
}

/// Recipes as a table for people.
#[must_use]
pub fn recipes(recipes: &[Recipe]) -> String {
    let row = |recipe: &Recipe| {
        [recipe.name.clone(), recipe.model_types.join(", "), recipe.layouts.join(", "), recipe.description.clone()]
    };
    let heads = ["name", "model types", "layouts", "description"].map(str::to_owned);
    let rows: Vec<[String; 4]> = std::iter::once(heads).chain(recipes.iter().map(row)).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2), 0];
    let line = |row: &[String; 4]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}
