//! From a state dict's objects to tensors: dtype, shape, strides, and where in the file the first element lies.
//!
//! Answers to `torch/_utils.py` (`_rebuild_tensor*`, `_rebuild_parameter*`) and `torch/serialization.py` (`persistent_load`).

use std::collections::{BTreeMap, HashSet};

use safetensors::Dtype;

use crate::dtype::byte_len;
use crate::error::{Violation, ViolationKind};

use super::archive::Span;
use super::globals;
use super::object::{Heap, Id, Value};

/// The largest tensor, in bytes; a stride of 0 can claim any size without a byte in the file.
const MAX_TENSOR_BYTE_LEN: u64 = 1 << 42;
/// The most that is listed of one file.
const MAX_VIOLATIONS: usize = 200;
/// The most entries that a note names.
const MAX_NAMED: usize = 8;
/// The most wrappings of one tensor.
const MAX_WRAPPINGS: usize = 8;

/// One tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PickledTensor {
    /// Its key.
    pub key: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape.
    pub shape: Vec<u64>,
    /// Elements per step along each axis.
    pub strides: Vec<u64>,
    /// Where its first element lies in the file.
    pub byte_offset: u64,
}

/// What of a state dict can be used.
#[derive(Debug, Default)]
pub struct Tensors {
    /// Tensors in the order found.
    pub sound: Vec<PickledTensor>,
    /// Keys whose entry is wrong.
    pub broken: Vec<String>,
    /// What is wrong.
    pub violations: Vec<Violation>,
    /// What was passed over.
    pub notes: Vec<String>,
}

/// What was expected and what was found.
type Misfit = (ViolationKind, String, String);

/// Reads a state dict's entries. What is no tensor is passed over with a note; a tensor that cannot be read is a violation.
pub fn read(
    heap: &Heap,
    entries: Vec<(Result<String, Id>, Id)>,
    storages: &BTreeMap<String, Span>,
    file: &str,
) -> Tensors {
    let mut tensors = Tensors::default();
    let (mut seen, mut passed_over) = (HashSet::new(), Vec::new());
    for (key, value) in entries {
        if !is_tensor(heap, value) {
            let key = key.unwrap_or_else(|key| heap.describe(key));
            passed_over.push(format!("{key} ({})", heap.describe(value)));
            continue;
        }
        let key = match key {
            Ok(key) => key,
            Err(key) => {
                let (kind, found) = (ViolationKind::Unsupported, heap.describe(key));
                tensors.violations.push(Violation::new(kind, file, "text as the key of a tensor", found));
                continue;
            }
        };
        let read = if seen.insert(key.clone()) {
            tensor(heap, value, storages)
        } else {
            Err((ViolationKind::DuplicateKey, "each key once in a state dict".into(), "the key again".into()))
        };
        match read {
            Ok(found) => tensors.sound.push(PickledTensor { key, ..found }),
            Err((kind, expected, found)) => {
                tensors.violations.push(Violation::new(kind, format!("{file}: {key}"), expected, found));
                tensors.broken.push(key);
            }
        }
    }
    tensors.notes.extend(note(file, &passed_over));
    let more = tensors.violations.len().saturating_sub(MAX_VIOLATIONS);
    if more > 0 {
        tensors.violations.truncate(MAX_VIOLATIONS);
        let found = format!("{more} more entries that are not");
        tensors.violations.push(Violation::new(ViolationKind::Unsupported, file, "tensors", found));
    }
    tensors
}

/// Names what was passed over.
fn note(file: &str, passed_over: &[String]) -> Option<String> {
    let more = passed_over.len().saturating_sub(MAX_NAMED);
    let named = passed_over[..passed_over.len() - more].join(", ");
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!passed_over.is_empty()).then(|| format!("{file}: passed over what is no tensor: {named}{rest}"))
}

/// Whether an object is one of the forms a tensor has.
pub fn is_tensor(heap: &Heap, id: Id) -> bool {
    heap.made(id).and_then(|(_, class)| class).is_some_and(|(module, name)| is_rebuilder(module, name))
}

fn is_rebuilder(module: &str, name: &str) -> bool {
    matches!(module, "torch._utils" | "torch._tensor" | "torch.tensor") && name.starts_with("_rebuild")
}

fn misfit(expected: impl Into<String>, found: impl Into<String>) -> Misfit {
    (ViolationKind::Unsupported, expected.into(), found.into())
}

