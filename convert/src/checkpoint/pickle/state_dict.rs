//! Which object of a pickle is the state dict: a dict, a list or a whole module that holds tensors.

use std::collections::HashSet;

use crate::error::{Violation, ViolationKind};

use super::module;
use super::object::{Heap, Id, Value};
use super::tensors::is_tensor;

/// Where trainers put the weights, beside other things.
const USUAL_NAMES: &[&str] =
    &["state_dict", "model", "module", "model_state_dict", "net", "network", "weights", "params", "model_state"];
/// Beginnings of names that trainers give to what is no model.
const OTHER_NAMES: &[&str] =
    &["optim", "lr_sched", "sched", "rng", "callbacks", "loops", "scaler", "grad_scaler", "amp"];
/// Parts of names that averaged copies of a model have.
const AVERAGED_NAMES: &[&str] = &["ema", "shadow", "averaged", "swa"];
/// The most choices that a message lists.
const MAX_LISTED: usize = 20;
/// The most objects that are looked into for dicts of tensors.
const MAX_VISITS: usize = 1 << 20;
/// How deep a state dict is looked for. A name grows with every level, so that a pickle of nothing but levels would take the square of
/// its length in time.
const MAX_DEPTH: usize = 64;
/// The name of the object that the pickle is of.
pub const TOP: &str = ".";

/// What may be a state dict.
#[derive(Debug, Clone)]
struct Candidate {
    name: String,
    id: Id,
    tensors: usize,
}

/// The chosen object, and what a person should know of the choice.
#[derive(Debug)]
pub struct Chosen {
    /// The object.
    pub id: Id,
    /// What was passed over.
    pub notes: Vec<String>,
}

/// The object that `wanted` names (`a.b` is `b` in `a`, `.` the whole), else the one that is the state dict by name and size.
///
/// # Errors
/// One violation that lists the choices.
pub fn choose(heap: &Heap, root: Id, wanted: Option<&str>, file: &str) -> Result<Chosen, Violation> {
    let unsupported = |expected: &str, found: String| Violation::new(ViolationKind::Unsupported, file, expected, found);
    let all = candidates(heap, root);
    if let Some(wanted) = wanted {
        let id = if wanted == TOP { Some(root) } else { named(heap, root, wanted) };
        return match id.filter(|&id| count(heap, id) > 0) {
            Some(id) => Ok(Chosen { id, notes: Vec::new() }),
            None => Err(unsupported(&format!("a dict of tensors named {wanted} (--state-dict)"), listed(&all))),
        };
    }
    if all.is_empty() && !is_tensor(heap, root) {
        let expected = "a dict of tensors (a state dict), or an object that holds tensors";
        let first = heap.entries(root).and_then(|entries| entries.first());
        let example = first.map(|(_, value)| format!(": its first entry is {}", heap.describe(*value)));
        let found = format!("{}, and no tensor in it{}", heap.describe(root), example.unwrap_or_default());
        return Err(unsupported(expected, found));
    }
    match best(&all, root) {
        Some(id) => Ok(Chosen { id, notes: described(&all, id, file) }),
        None => Err(unsupported("one state dict (--state-dict NAME chooses)", listed(&all))),
    }
}

/// The one that is meant, where that is clear.
fn best(all: &[Candidate], root: Id) -> Option<Id> {
    let begins = |name: &str, with: &[&str]| with.iter().any(|begin| name.starts_with(begin));
    let is_averaged = |name: &str| {
        let mut parts = name.split(['.', '_']);
        parts.any(|part| AVERAGED_NAMES.contains(&part))
    };
    let top = all.iter().find(|candidate| candidate.id == root).map_or(0, |top| top.tensors);
    let largest = |list: &[&Candidate]| list.iter().map(|candidate| candidate.tensors).max().unwrap_or(0);
    let models: Vec<&Candidate> =
        all.iter().filter(|candidate| candidate.id != root && !begins(&candidate.name, OTHER_NAMES)).collect();
    let (averaged, plain): (Vec<&Candidate>, Vec<&Candidate>) =
        models.iter().copied().partition(|candidate| is_averaged(&candidate.name));
    let usual: Vec<&Candidate> =
        plain.iter().copied().filter(|candidate| USUAL_NAMES.contains(&candidate.name.as_str())).collect();
    if top > 0 && top > largest(&models) {
        return Some(root);
    }
    for choice in [usual, plain, averaged] {
        match choice.as_slice() {
            // Under any other name, as many tensors as lie beside it are no state dict.
            [only] if only.tensors > top || USUAL_NAMES.contains(&only.name.as_str()) => return Some(only.id),
            [_] if top > 0 => return Some(root),
            [] => {}
            _ => return None,
        }
    }
    // Nothing but tensors of an optimizer and the like beside it, or a bare tensor.
    (top > 0 || all.is_empty()).then_some(root)
}

