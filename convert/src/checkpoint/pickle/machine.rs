//! The stack machine: a pickle's instructions become objects, and nothing is run.
//!
//! A machine of our own, for three reasons. Objects of any class become opaque stand-ins, where candle's reader and PyTorch's safe one
//! refuse the file. References stay references, as in Python, where candle's reader keeps stale copies. And every object is paid for out
//! of one budget before it is made, so that no stream, however hostile, takes more memory than that.
//!
//! Answers to CPython's `pickle.py` (`_Unpickler`). Objects lie in a [`Heap`]; the stack, the memo and the containers hold their numbers.

use std::collections::{BTreeMap, HashMap};

use super::globals;
use super::object::{Class, Heap, Id, Made, Value};
use super::opcodes::{Arg, Flaw, Instruction, flaw, read};

/// The most places in the memo; Python numbers them from 0.
const MAX_SLOTS: u32 = 1 << 22;
/// What an object counts for, in bytes, beside its text and elements.
const OBJECT_BYTE_LEN: usize = 64;
/// What a reference to an object counts for: in a container, in the memo, on the stack.
const REFERENCE_BYTE_LEN: usize = 8;
/// The most that all objects may count for together.
const MAX_OBJECTS_BYTE_LEN: usize = 128 << 20;
/// The most refused names that are listed.
const MAX_NAMES: usize = 20;

/// A pickle that has been read.
#[derive(Debug)]
pub struct Loaded {
    /// Its objects.
    pub heap: Heap,
    /// The one that the pickle is of.
    pub root: Id,
    /// How many bytes of the stream it took.
    pub byte_len: usize,
}

/// Reads the pickle at the beginning of a stream; what comes after it is not looked at.
///
/// # Errors
/// The first thing that is wrong, or every name that only a file made to do harm has.
pub fn load(stream: &[u8]) -> Result<Loaded, Vec<Flaw>> {
    let mut machine = Machine::new();
    let mut at = 0;
    loop {
        let step = read(stream, at).map_err(|flaw| vec![flaw])?;
        at += step.byte_len;
        if step.code == b'.' {
            let root = machine.stop(step.at).map_err(|flaw| vec![flaw])?;
            return machine.finish(root, at);
        }
        machine.run(&step).map_err(|flaw| vec![flaw])?;
    }
}

struct Machine {
    heap: Heap,
    stack: Vec<Id>,
    /// How high the stack was at each open mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// One object each of `None`, `False` and `True`.
    constants: [Id; 3],
    spent_byte_len: usize,
    harmful: BTreeMap<String, usize>,
}

impl Machine {
    fn new() -> Self {
        let mut heap = Heap::default();
        let constants = [Value::None, Value::Bool(false), Value::Bool(true)].map(|value| heap.add(value));
        Self {
            heap,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            constants,
            spent_byte_len: 0,
            harmful: BTreeMap::new(),
        }
    }

    fn finish(self, root: Id, byte_len: usize) -> Result<Loaded, Vec<Flaw>> {
        if self.harmful.is_empty() {
            return Ok(Loaded { heap: self.heap, root, byte_len });
        }
        let expected = "a checkpoint (nothing of this file was run)";
        let refuse = |(name, at)| flaw(at, expected, format!("{name}, which only a file made to do harm names"));
        Err(self.harmful.into_iter().map(refuse).collect())
    }

    fn run(&mut self, step: &Instruction<'_>) -> Result<(), Flaw> {
        let at = step.at;
        match (step.code, step.arg) {
            (0x80 | 0x95, _) => Ok(()),
            (b'(', _) => {
                self.spend(at, REFERENCE_BYTE_LEN)?;
                self.marks.push(self.stack.len());
                Ok(())
            }
            (b'0', _) => self.drop_top(at),
            (b'1', _) => self.above_mark(at).map(drop),
            (b'2', _) => {
                let top = self.top(at)?;
                self.push(at, top)
            }
            (b'N', _) => self.push(at, self.constants[0]),
            (0x89, _) => self.push(at, self.constants[1]),
            (0x88, _) => self.push(at, self.constants[2]),
            (b'q' | b'r' | b'p' | 0x94, arg) => self.store(at, arg),
            (b'h' | b'j' | b'g', Arg::Slot(slot)) => self.fetch(at, slot),
            (b'i', Arg::Global(module, name)) => {
                let args = self.above_mark(at)?;
                let class = self.class(at, module, name)?;
                self.make(at, class, args)
            }
            (_, Arg::Plain) => self.compose(step.code, at),
            (_, arg) => self.atom(at, arg, step.code),
        }
    }

