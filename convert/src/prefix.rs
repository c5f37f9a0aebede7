//! A prefix that all keys of a checkpoint carry: `module.` of parallel training, `_orig_mod.` of `torch.compile`, a trainer's own.

use std::collections::BTreeMap;

use crate::checkpoint::{Checkpoint, TensorSource};
use crate::error::{Violation, ViolationKind};

/// The most prefixes that are tried.
const MAX_TRIED: usize = 6;

/// The prefixes that all keys carry, each ending in a dot, shortest first.
pub fn shared<V>(tensors: &BTreeMap<String, V>) -> Vec<String> {
    let (Some((first, _)), Some((last, _))) = (tensors.first_key_value(), tensors.last_key_value()) else {
        return Vec::new();
    };
    // In order, what the first and the last have in common all have.
    let common = first.bytes().zip(last.bytes()).take_while(|(one, other)| one == other).count();
    let dots = first.bytes().enumerate().take(common).filter(|(_, byte)| *byte == b'.');
    let ends = dots.map(|(at, _)| at + 1).filter(|&end| end < first.len());
    ends.take(MAX_TRIED).map(|end| first[..end].to_owned()).collect()
}

/// Takes a prefix off that a person named.
///
/// # Errors
/// A violation where no key begins with it.
pub fn strip_named(checkpoint: &mut Checkpoint, prefix: &str) -> Result<String, Violation> {
    let all = checkpoint.tensors().len();
    let with = checkpoint.tensors().keys().filter(|key| key.len() > prefix.len() && key.starts_with(prefix)).count();
    if with == 0 {
        let expected = format!("keys that begin with {prefix}");
        let first =
            checkpoint.tensors().keys().next().map_or("no keys".to_owned(), |key| format!("{key} and the like"));
        return Err(Violation::new(ViolationKind::MissingKey, "--strip-prefix", expected, first));
    }
    checkpoint.strip_prefix(prefix);
    Ok(format!("{prefix} was taken off {with} of {all} keys, as --strip-prefix says"))
}

/// What is said of a prefix that was taken off unasked.
pub fn note(prefix: &str) -> String {
    format!("all keys begin with {prefix}, which was taken off: the recipe is for keys without it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_in_a_dot_and_leaves_something() {
        let keys = |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), ())).collect::<BTreeMap<_, _>>();
        assert_eq!(shared(&keys(&["module._orig_mod.a.w", "module._orig_mod.b"])), ["module.", "module._orig_mod."]);
        assert_eq!(shared(&keys(&["model.a", "model.b", "lm_head"])), [""; 0]);
        assert_eq!(shared(&keys(&["model.layer1", "model.layer2"])), ["model."]);
        assert_eq!(shared(&keys(&["a.b"])), ["a."]);
        assert_eq!(shared(&keys(&["a."])), [""; 0]);
        assert_eq!(shared(&keys(&[])), [""; 0]);
    }
}
