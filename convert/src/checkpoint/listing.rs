//! Which files of a directory are the checkpoint.
//!
//! Safetensors come first: where a release has both, they are the same weights. Of PyTorch's files only those with a release's names
//! are taken together; a directory of training leaves `optimizer.pt`, `training_args.bin` and the like beside them.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use crate::error::{ConvertError, Violation, ViolationKind};

use super::form::{self, Form};
use super::index::{self, IndexForm};
use super::pickle;

/// The name of a release's only pickle.
const SINGLE: &str = "pytorch_model.bin";
/// What trainers write beside the weights (the names' beginnings).
const OTHERS: &[&str] = &["optimizer", "scheduler", "rng_state", "training_args", "scaler", "trainer_state"];

/// The most files that a message lists.
const MAX_LISTED: usize = 5;

/// What a directory offers.
#[derive(Debug)]
pub struct Listing {
    /// What is taken.
    pub chosen: Chosen,
    /// What was left aside and why.
    pub notes: Vec<String>,
}

/// What is taken of a directory.
#[derive(Debug)]
pub enum Chosen {
    /// The shards an index names.
    Indexed(IndexForm),
    /// These files, in name order.
    Files(Vec<String>),
    /// Nothing, and why.
    Nothing(Vec<Violation>),
}

/// Whether a file name is a safetensors file's.
pub fn is_safetensors(name: &str) -> bool {
    name.ends_with(".safetensors")
}

/// Whether a file name is one that PyTorch's files have.
pub fn is_pickle(name: &str) -> bool {
    pickle::ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// Names as a message lists them: not more than a few.
pub fn shortened<T: AsRef<str>>(names: &[T]) -> String {
    let shown: Vec<&str> = names.iter().take(MAX_LISTED).map(AsRef::as_ref).collect();
    let more = names.len() - shown.len();
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join(", "))
}

/// The weight files of an ending that an index does not name.
pub fn unnamed(root: &Path, ending: &str, named: &BTreeSet<&str>) -> Vec<String> {
    let names = names(root).unwrap_or_default();
    let is_unnamed = |name: &String| name.ends_with(ending) && !named.contains(name.as_str()) && !is_other(name);
    names.into_iter().filter(is_unnamed).collect()
}

/// The names in a directory that are not hidden.
fn names(root: &Path) -> Result<BTreeSet<String>, ConvertError> {
    let mut all = BTreeSet::new();
    for entry in std::fs::read_dir(root).map_err(ConvertError::io("list", root))? {
        let entry = entry.map_err(ConvertError::io("list", root))?;
        all.insert(entry.file_name().to_string_lossy().into_owned());
    }
    all.retain(|name| !name.starts_with('.'));
    Ok(all)
}

/// Whether a trainer wrote it beside the weights.
fn is_other(name: &str) -> bool {
    OTHERS.iter().any(|other| name.starts_with(other))
}

/// Looks through a directory.
///
/// # Errors
/// [`ConvertError::Io`] when it cannot be listed.
pub fn choose(root: &Path) -> Result<Listing, ConvertError> {
    let all = names(root)?;
    let (states, safetensors): (Vec<String>, Vec<String>) =
        all.iter().filter(|name| is_safetensors(name)).cloned().partition(|name| is_other(name));
    let (adapters, safetensors): (Vec<String>, Vec<String>) =
        safetensors.into_iter().partition(|name| is_adapter(name));
    let (adapter_pickles, mut pickles): (Vec<String>, Vec<String>) =
        all.iter().filter(|name| is_pickle(name) && !is_other(name)).cloned().partition(|name| is_adapter(name));
    let has_index = all.contains(index::SAFETENSORS.file_name);
    let adapters: Vec<String> = adapters.into_iter().chain(adapter_pickles).collect();
    let mut notes = Vec::new();
    if !states.is_empty() {
        notes.push(format!("{}: a trainer's state, not read", shortened(&states)));
    }
    if !has_index && safetensors.is_empty() {
        if pickles.is_empty() && adapters.is_empty() {
            pickles = unusual(root, &all);
        }
        let has_pickle_index = all.contains(index::PICKLES.file_name);
        if !adapters.is_empty() && pickles.is_empty() && !has_pickle_index {
            return Ok(Listing { chosen: Chosen::Nothing(vec![adapter(root, &adapters)]), notes });
        }
        notes.extend(left_aside(&adapters));
        let chosen = if has_pickle_index { Chosen::Indexed(index::PICKLES) } else { choose_pickles(root, &pickles) };
        if let Chosen::Files(taken) = &chosen {
            let unread: Vec<&String> = pickles.iter().filter(|name| !taken.contains(name)).collect();
            if let (Some(first), false) = (taken.first(), unread.is_empty()) {
                notes.push(format!("{first} was read; {} beside it not (give the file itself)", shortened(&unread)));
            }
        }
        return Ok(Listing { chosen, notes });
    }
    notes.extend(left_aside(&adapters));
    if !pickles.is_empty() {
        let names = pickles.join(", ");
        notes.push(format!("the safetensors were read; the PyTorch files beside them were not: {names}"));
    }
    let chosen = if has_index { Chosen::Indexed(index::SAFETENSORS) } else { choose_safetensors(root, safetensors) };
    Ok(Listing { chosen, notes })
}