    /// An object that the instruction itself spells out.
    fn atom(&mut self, at: usize, arg: Arg<'_>, code: u8) -> Result<(), Flaw> {
        let value = match arg {
            Arg::Flag(value) => return self.push(at, self.constants[1 + usize::from(value)]),
            Arg::Int(value) => Value::Int(value),
            Arg::Large => Value::Large,
            Arg::Float(value) => Value::Float(value),
            Arg::Text(text) => Value::Text(text.into()),
            // Python 2's strings, which torch.load takes for UTF-8.
            Arg::Bytes(bytes) if matches!(code, b'S' | b'T' | b'U') => match std::str::from_utf8(bytes) {
                Ok(text) => Value::Text(text.into()),
                Err(_) => Value::Bytes(bytes.len()),
            },
            Arg::Bytes(bytes) => Value::Bytes(bytes.len()),
            Arg::Global(module, name) => {
                let class = self.class(at, module, name)?;
                return self.push(at, class);
            }
            Arg::Slot(_) | Arg::Plain => return Err(flaw(at, "an argument", "none")),
        };
        let byte_len = if let Value::Text(text) = &value { text.len() } else { 0 };
        self.spend(at, byte_len)?;
        self.push_new(at, value)
    }

    /// An object made of those on the stack, or a change to one of them.
    fn compose(&mut self, code: u8, at: usize) -> Result<(), Flaw> {
        match code {
            b')' => self.push_new(at, Value::Tuple(Vec::new())),
            b'}' => self.push_new(at, Value::Dict(Vec::new())),
            b']' => self.push_new(at, Value::List(Vec::new())),
            0x8f => self.push_new(at, Value::Set(Vec::new())),
            0x85..=0x87 => {
                let parts = self.pop_many(at, usize::from(code - 0x84))?;
                self.push_new(at, Value::Tuple(parts))
            }
            b't' | b'l' | 0x91 => {
                let parts = self.above_mark(at)?;
                let kind = if code == b't' {
                    Value::Tuple
                } else if code == b'l' {
                    Value::List
                } else {
                    Value::Set
                };
                self.push_new(at, kind(parts))
            }
            b'd' => {
                let entries = pairs(at, &self.above_mark(at)?)?;
                self.push_new(at, Value::Dict(entries))
            }
            b'Q' => {
                let id = self.pop(at)?;
                self.push_new(at, Value::Persistent(id))
            }
            b'a' | b'e' | 0x90 => {
                let items = if code == b'a' { vec![self.pop(at)?] } else { self.above_mark(at)? };
                self.extend(at, &items)
            }
            b's' | b'u' => {
                let items = if code == b's' { self.pop_many(at, 2)? } else { self.above_mark(at)? };
                let entries = pairs(at, &items)?;
                self.enter(at, &entries)
            }
            b'b' => self.build(at),
            b'R' | 0x81 => {
                let (args, class) = (self.pop(at)?, self.pop(at)?);
                let args = self.arguments(at, args)?;
                self.make(at, class, args)
            }
            0x92 => {
                let (_, args, class) = (self.pop(at)?, self.pop(at)?, self.pop(at)?);
                let args = self.arguments(at, args)?;
                self.make(at, class, args)
            }
            b'o' => {
                let mut args = self.above_mark(at)?;
                if args.is_empty() {
                    return Err(flaw(at, "a named class", "nothing"));
                }
                let class = args.remove(0);
                self.make(at, class, args)
            }
            0x93 => self.stack_global(at),
            other => Err(flaw(at, "an instruction that torch.save writes", format!("opcode {other:#04x}"))),
        }
    }

