//! Which dict of a pickle is the state dict.

use candle_core::pickle::Object;

use crate::error::{Violation, ViolationKind};

use super::tensors::{describe, is_tensor};

/// Where trainers put the weights, beside other things.
const USUAL_NAMES: &[&str] = &["state_dict", "model", "module", "model_state_dict", "net", "network"];
/// The most choices that a message lists.
const MAX_LISTED: usize = 20;

/// A dict's entries.
pub type Entries = Vec<(Object, Object)>;

/// The entries of the state dict: the one `wanted` names (`a.b` is `b` in `a`), else the top level where it holds tensors, else the only
/// one of the usual names that does.
///
/// # Errors
/// One violation that lists the choices.
pub fn choose(root: Object, wanted: Option<&str>, file: &str) -> Result<Entries, Violation> {
    let unsupported = |expected: &str, found: String| Violation::new(ViolationKind::Unsupported, file, expected, found);
    let top = match unbuilt(root) {
        Object::Dict(entries) => entries,
        other => return Err(unsupported("a dict of tensors (a state dict, not a whole model)", describe(&other))),
    };
    if let Some(wanted) = wanted {
        let choices = choices(&top);
        return named(top, wanted)
            .ok_or_else(|| unsupported(&format!("a dict named {wanted} (--state-dict)"), listed(&choices)));
    }
    if holds_tensors(&top) {
        return Ok(top);
    }
    let choices = choices(&top);
    let usual: Vec<&String> = choices.iter().filter(|name| USUAL_NAMES.contains(&name.as_str())).collect();
    match usual.as_slice() {
        [only] => {
            let wanted = (*only).clone();
            named(top, &wanted).ok_or_else(|| unsupported("a state dict", listed(&choices)))
        }
        _ => Err(unsupported("one state dict (--state-dict NAME chooses)", listed(&choices))),
    }
}

fn listed(choices: &[String]) -> String {
    if choices.is_empty() {
        return "no dict that holds tensors".to_owned();
    }
    let more = choices.len().saturating_sub(MAX_LISTED);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", choices[..choices.len() - more].join(", "))
}

/// The dicts that hold tensors, by dotted name, in name order.
fn choices(entries: &Entries) -> Vec<String> {
    let mut found = Vec::new();
    // Nesting is bounded: the stream has been vetted.
    let mut open: Vec<(String, &Entries)> = vec![(String::new(), entries)];
    while let Some((name, entries)) = open.pop() {
        if holds_tensors(entries) && !name.is_empty() {
            found.push(name.clone());
        }
        for (key, value) in entries {
            if let (Object::Unicode(key), Some(inner)) = (key, dict(value)) {
                open.push((if name.is_empty() { key.clone() } else { format!("{name}.{key}") }, inner));
            }
        }
    }
    found.sort();
    found
}

/// The dict that a dotted name leads to; a key may have dots of its own.
fn named(entries: Entries, wanted: &str) -> Option<Entries> {
    let fits = |key: &Object, value: &Object| -> Option<usize> {
        let Object::Unicode(key) = key else { return None };
        let rest = wanted.strip_prefix(key.as_str())?;
        (dict(value).is_some() && (rest.is_empty() || rest.starts_with('.'))).then_some(key.len())
    };
    // The longest key that fits is meant.
    let longest = |(_, (key, value)): &(usize, &(Object, Object))| fits(key, value);
    let (at, (key, value)) = entries.iter().enumerate().max_by_key(longest)?;
    let key_byte_len = fits(key, value)?;
    let (_, value) = entries.into_iter().nth(at)?;
    let Object::Dict(inner) = unbuilt(value) else { return None };
    match wanted[key_byte_len..].strip_prefix('.') {
        None => Some(inner),
        Some(rest) => named(inner, rest),
    }
}

fn holds_tensors(entries: &Entries) -> bool {
    entries.iter().any(|(_, value)| is_tensor(value))
}

fn dict(object: &Object) -> Option<&Entries> {
    match object {
        Object::Dict(entries) => Some(entries),
        Object::Build { callable, .. } => dict(callable),
        _ => None,
    }
}

/// The object without the attributes it was given afterwards (a state dict's `_metadata`).
fn unbuilt(mut object: Object) -> Object {
    while let Object::Build { callable, .. } = object {
        object = *callable;
    }
    object
}
