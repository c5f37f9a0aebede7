//! A linter for what CI runs: `action.yml`, `.github/workflows/`, and the examples in `examples/ci/`.
//!
//! What an unread file gets wrong: YAML that is not what it looks like, a key that no one reads, an input that is not declared
//! or never used, a `run` without a shell or with an expression in it (whoever names a branch could run commands), an action
//! that is not pinned, a path that is not there, a step whose outputs nobody sets.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};

pub mod actionlint;
mod lint;

#[cfg(test)]
mod tests;

/// Where the files are: the action, this project's own workflows, examples for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `action.yml`.
    Action,
    /// A GitHub workflow.
    Workflow,
    /// A GitLab pipeline.
    GitLab,
}

impl Kind {
    /// What a file of this path is, if it is one of them.
    pub fn of(path: &str) -> Option<Self> {
        let is_yaml = path.ends_with(".yml") || path.ends_with(".yaml");
        let within = |folder: &str| path.starts_with(folder) && is_yaml;
        if path == "action.yml" {
            Some(Self::Action)
        } else if within("examples/ci/gitlab") {
            Some(Self::GitLab)
        } else if within(".github/workflows/") || within("examples/ci/") {
            Some(Self::Workflow)
        } else {
            None
        }
    }
}

/// Everything that is wrong with the file at `path` (relative to `root`, where the action lies).
pub fn lint(root: &Path, path: &str, text: &str) -> Vec<String> {
    let Some(kind) = Kind::of(path) else { return Vec::new() };
    let document = match parse(text) {
        Ok(document) => document,
        Err(error) => return vec![error],
    };
    match kind {
        Kind::Action => lint::action(&document),
        Kind::Workflow => lint::workflow(root, &document, path.starts_with(".github/")),
        Kind::GitLab => lint::gitlab(&document),
    }
}

/// YAML as JSON: keys that come twice are errors.
fn parse(text: &str) -> Result<Value, String> {
    let value: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    if value.is_object() { Ok(value) } else { Err("expected a mapping".to_owned()) }
}

/// The inputs that `action.yml` declares: name, and whether it is required.
fn inputs(action: &Value) -> Vec<(String, bool)> {
    let declared = action["inputs"].as_object().into_iter().flatten();
    declared.map(|(name, input)| (name.clone(), input["required"] == true)).collect()
}

/// Every `${{ … }}` in a text.
fn expressions(text: &str) -> Vec<&str> {
    text.split("${{").skip(1).map(|rest| rest.split("}}").next().unwrap_or(rest).trim()).collect()
}

/// Every text in a document.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(entries) => entries.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// Keys of `object` that are none of `known`.
fn unknown(place: &str, object: &Map<String, Value>, known: &[&str]) -> Vec<String> {
    let known: BTreeSet<&str> = known.iter().copied().collect();
    let keys = object.keys().filter(|key| !known.contains(key.as_str()));
    keys.map(|key| format!("{place}: nobody reads the key `{key}`")).collect()
}