/// Takes off what wraps a tensor: parameters, subclasses. Gives the rebuilding function and its arguments.
fn unwrap(heap: &Heap, id: Id) -> Result<(&str, &[Id]), Misfit> {
    let not_one = || misfit("a tensor", heap.describe(id));
    let (made, class) = heap.made(id).ok_or_else(not_one)?;
    let (mut class, mut args) = (class.ok_or_else(not_one)?, made.args.as_slice());
    for _ in 0..MAX_WRAPPINGS {
        match (class, args) {
            (("torch._utils", name @ ("_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3")), list) => {
                return Ok((name, list));
            }
            (("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state"), [inner, ..]) => {
                let (made, inner_class) = heap.made(*inner).ok_or_else(not_one)?;
                (class, args) = (inner_class.ok_or_else(|| misfit("a tensor", heap.describe(*inner)))?, &made.args);
                if !is_rebuilder(class.0, class.1) {
                    return Err(misfit("a tensor", heap.describe(*inner)));
                }
            }
            (
                ("torch._tensor" | "torch.tensor", "_rebuild_from_type_v2" | "_rebuild_from_type"),
                [function, _, inner, ..],
            ) => {
                let Value::Tuple(list) = heap.get(*inner) else { return Err(not_one()) };
                (class, args) = (heap.class(*function).ok_or_else(not_one)?, list);
            }
            ((module, name), _) => {
                let what = heap.describe(id);
                let own = format!("what {module}.{name} makes");
                return Err(misfit(
                    "a tensor",
                    if heap.made(id).is_some_and(|(_, own)| own == Some(class)) { what } else { own },
                ));
            }
        }
    }
    Err(not_one())
}

fn tensor(heap: &Heap, id: Id, storages: &BTreeMap<String, Span>) -> Result<PickledTensor, Misfit> {
    let (function, args) = unwrap(heap, id)?;
    let (least, own_dtype) = match function {
        "_rebuild_tensor" => (4, None),
        "_rebuild_tensor_v2" => (6, None),
        _ => (7, args.get(6).copied()),
    };
    let (Some(&[storage, offset, shape, strides]), true) = (args.first_chunk::<4>(), args.len() >= least) else {
        return Err(misfit(format!("at least {least} arguments of {function}"), args.len().to_string()));
    };
    // Conjugation and negation that PyTorch does on reading.
    if function != "_rebuild_tensor"
        && args.get(least).and_then(|&flags| heap.entries(flags)).is_some_and(|flags| !flags.is_empty())
    {
        return Err(misfit("a tensor as it is stored", "one that is conjugated or negated when read"));
    }
    let storage = Storage::read(heap, storage, own_dtype, storages)?;
    let (shape, strides) = (sizes(heap, shape, "shape")?, sizes(heap, strides, "strides")?);
    let offset = size(heap, offset).ok_or_else(|| misfit("an offset from 0 on", heap.describe(offset)))?;
    let strides = storage.place(&shape, &strides, offset)?;
    let byte_offset = storage.byte_offset + offset * storage.element_byte_len;
    Ok(PickledTensor { key: String::new(), dtype: storage.dtype, shape, strides, byte_offset })
}

fn size(heap: &Heap, id: Id) -> Option<u64> {
    heap.int(id).and_then(|value| u64::try_from(value).ok())
}

/// A tuple of sizes, or the `torch.Size` that older releases pickled.
fn sizes(heap: &Heap, id: Id, what: &str) -> Result<Vec<u64>, Misfit> {
    let list = match heap.made(id) {
        Some((made, Some(("torch", "Size")))) => made.args.first().and_then(|&inner| heap.elements(inner)),
        _ => heap.elements(id),
    };
    let list = list.ok_or_else(|| misfit(format!("a tuple as the {what}"), heap.describe(id)))?;
    let one = |&id: &Id| size(heap, id).ok_or_else(|| misfit(format!("{what} from 0 on"), heap.describe(id)));
    list.iter().map(one).collect()
}

/// What the pickle says of a storage: `("storage", class, key, location, elements)`, and before PyTorch 1.6 which part of it is meant.
#[derive(Debug, Clone, Copy)]
pub struct StorageName<'h> {
    /// The class's name in `torch` or `torch.storage`.
    pub class: Option<&'h str>,
    /// Its key.
    pub key: &'h str,
    /// How many elements it is said to have.
    pub elements: u64,
    /// The first element and the number of them, where it is a part of the storage.
    pub part: Option<(u64, u64)>,
}

