//! Which files of a directory are the checkpoint.
//!
//! Safetensors come first: where a release has both, they are the same weights. Of PyTorch's files only those with a release's names
//! are taken together; a directory of training leaves `optimizer.pt`, `training_args.bin` and the like beside them.

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::{ConvertError, Violation, ViolationKind};

use super::index::{self, IndexForm};
use super::pickle;

/// The name of a release's only pickle.
const SINGLE: &str = "pytorch_model.bin";
/// What trainers write beside the weights (the names' beginnings).
const OTHERS: &[&str] = &["optimizer", "scheduler", "rng_state", "training_args", "scaler", "trainer_state"];

/// What a directory offers.
#[derive(Debug)]
pub struct Listing {
    /// What is taken.
    pub chosen: Chosen,
    /// What was left aside and why.
    pub note: Option<String>,
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

/// Looks through a directory.
///
/// # Errors
/// [`ConvertError::Io`] when it cannot be listed.
pub fn choose(root: &Path) -> Result<Listing, ConvertError> {
    let mut all = BTreeSet::new();
    for entry in std::fs::read_dir(root).map_err(ConvertError::io("list", root))? {
        let entry = entry.map_err(ConvertError::io("list", root))?;
        all.insert(entry.file_name().to_string_lossy().into_owned());
    }
    all.retain(|name| !name.starts_with('.'));
    let safetensors: Vec<String> = all.iter().filter(|name| is_safetensors(name)).cloned().collect();
    let is_other = |name: &String| OTHERS.iter().any(|other| name.starts_with(other));
    let pickles: Vec<String> = all.iter().filter(|name| is_pickle(name) && !is_other(name)).cloned().collect();
    let has_index = all.contains(index::SAFETENSORS.file_name);
    if !has_index && safetensors.is_empty() {
        let chosen = if all.contains(index::PICKLES.file_name) {
            Chosen::Indexed(index::PICKLES)
        } else {
            choose_pickles(root, &pickles)
        };
        return Ok(Listing { chosen, note: None });
    }
    let note = (!pickles.is_empty())
        .then(|| format!("the safetensors were read; the PyTorch files beside them were not: {}", pickles.join(", ")));
    let chosen = if has_index { Chosen::Indexed(index::SAFETENSORS) } else { Chosen::Files(safetensors) };
    Ok(Listing { chosen, note })
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
            nothing(ViolationKind::MissingFile, &expected, "none, and no PyTorch files (.bin, .pt, .pth) either".into())
        }
        (None, false, _) => {
            let expected = "one PyTorch file, or those of a release (give the file itself)";
            nothing(ViolationKind::Unsupported, expected, names.join(", "))
        }
        (Some(_), true, _) => {
            let found = format!("{SINGLE} and {} shards", shards.len());
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

/// Number and count of `pytorch_model-00001-of-00002.bin`.
fn shard(name: &str) -> Option<(u64, u64)> {
    let middle = name.strip_prefix("pytorch_model-")?.strip_suffix(".bin")?;
    let (number, count) = middle.split_once("-of-")?;
    Some((number.parse().ok()?, count.parse().ok()?))
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
