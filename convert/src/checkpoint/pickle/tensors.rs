//! From a state dict's objects to tensors: dtype, shape, strides, and where in the file the first element lies.
//!
//! Answers to `torch/_utils.py` (`_rebuild_tensor*`, `_rebuild_parameter*`) and `torch/serialization.py` (`persistent_load`).

use std::collections::{BTreeMap, HashSet};

use candle_core::pickle::Object;
use safetensors::Dtype;

use crate::dtype::byte_len;
use crate::error::{Violation, ViolationKind};

use super::archive::Span;
use super::globals;
use super::state_dict::Entries;

/// The largest tensor, in bytes; a stride of 0 can claim any size without a byte in the file.
const MAX_TENSOR_BYTE_LEN: u64 = 1 << 42;
/// The most that is listed of one file.
const MAX_VIOLATIONS: usize = 200;

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
}

/// What was expected and what was found.
type Misfit = (ViolationKind, String, String);

/// Reads a state dict's entries.
pub fn read(entries: Entries, storages: &BTreeMap<String, Span>, file: &str) -> Tensors {
    let mut tensors = Tensors::default();
    let mut seen = HashSet::new();
    for (key, value) in entries {
        let Object::Unicode(key) = key else {
            let found = describe(&key);
            let kind = ViolationKind::Unsupported;
            tensors.violations.push(Violation::new(kind, file, "text as every key of the state dict", found));
            continue;
        };
        let read = if seen.insert(key.clone()) {
            tensor(&value, storages)
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
    let more = tensors.violations.len().saturating_sub(MAX_VIOLATIONS);
    if more > 0 {
        tensors.violations.truncate(MAX_VIOLATIONS);
        let found = format!("{more} more entries that are not");
        tensors.violations.push(Violation::new(ViolationKind::Unsupported, file, "tensors", found));
    }
    tensors
}

/// Whether an object is one of the forms a tensor has.
pub fn is_tensor(object: &Object) -> bool {
    match object {
        Object::Build { callable, .. } => is_tensor(callable),
        Object::Reduce { callable, .. } => class(callable).is_some_and(|(module, name)| {
            matches!(module, "torch._utils" | "torch._tensor") && name.starts_with("_rebuild")
        }),
        _ => false,
    }
}

/// What an object is, for messages.
pub fn describe(object: &Object) -> String {
    match object {
        Object::Class { module_name, class_name } => format!("the name {module_name}.{class_name}"),
        Object::Int(value) => format!("the integer {value}"),
        Object::Long(value) => format!("the integer {value}"),
        Object::Float(value) => format!("the number {value}"),
        Object::Unicode(text) => format!("the text {:?}", text.chars().take(40).collect::<String>()),
        Object::Bool(value) => format!("{value}"),
        Object::None => "None".into(),
        Object::Tuple(list) => format!("a tuple of {}", list.len()),
        Object::List(list) => format!("a list of {}", list.len()),
        Object::Dict(entries) => format!("a dict of {}", entries.len()),
        Object::Reduce { callable, .. } => match class(callable) {
            Some((module, name)) => format!("what {module}.{name} makes"),
            None => "an object".into(),
        },
        Object::Build { callable, .. } => describe(callable),
        Object::PersistentLoad(id) => match id.as_ref() {
            Object::Unicode(what) => what.clone(),
            _ => "a bare storage".into(),
        },
        Object::Mark => "a mark".into(),
    }
}

fn class(object: &Object) -> Option<(&str, &str)> {
    match object {
        Object::Class { module_name, class_name } => Some((module_name, class_name)),
        _ => None,
    }
}

fn misfit(expected: impl Into<String>, found: impl Into<String>) -> Misfit {
    (ViolationKind::Unsupported, expected.into(), found.into())
}

/// Takes off what wraps a tensor: parameters, subclasses, attributes. Gives the rebuilding function and its arguments.
fn unwrap(object: &Object) -> Result<(&str, &[Object]), Misfit> {
    let not_one = || misfit("a tensor", describe(object));
    let (mut callable, mut args) = match object {
        Object::Build { callable, .. } => return unwrap(callable),
        Object::Reduce { callable, args } => (callable.as_ref(), args.as_ref()),
        _ => return Err(not_one()),
    };
    loop {
        let (Some((module, name)), Object::Tuple(list)) = (class(callable), args) else {
            return Err(not_one());
        };
        match (module, name, list.as_slice()) {
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3", list) => {
                return Ok((name, list));
            }
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state", [inner, ..]) => {
                return unwrap(inner);
            }
            ("torch._tensor", "_rebuild_from_type_v2", [function, _, inner, ..]) => {
                (callable, args) = (function, inner);
            }
            _ => return Err(not_one()),
        }
    }
}