    fn spend(&mut self, at: usize, byte_len: usize) -> Result<(), Flaw> {
        self.spent_byte_len = self.spent_byte_len.saturating_add(byte_len);
        if self.spent_byte_len > MAX_OBJECTS_BYTE_LEN {
            return Err(flaw(at, format!("objects of at most {MAX_OBJECTS_BYTE_LEN} bytes together"), "more"));
        }
        Ok(())
    }

    fn push(&mut self, at: usize, id: Id) -> Result<(), Flaw> {
        self.spend(at, REFERENCE_BYTE_LEN)?;
        self.stack.push(id);
        Ok(())
    }

    fn push_new(&mut self, at: usize, value: Value) -> Result<(), Flaw> {
        self.spend(at, OBJECT_BYTE_LEN)?;
        let id = self.heap.add(value);
        self.push(at, id)
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self, at: usize) -> Result<Id, Flaw> {
        match self.stack.last() {
            Some(&id) if self.stack.len() > self.floor() => Ok(id),
            _ => Err(flaw(at, "an object on the stack", if self.marks.is_empty() { "nothing" } else { "a mark" })),
        }
    }

    fn pop(&mut self, at: usize) -> Result<Id, Flaw> {
        let top = self.top(at)?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_many(&mut self, at: usize, count: usize) -> Result<Vec<Id>, Flaw> {
        if self.stack.len() - self.floor() < count {
            return Err(flaw(at, format!("{count} objects on the stack"), "fewer"));
        }
        Ok(self.stack.split_off(self.stack.len() - count))
    }

    /// `POP` takes an object, or the mark where there is none above it.
    fn drop_top(&mut self, at: usize) -> Result<(), Flaw> {
        if self.stack.len() == self.floor() && self.marks.pop().is_some() {
            return Ok(());
        }
        self.pop(at).map(drop)
    }

    fn above_mark(&mut self, at: usize) -> Result<Vec<Id>, Flaw> {
        let mark = self.marks.pop().ok_or_else(|| flaw(at, "a mark on the stack", "none"))?;
        let items = self.stack.split_off(mark);
        self.spend(at, items.len() * REFERENCE_BYTE_LEN)?;
        Ok(items)
    }

    fn store(&mut self, at: usize, arg: Arg<'_>) -> Result<(), Flaw> {
        let slot = match arg {
            Arg::Slot(slot) => slot,
            _ => u32::try_from(self.memo.len()).unwrap_or(u32::MAX),
        };
        if slot >= MAX_SLOTS {
            return Err(flaw(at, format!("a memo of at most {MAX_SLOTS} places"), slot.to_string()));
        }
        let top = self.top(at)?;
        self.spend(at, REFERENCE_BYTE_LEN)?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn fetch(&mut self, at: usize, slot: u32) -> Result<(), Flaw> {
        match self.memo.get(&slot) {
            Some(&id) => self.push(at, id),
            None => Err(flaw(at, format!("an object in memo place {slot}"), "nothing")),
        }
    }

    /// A name. Names that no checkpoint has are noted; the stream is read on, so that all of them are told.
    fn class(&mut self, at: usize, module: &str, name: &str) -> Result<Id, Flaw> {
        if globals::is_harmful(module, name) && self.harmful.len() < MAX_NAMES {
            self.harmful.entry(format!("{module}.{name}")).or_insert(at);
        }
        self.spend(at, OBJECT_BYTE_LEN + module.len() + name.len())?;
        Ok(self.heap.add(Value::Class(Box::new(Class { module: module.to_owned(), name: name.to_owned() }))))
    }

    fn stack_global(&mut self, at: usize) -> Result<(), Flaw> {
        let (name, module) = (self.pop(at)?, self.pop(at)?);
        let (Some(module), Some(name)) = (self.heap.text(module), self.heap.text(name)) else {
            return Err(flaw(at, "the name of a module and of a class", "something else"));
        };
        let (module, name) = (module.to_owned(), name.to_owned());
        let class = self.class(at, &module, &name)?;
        self.push(at, class)
    }

    fn arguments(&mut self, at: usize, args: Id) -> Result<Vec<Id>, Flaw> {
        match self.heap.get(args) {
            Value::Tuple(list) => {
                let list = list.clone();
                self.spend(at, list.len() * REFERENCE_BYTE_LEN)?;
                Ok(list)
            }
            _ => Err(flaw(at, "a tuple of arguments", self.heap.describe(args))),
        }
    }

    /// What a class makes of arguments. Only dicts are known; nothing is called.
    fn make(&mut self, at: usize, class: Id, args: Vec<Id>) -> Result<(), Flaw> {
        let entries = match self.heap.class(class) {
            Some(("collections", "OrderedDict")) => self.dict_of(&args),
            Some(("collections", "defaultdict")) if args.len() < 2 => Some(Vec::new()),
            _ => None,
        };
        if let Some(entries) = entries {
            self.spend(at, entries.len() * 2 * REFERENCE_BYTE_LEN)?;
            return self.push_new(at, Value::Dict(entries));
        }
        self.spend(at, OBJECT_BYTE_LEN)?;
        let made = Made { class, args, state: None, list: Vec::new(), dict: Vec::new() };
        self.push_new(at, Value::Made(Box::new(made)))
    }

    /// The entries of an `OrderedDict`: none yet, or a list of pairs, as Python 2 writes it.
    fn dict_of(&self, args: &[Id]) -> Option<Vec<(Id, Id)>> {
        let Some(&list) = args.first() else { return Some(Vec::new()) };
        let pair = |&item: &Id| match self.heap.elements(item)? {
            [key, value] => Some((*key, *value)),
            _ => None,
        };
        match self.heap.get(list) {
            Value::List(items) | Value::Tuple(items) => items.iter().map(pair).collect(),
            Value::Dict(entries) => Some(entries.clone()),
            _ => None,
        }
    }

    fn extend(&mut self, at: usize, items: &[Id]) -> Result<(), Flaw> {
        self.spend(at, items.len() * REFERENCE_BYTE_LEN)?;
        let top = self.top(at)?;
        match self.heap.get_mut(top) {
            Some(Value::List(list) | Value::Set(list)) => list.extend_from_slice(items),
            Some(Value::Made(made)) => made.list.extend_from_slice(items),
            _ => return Err(flaw(at, "a dict, list or object to fill", self.heap.describe(top))),
        }
        Ok(())
    }

    fn enter(&mut self, at: usize, entries: &[(Id, Id)]) -> Result<(), Flaw> {
        self.spend(at, entries.len() * 2 * REFERENCE_BYTE_LEN)?;
        let top = self.top(at)?;
        match self.heap.get_mut(top) {
            Some(Value::Dict(dict)) => dict.extend_from_slice(entries),
            Some(Value::Made(made)) => made.dict.extend_from_slice(entries),
            _ => return Err(flaw(at, "a dict, list or object to fill", self.heap.describe(top))),
        }
        Ok(())
    }

    /// Attributes. Those of a dict (a state dict's `_metadata`) say nothing about its entries.
    fn build(&mut self, at: usize) -> Result<(), Flaw> {
        let state = self.pop(at)?;
        let top = self.top(at)?;
        match self.heap.get_mut(top) {
            Some(Value::Made(made)) => made.state = Some(state),
            Some(Value::Dict(_) | Value::List(_) | Value::Set(_)) => {}
            _ => return Err(flaw(at, "a dict, list or object to fill", self.heap.describe(top))),
        }
        Ok(())
    }

    fn stop(&mut self, at: usize) -> Result<Id, Flaw> {
        let root = self.pop(at)?;
        if self.stack.is_empty() && self.marks.is_empty() { Ok(root) } else { Err(flaw(at, "one object left", "more")) }
    }
}

fn pairs(at: usize, items: &[Id]) -> Result<Vec<(Id, Id)>, Flaw> {
    if !items.len().is_multiple_of(2) {
        return Err(flaw(at, "as many values as keys", format!("{} objects", items.len())));
    }
    Ok(items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}