fn is_adapter(name: &str) -> bool {
    name.starts_with("adapter_model.") || name.starts_with("adapter_model-")
}

fn left_aside(adapters: &[String]) -> Option<String> {
    let names = adapters.join(", ");
    (!adapters.is_empty())
        .then(|| format!("{names}: an adapter, not read (merge it first where it belongs to the model)"))
}

/// A directory of nothing but an adapter.
fn adapter(root: &Path, names: &[String]) -> Violation {
    let found = format!(
        "a PEFT adapter alone ({}): merge it into its base model first (merge_and_unload() and save_pretrained() in Python) and convert \
         that",
        names.join(", ")
    );
    Violation::new(ViolationKind::Unsupported, root.display().to_string(), "a whole checkpoint", found)
}

/// Files of `torch.save` under any other name, where no file has a usual one.
fn unusual(root: &Path, names: &BTreeSet<String>) -> Vec<String> {
    let is_one = |name: &&String| {
        let path = root.join(name);
        let Ok(meta) = std::fs::metadata(&path) else { return false };
        let Some(file) = meta.is_file().then(|| File::open(&path).ok()).flatten() else { return false };
        match form::of_file(&file, meta.len()) {
            Form::Legacy => true,
            Form::Archive => pickle::is_archive(&file, name, meta.len()),
            _ => false,
        }
    };
    names.iter().filter(|name| !is_other(name)).filter(is_one).cloned().collect()
}

/// Without an index: the shards of one set, or whatever files there are. Files that have keys in common are refused when they are read.
fn choose_safetensors(root: &Path, names: Vec<String>) -> Chosen {
    let (shards, rest): (Vec<&String>, Vec<&String>) =
        names.iter().partition(|name| numbered(name, ".safetensors").is_some());
    let Some(&first) = shards.first() else { return Chosen::Files(names) };
    let refuse = |kind, expected: String, found: String| {
        Chosen::Nothing(vec![Violation::new(kind, root.display().to_string(), expected, found)])
    };
    let set_of = |name: &str| numbered(name, ".safetensors").map(|(stem, _, count)| (stem.to_owned(), count));
    let sets: BTreeSet<(String, u64)> = shards.iter().filter_map(|name| set_of(name)).collect();
    if !rest.is_empty() || sets.len() > 1 {
        let expected =
            format!("one set of shards, or an index ({}) that says which files count", index::SAFETENSORS.file_name);
        let found = if rest.is_empty() {
            format!("{} sets of shards, {first} the first of them (keep one set in a directory)", sets.len())
        } else {
            let names = shortened(&rest);
            format!(
                "{} shards and {names} beside them (give the one file itself, or remove what is not wanted)",
                shards.len()
            )
        };
        return refuse(ViolationKind::Unsupported, expected, found);
    }
    let count = sets.first().map_or(0, |(_, count)| *count);
    let numbers: BTreeSet<u64> = shards.iter().filter_map(|name| Some(numbered(name, ".safetensors")?.1)).collect();
    if numbers.len() as u64 == count && numbers.first() == Some(&1) && numbers.last() == Some(&count) {
        return Chosen::Files(names);
    }
    let found = format!("{} (download the others)", shortened(&shards));
    refuse(ViolationKind::MissingFile, format!("shards 1 to {count} of {count}, each once"), found)
}

