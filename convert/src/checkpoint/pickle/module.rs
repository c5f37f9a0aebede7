//! A whole `nn.Module` that was pickled: its parameters and buffers by their dotted names, as its `state_dict()` has them.
//!
//! Answers to `torch/nn/modules/module.py` (`_save_to_state_dict`): parameters, then buffers that persist, then the modules inside.

use std::collections::HashSet;

use super::object::{Heap, Id, Value};

/// How deep modules may lie in each other.
const MAX_DEPTH: usize = 100;
/// The most modules and tensors that are listed; modules that are shared come under each of their names.
const MAX_STEPS: usize = 1 << 20;

/// Whether an object has the attributes that every `nn.Module` has.
pub fn is_module(heap: &Heap, id: Id) -> bool {
    heap.attributes(id).is_some_and(|attributes| {
        ["_parameters", "_modules"]
            .iter()
            .all(|name| heap.entry(attributes, name).is_some_and(|inner| heap.entries(inner).is_some()))
    })
}

/// Names and tensors, in the order of `state_dict()`.
pub fn entries(heap: &Heap, id: Id) -> Vec<(String, Id)> {
    let mut walk = Walk { heap, found: Vec::new(), steps: 0 };
    walk.module(id, "", 0);
    walk.found
}

struct Walk<'h> {
    heap: &'h Heap,
    found: Vec<(String, Id)>,
    steps: usize,
}

impl<'h> Walk<'h> {
    fn module(&mut self, id: Id, prefix: &str, depth: usize) {
        let heap = self.heap;
        let Some(attributes) = heap.attributes(id).filter(|_| depth < MAX_DEPTH) else { return };
        let transient = heap.entry(attributes, "_non_persistent_buffers_set").and_then(|set| heap.elements(set));
        let transient: HashSet<&str> = transient.unwrap_or_default().iter().filter_map(|&id| heap.text(id)).collect();
        for (kind, skipped) in [("_parameters", None), ("_buffers", Some(&transient))] {
            for (name, value) in self.named(attributes, kind) {
                if *heap.get(value) != Value::None && !skipped.is_some_and(|skipped| skipped.contains(name)) {
                    self.found.push((format!("{prefix}{name}"), value));
                }
            }
        }
        for (name, inner) in self.named(attributes, "_modules") {
            self.module(inner, &format!("{prefix}{name}."), depth + 1);
        }
    }

    /// The entries of one of a module's dicts, as long as there have not been too many.
    fn named(&mut self, attributes: Id, kind: &str) -> Vec<(&'h str, Id)> {
        let heap = self.heap;
        let entries = heap.entry(attributes, kind).and_then(|dict| heap.entries(dict)).unwrap_or_default();
        let left = MAX_STEPS.saturating_sub(self.steps);
        self.steps += entries.len().min(left);
        entries.iter().take(left).filter_map(|(key, value)| Some((heap.text(*key)?, *value))).collect()
    }
}
