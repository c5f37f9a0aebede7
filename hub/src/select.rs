//! Which of a repository's files a conversion needs. Never code, never other folders.

use std::collections::BTreeSet;

use mlxport_convert::checkpoint::index::{IndexForm, PICKLES, SAFETENSORS};
use mlxport_convert::files::is_plain_name;
use mlxport_convert::writer::is_companion;

use crate::HubError;

/// What every release has.
pub const CONFIG_FILE: &str = "config.json";

/// Top-level names of the repository, and templates in a folder of their own; other folders' files are left out.
///
/// # Errors
/// When the server names anything that no repository can hold (`..`, absolute, empty parts).
pub fn top_level(names: impl IntoIterator<Item = String>) -> Result<BTreeSet<String>, HubError> {
    let mut top = BTreeSet::new();
    let mut bad = Vec::new();
    for name in names {
        if !name.split('/').all(is_plain_name) {
            bad.push(format!("{name:?}"));
        } else if !name.contains('/') || is_companion(&name) {
            top.insert(name);
        }
    }
    if bad.is_empty() {
        return Ok(top);
    }
    Err(HubError::answer("the repository's list of files", "names that stay in the repository", bad.join(", ")))
}

/// The small files: config, whichever index counts, and what a conversion copies.
pub fn small(top: &BTreeSet<String>) -> Vec<String> {
    let named = [CONFIG_FILE, index_form(top).file_name];
    top.iter().filter(|name| named.contains(&name.as_str()) || is_companion(name)).cloned().collect()
}

/// The index that counts: safetensors win over pickles.
pub fn index_form(top: &BTreeSet<String>) -> IndexForm {
    if top.iter().any(|name| is_safetensors(name)) { SAFETENSORS } else { PICKLES }
}

/// All weights where no index says which.
pub fn weights(top: &BTreeSet<String>) -> Vec<String> {
    let safetensors: Vec<String> = top.iter().filter(|name| is_safetensors(name)).cloned().collect();
    if !safetensors.is_empty() {
        return safetensors;
    }
    top.iter().filter(|name| is_pickle(name)).cloned().collect()
}

fn is_safetensors(name: &str) -> bool {
    name.ends_with(".safetensors")
}

/// Whether it is a pickled checkpoint or a shard of one.
pub fn is_pickle(name: &str) -> bool {
    name.starts_with("pytorch_model") && name.ends_with(".bin")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        top_level(names.iter().map(|name| (*name).to_owned())).expect("fine")
    }

    #[test]
    fn no_code_no_folders_and_pickles_only_alone() {
        let both = set(&["config.json", "m.py", "a.safetensors", "pytorch_model.bin", "onnx/x.safetensors"]);
        assert_eq!((small(&both), weights(&both)), (vec!["config.json".to_owned()], vec!["a.safetensors".to_owned()]));
        let pickle = set(&["config.json", "pytorch_model.bin", "optimizer.bin", "tokenizer.json"]);
        assert_eq!(weights(&pickle), ["pytorch_model.bin"]);
        assert_eq!(small(&pickle), ["config.json", "tokenizer.json"]);
    }

    #[test]
    fn names_that_leave_the_repository_are_refused_together() {
        let names = ["../evil", "/etc/x", "a/../b", "ok"].map(str::to_owned);
        let text = top_level(names).expect_err("bad names").to_string();
        assert!(["../evil", "/etc/x", "a/../b"].iter().all(|name| text.contains(name)), "{text}");
    }
}