/// Stem, number and count of `model-00001-of-00002.safetensors`.
fn numbered<'a>(name: &'a str, ending: &str) -> Option<(&'a str, u64, u64)> {
    let (front, count) = name.strip_suffix(ending)?.rsplit_once("-of-")?;
    let (stem, number) = front.rsplit_once('-')?;
    Some((stem, number.parse().ok()?, count.parse().ok()?))
}

/// Without an index: all shards of one set, or the one file there is.
fn choose_pickles(root: &Path, names: &[String]) -> Chosen {
    let place = root.display().to_string();
    let nothing = |kind, expected: &str, found: String| {
        Chosen::Nothing(vec![Violation::new(kind, place.clone(), expected, found)])
    };
    let shards: Vec<(&String, u64, u64)> =
        names.iter().filter_map(|name| shard(name).map(|(number, count)| (name, number, count))).collect();
    let has_single = names.iter().any(|name| name == SINGLE);
    match (shards.first(), has_single, names) {
        (None, true, _) => Chosen::Files(vec![SINGLE.to_owned()]),
        (None, false, [only]) => Chosen::Files(vec![only.clone()]),
        (None, false, []) => {
            let expected = format!("*.safetensors files or {}", index::SAFETENSORS.file_name);
            let found = "none, and no file that torch.save wrote either (.bin, .pt, .pth, .ckpt)";
            nothing(ViolationKind::MissingFile, &expected, format!("{found}{}", of_others(root)))
        }
        (None, false, _) => {
            let expected = "one PyTorch file, or those of a release (give the file itself)";
            nothing(ViolationKind::Unsupported, expected, names.join(", "))
        }
        (Some(_), true, _) => {
            let found = format!("{SINGLE} and {} shards (give the one file itself, or remove it)", shards.len());
            nothing(ViolationKind::Unsupported, "one file or its shards", found)
        }
        (Some(&(_, _, count)), false, _) => {
            // By name in the message, so a claim of billions is not counted up.
            let numbers: BTreeSet<u64> = shards.iter().map(|(_, number, _)| *number).collect();
            let is_whole = shards.iter().all(|shard| shard.2 == count)
                && numbers.len() as u64 == count
                && numbers.first() == Some(&1)
                && numbers.last() == Some(&count);
            if is_whole && shards.len() as u64 == count {
                return Chosen::Files(shards.into_iter().map(|(name, ..)| name.clone()).collect());
            }
            let found: Vec<&str> = shards.iter().map(|(name, ..)| name.as_str()).collect();
            let expected = format!("shards 1 to {count} of {count}, each once");
            nothing(ViolationKind::MissingFile, &expected, found.join(", "))
        }
    }
}

/// Weights of other frameworks that lie in a directory, for a message.
fn of_others(root: &Path) -> String {
    const ENDINGS: [&str; 8] = [".gguf", ".h5", ".msgpack", ".onnx", ".npz", ".ot", ".mlmodel", ".tflite"];
    let mut names: Vec<String> = names(root).unwrap_or_default().into_iter().collect();
    names.retain(|name| ENDINGS.iter().any(|ending| name.ends_with(ending)));
    if names.is_empty() {
        return String::new();
    }
    format!("; {} is of another framework (take the PyTorch release that it was made from)", shortened(&names))
}

/// Number and count of `pytorch_model-00001-of-00002.bin`.
fn shard(name: &str) -> Option<(u64, u64)> {
    let (stem, number, count) = numbered(name, ".bin")?;
    (stem == "pytorch_model").then_some((number, count))
}

#[cfg(test)]
mod tests {
    use super::shard;

    #[test]
    fn shards_are_known_by_their_names() {
        assert_eq!(shard("pytorch_model-00002-of-00010.bin"), Some((2, 10)));
        assert_eq!(shard("pytorch_model.bin"), None);
        assert_eq!(shard("pytorch_model-x-of-2.bin"), None);
    }
}