/// Reads the name of a storage.
pub fn storage_name(heap: &Heap, id: Id) -> Option<StorageName<'_>> {
    let Value::Persistent(id) = heap.get(id) else { return None };
    let Value::Tuple(parts) = heap.get(*id) else { return None };
    let (&[tag, class, key, _, elements], rest) = parts.split_first_chunk::<5>()?;
    if heap.text(tag) != Some("storage") {
        return None;
    }
    let class = heap.class(class).filter(|(module, _)| matches!(*module, "torch" | "torch.storage" | "torch.cuda"));
    let part = match rest.first().map(|&view| (view, heap.get(view))) {
        Some((_, Value::Tuple(view))) => match view.as_slice() {
            [_, first, count] => Some((size(heap, *first)?, size(heap, *count)?)),
            _ => return None,
        },
        _ => None,
    };
    Some(StorageName {
        class: class.map(|(_, name)| name),
        key: heap.text(key)?,
        elements: size(heap, elements)?,
        part,
    })
}

/// A storage as one tensor sees it.
struct Storage {
    dtype: Dtype,
    element_byte_len: u64,
    elements: u64,
    byte_offset: u64,
}

impl Storage {
    /// A storage by its name. An untyped one counts bytes, and the tensor says what they are.
    fn read(heap: &Heap, id: Id, own_dtype: Option<Id>, storages: &BTreeMap<String, Span>) -> Result<Self, Misfit> {
        let name = storage_name(heap, id).ok_or_else(|| misfit("a storage", heap.describe(id)))?;
        let typed = name.class.and_then(globals::storage);
        let own = own_dtype.and_then(|dtype| heap.class(dtype)).filter(|(module, _)| *module == "torch");
        let own = own.and_then(|(_, name)| globals::dtype(name));
        let (Some(dtype), is_typed) = (own.or(typed), typed.is_some()) else {
            let what =
                own_dtype.map_or(format!("{:?}", name.class.unwrap_or("another class")), |own| heap.describe(own));
            return Err((ViolationKind::WrongDtype, "a dtype that safetensors has".into(), what));
        };
        let element_byte_len = (dtype.bitsize() as u64 / 8).max(1);
        let claimed = name.elements;
        let claimed_byte_len = if is_typed { claimed.checked_mul(element_byte_len) } else { Some(claimed) };
        let span = storages.get(name.key);
        let found_byte_len = span.map(|span| span.byte_len);
        let Some(span) = span.filter(|_| claimed_byte_len == found_byte_len) else {
            let expected = claimed_byte_len.map_or("a size that can be counted".into(), |n| format!("{n} bytes"));
            let found = found_byte_len.map_or("no such entry".into(), |n| format!("{n} bytes"));
            return Err((ViolationKind::TruncatedFile, format!("storage {} of {expected}", name.key), found));
        };
        let whole = span.byte_len / element_byte_len;
        let (first, elements) = name.part.unwrap_or((0, whole));
        if first.checked_add(elements).is_none_or(|end| end > whole) {
            let found = format!("elements {first} and {elements} from there on");
            return Err((ViolationKind::BadHeader, format!("a part of the storage's {whole} elements"), found));
        }
        Ok(Self { dtype, element_byte_len, elements, byte_offset: span.byte_offset + first * element_byte_len })
    }

    /// Checks that every element lies inside, and gives the strides. An axis of fewer than two steps goes nowhere: its stride, which may be
    /// anything, becomes 0.
    fn place(&self, shape: &[u64], strides: &[u64], offset: u64) -> Result<Vec<u64>, Misfit> {
        let bad = |expected: String, found: String| (ViolationKind::BadHeader, expected, found);
        if shape.len() != strides.len() {
            return Err(bad(format!("{} strides for shape {shape:?}", shape.len()), format!("{strides:?}")));
        }
        let strides: Vec<u64> =
            shape.iter().zip(strides).map(|(&len, &stride)| if len < 2 { 0 } else { stride }).collect();
        let is_counted = byte_len(self.dtype, shape).is_some_and(|n| n <= MAX_TENSOR_BYTE_LEN);
        if !is_counted {
            return Err(bad(format!("a tensor of at most {MAX_TENSOR_BYTE_LEN} bytes"), format!("shape {shape:?}")));
        }
        let steps = shape.iter().zip(&strides);
        let mut last = steps.map(|(len, stride)| len.saturating_sub(1).checked_mul(*stride));
        let last = last.try_fold(offset, |sum, step| sum.checked_add(step?));
        let end = if shape.contains(&0) { Some(offset) } else { last.and_then(|last| last.checked_add(1)) };
        if end.is_some_and(|end| end <= self.elements) {
            return Ok(strides);
        }
        let expected = format!("elements inside the storage's {}", self.elements);
        let end = end.map_or("beyond counting".into(), |end| format!("to {end}"));
        Err(bad(expected, format!("shape {shape:?}, strides {strides:?} from element {offset}: {end}")))
    }
}