/// Says what was taken where there was a choice.
fn described(all: &[Candidate], id: Id, file: &str) -> Vec<String> {
    let others: Vec<Candidate> = all.iter().filter(|candidate| candidate.id != id).cloned().collect();
    let taken = all.iter().find(|candidate| candidate.id == id);
    match (taken, others.is_empty()) {
        (Some(taken), false) => vec![format!(
            "{file}: the {} tensors of {} were read; tensors also lie in {} (--state-dict NAME reads another)",
            taken.tensors,
            if taken.name == TOP { "the top level" } else { &taken.name },
            listed(&others)
        )],
        _ => Vec::new(),
    }
}

fn listed(all: &[Candidate]) -> String {
    if all.is_empty() {
        return "no dict that holds tensors".to_owned();
    }
    let names: Vec<&str> = all.iter().take(MAX_LISTED).map(|candidate| candidate.name.as_str()).collect();
    let more = all.len() - names.len();
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", names.join(", "))
}

/// The objects that hold tensors, by dotted name, in name order; each once, under its shortest name.
fn candidates(heap: &Heap, root: Id) -> Vec<Candidate> {
    let mut found = Vec::new();
    let mut seen = HashSet::from([root]);
    let mut open = std::collections::VecDeque::from([(TOP.to_owned(), root, 0)]);
    while let Some((name, id, depth)) = open.pop_front() {
        let tensors = count(heap, id);
        if tensors > 0 {
            found.push(Candidate { name: name.clone(), id, tensors });
        }
        if module::is_module(heap, id) || depth == MAX_DEPTH {
            continue;
        }
        for (key, inner) in children(heap, id) {
            if seen.len() < MAX_VISITS && is_container(heap, inner) && seen.insert(inner) {
                open.push_back((if name == TOP { key } else { format!("{name}.{key}") }, inner, depth + 1));
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Whether an object can hold others; a tensor's own arguments are no matter.
fn is_container(heap: &Heap, id: Id) -> bool {
    match heap.get(id) {
        Value::Dict(_) | Value::List(_) | Value::Tuple(_) => true,
        Value::Made(_) => !is_tensor(heap, id),
        _ => false,
    }
}

/// What an object holds, by name: a dict's entries, an object's attributes, a list's elements by their numbers.
fn children(heap: &Heap, id: Id) -> Vec<(String, Id)> {
    let by_text = |entries: &[(Id, Id)]| {
        let one = |(key, value): &(Id, Id)| Some((heap.text(*key)?.to_owned(), *value));
        entries.iter().filter_map(one).collect::<Vec<_>>()
    };
    if let Some(entries) = heap.entries(id) {
        return by_text(entries);
    }
    if let Some(attributes) = heap.attributes(id).and_then(|attributes| heap.entries(attributes)) {
        return by_text(attributes);
    }
    match heap.get(id) {
        Value::List(list) | Value::Tuple(list) => {
            list.iter().enumerate().map(|(at, &item)| (at.to_string(), item)).collect()
        }
        _ => Vec::new(),
    }
}

/// How many tensors an object holds itself: a module in its parts, too.
fn count(heap: &Heap, id: Id) -> usize {
    if module::is_module(heap, id) {
        return module::entries(heap, id).len();
    }
    match heap.entries(id) {
        // Tensors under keys that are no text count, so that they are not passed over.
        Some(entries) => entries.iter().filter(|(_, value)| is_tensor(heap, *value)).count(),
        None => children(heap, id).iter().filter(|(_, value)| is_tensor(heap, *value)).count(),
    }
}

/// The object that a dotted name leads to; a key may have dots of its own.
fn named(heap: &Heap, from: Id, wanted: &str) -> Option<Id> {
    let mut found = None;
    for (key, inner) in children(heap, from) {
        // The longest key that fits is meant.
        let rest = wanted.strip_prefix(key.as_str()).filter(|rest| rest.is_empty() || rest.starts_with('.'));
        if let Some(rest) = rest.filter(|_| is_container(heap, inner))
            && found.as_ref().is_none_or(|(best, _, _): &(usize, Id, &str)| *best <= key.len())
        {
            found = Some((key.len(), inner, rest));
        }
    }
    let (_, inner, rest) = found?;
    match rest.strip_prefix('.') {
        None => Some(inner),
        Some(rest) => named(heap, inner, rest),
    }
}

/// The chosen object's entries: keys that are text, and what they lead to; keys that are none come as their own objects.
pub fn entries(heap: &Heap, id: Id) -> Vec<(Result<String, Id>, Id)> {
    if module::is_module(heap, id) {
        return module::entries(heap, id).into_iter().map(|(key, value)| (Ok(key), value)).collect();
    }
    if is_tensor(heap, id) {
        return vec![(Ok("tensor".to_owned()), id)];
    }
    match heap.entries(id) {
        Some(entries) => {
            let key = |key: Id| heap.text(key).map(str::to_owned).ok_or(key);
            entries.iter().map(|(own, value)| (key(*own), *value)).collect()
        }
        None => children(heap, id).into_iter().map(|(key, value)| (Ok(key), value)).collect(),
    }
}