fn tensor(object: &Object, storages: &BTreeMap<String, Span>) -> Result<PickledTensor, Misfit> {
    let (function, args) = unwrap(object)?;
    let (least, own_dtype) = match function {
        "_rebuild_tensor" => (4, None),
        "_rebuild_tensor_v2" => (6, None),
        _ => (7, args.get(6)),
    };
    let (Some([storage, offset, shape, strides]), true) = (args.first_chunk::<4>(), args.len() >= least) else {
        return Err(misfit(format!("at least {least} arguments of {function}"), args.len().to_string()));
    };
    // Conjugation and negation that PyTorch does on reading.
    if let Some(Object::Dict(flags)) = args.get(least)
        && !flags.is_empty()
    {
        return Err(misfit("a tensor as it is stored", "one that is conjugated or negated when read"));
    }
    let storage = Storage::read(storage, own_dtype, storages)?;
    let (shape, strides) = (sizes(shape, "shape")?, sizes(strides, "strides")?);
    let offset = size(offset).ok_or_else(|| misfit("an offset from 0 on", describe(offset)))?;
    let strides = storage.place(&shape, &strides, offset)?;
    let byte_offset = storage.byte_offset + offset * storage.element_byte_len;
    Ok(PickledTensor { key: String::new(), dtype: storage.dtype, shape, strides, byte_offset })
}

fn size(object: &Object) -> Option<u64> {
    match object {
        Object::Int(value) => u64::try_from(*value).ok(),
        Object::Long(value) => u64::try_from(*value).ok(),
        _ => None,
    }
}

fn sizes(object: &Object, what: &str) -> Result<Vec<u64>, Misfit> {
    let Object::Tuple(list) = object else {
        return Err(misfit(format!("a tuple as the {what}"), describe(object)));
    };
    let one = |object| size(object).ok_or_else(|| misfit(format!("{what} from 0 on"), describe(object)));
    list.iter().map(one).collect()
}

/// A storage as one tensor sees it.
struct Storage {
    dtype: Dtype,
    element_byte_len: u64,
    elements: u64,
    byte_offset: u64,
}

impl Storage {
    /// `("storage", class, key, location, elements)`. An untyped storage counts bytes, and the tensor says what they are.
    fn read(object: &Object, own_dtype: Option<&Object>, storages: &BTreeMap<String, Span>) -> Result<Self, Misfit> {
        let not_one = || misfit("a storage", describe(object));
        let Object::PersistentLoad(id) = object else { return Err(not_one()) };
        let Object::Tuple(id) = id.as_ref() else { return Err(not_one()) };
        let [Object::Unicode(tag), kind, Object::Unicode(key), _, claimed] = id.as_slice() else {
            return Err(not_one());
        };
        if tag != "storage" {
            return Err(not_one());
        }
        let claimed = size(claimed).ok_or_else(|| misfit("a storage's size", describe(claimed)))?;
        let typed = class(kind).filter(|(module, _)| *module == "torch").and_then(|(_, name)| globals::storage(name));
        let own = own_dtype.and_then(class).filter(|(module, _)| *module == "torch");
        let own = own.and_then(|(_, name)| globals::dtype(name));
        let (Some(dtype), is_typed) = (own.or(typed), typed.is_some()) else {
            let what = own_dtype.unwrap_or(kind);
            return Err((ViolationKind::WrongDtype, "a dtype that safetensors has".into(), describe(what)));
        };
        let element_byte_len = dtype.bitsize() as u64 / 8;
        let claimed_byte_len = if is_typed { claimed.checked_mul(element_byte_len) } else { Some(claimed) };
        let span = storages.get(key);
        let found_byte_len = span.map(|span| span.byte_len);
        match span {
            Some(span) if claimed_byte_len == found_byte_len => Ok(Self {
                dtype,
                element_byte_len,
                elements: span.byte_len / element_byte_len,
                byte_offset: span.byte_offset,
            }),
            _ => {
                let expected = claimed_byte_len.map_or("a size that can be counted".into(), |n| format!("{n} bytes"));
                let found = found_byte_len.map_or("no such entry".into(), |n| format!("{n} bytes"));
                Err((ViolationKind::TruncatedFile, format!("storage {key} of {expected}"), found))
            }
        }
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
