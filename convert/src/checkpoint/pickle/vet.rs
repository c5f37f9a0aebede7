//! The check that every pickle passes before candle's reader sees it.
//!
//! The stream is run on a shadow of the stack that knows of each object only what it is, how deep and how large. What could make the
//! real run panic, grow without bound or mean something else than in Python is refused. Four things are written differently for the
//! reader, which knows fewer instructions and keeps copies in its memo where Python keeps references:
//!
//! - a memo entry that is never read is not stored;
//! - the state of `BUILD` is wrapped in a tuple, so that attributes of a dict do not become its entries;
//! - reading back a dict, list or object that has changed since it was stored becomes a stand-in (the reader's copy would be stale);
//! - integers of over 8 bytes, negative ones in short form, and byte strings become stand-ins.
//!
//! A stand-in is a persistent id that is text, which no pickle may have of itself. It is never a tensor.

use std::collections::{BTreeMap, HashMap};

use super::globals;
use super::opcodes::{Arg, Flaw, Instruction, flaw, read};

/// The deepest nesting of objects.
const MAX_DEPTH: u16 = 100;
/// The most places in the memo; Python numbers them from 0.
const MAX_SLOTS: u32 = 1 << 22;
/// What an object counts for, in bytes, beside its text.
const OBJECT_BYTE_LEN: u64 = 64;
/// The most that all objects and copies of objects may count for together.
const MAX_OBJECTS_BYTE_LEN: u64 = 128 << 20;
/// The most refused names that are listed.
const MAX_NAMES: usize = 20;

/// Checks a stream and gives it back as candle's reader shall see it.
///
/// # Errors
/// The first thing that is wrong; every name that is not allowed, if there are any.
pub fn vet(stream: &[u8]) -> Result<Vec<u8>, Vec<Flaw>> {
    let read_slots = first_pass(stream)?;
    let mut shadow = Shadow {
        stack: Vec::new(),
        memo: HashMap::new(),
        histories: Vec::new(),
        read_slots,
        spent_byte_len: 0,
        out: Vec::with_capacity(stream.len()),
    };
    let mut at = 0;
    loop {
        let step = read(stream, at).map_err(|flaw| vec![flaw])?;
        at += step.raw.len();
        shadow.run(&step).map_err(|flaw| vec![flaw])?;
        if step.raw[0] == b'.' {
            return Ok(shadow.out);
        }
    }
}

/// The memo places that are read, and whether all names are allowed.
fn first_pass(stream: &[u8]) -> Result<Vec<bool>, Vec<Flaw>> {
    let (mut slots, mut names, mut at) = (Vec::new(), BTreeMap::new(), 0);
    loop {
        let step = read(stream, at).map_err(|flaw| vec![flaw])?;
        at += step.raw.len();
        match (step.raw[0], step.arg) {
            (b'h' | b'j' | b'q' | b'r', Arg::Slot(slot)) if slot >= MAX_SLOTS => {
                return Err(vec![flaw(step.at, format!("a memo of at most {MAX_SLOTS} places"), format!("{slot}"))]);
            }
            (b'h' | b'j', Arg::Slot(slot)) => {
                let slot = slot as usize;
                slots.resize(slots.len().max(slot + 1), false);
                slots[slot] = true;
            }
            (_, Arg::Global(module, name)) if !globals::is_allowed(module, name) && names.len() < MAX_NAMES => {
                names.entry(format!("{module}.{name}")).or_insert(step.at);
            }
            (b'.', _) => break,
            _ => {}
        }
    }
    if at < stream.len() {
        let found = format!("{} more bytes", stream.len() - at);
        return Err(vec![flaw(at, "nothing after the pickle's end", found)]);
    }
    if names.is_empty() {
        return Ok(slots);
    }
    let refuse = |(name, at)| flaw(at, "only names of a plain checkpoint (nothing is ever called)", name);
    Err(names.into_iter().map(refuse).collect())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mark,
    /// How many arguments may make it: a default's class, or none.
    DictClass(usize),
    Class,
    /// How many elements.
    Tuple(usize),
    Dict,
    List,
    /// What a class and arguments make.
    Made,
    Text,
    Other,
}

/// What is known of one object on the stack.
#[derive(Debug, Clone, Copy)]
struct Item {
    kind: Kind,
    depth: u16,
    /// Of it and everything in it.
    byte_len: u64,
    /// Its [`History`], for objects that can change.
    history: Option<usize>,
    /// Whether it came from the memo.
    is_borrowed: bool,
}

/// What has happened to an object that can change.
#[derive(Debug, Clone, Copy, Default)]
struct History {
    is_stored: bool,
    is_changed: bool,
    is_read: bool,
}

struct Shadow {
    stack: Vec<Item>,
    memo: HashMap<u32, Item>,
    histories: Vec<History>,
    read_slots: Vec<bool>,
    spent_byte_len: u64,
    out: Vec<u8>,
}

impl Shadow {
    fn run(&mut self, step: &Instruction<'_>) -> Result<(), Flaw> {
        let (code, at) = (step.raw[0], step.at);
        match code {
            b'q' | b'r' => return self.store(step),
            b'h' | b'j' => return self.fetch(step),
            b'b' => {
                self.change(at, &[Kind::Dict, Kind::Made], 1)?;
                self.out.push(0x85);
            }
            0x8a => return self.long(step),
            b'B' | b'C' | b'T' | b'U' => return self.stand_in(at, "bytes"),
            0x80 => {}
            b'(' => self.push(at, Kind::Mark, 0, 0)?,
            b'c' => self.push(at, class(step.arg), 0, step.raw.len() as u64)?,
            b'X' => self.push(at, Kind::Text, 0, step.raw.len() as u64)?,
            b')' => self.push(at, Kind::Tuple(0), 0, 0)?,
            b'}' => self.push_changeable(at, Kind::Dict, 0, 0)?,
            b']' => self.push_changeable(at, Kind::List, 0, 0)?,
            0x85..=0x87 => self.tuple(at, usize::from(code - 0x84))?,
            b't' => {
                let count = self.above_mark(at)?;
                self.tuple(at, count)?;
                self.remove_mark();
            }
            b'Q' => self.persistent(at)?,
            b's' => self.change(at, &[Kind::Dict], 2)?,
            b'a' => self.change(at, &[Kind::List], 1)?,
            b'u' => self.change_many(at, Kind::Dict)?,
            b'e' => self.change_many(at, Kind::List)?,
            b'R' | 0x81 => self.make(at, code == b'R')?,
            b'.' => self.stop(at)?,
            _ => self.push(at, Kind::Other, 0, 0)?,
        }
        self.out.extend_from_slice(step.raw);
        Ok(())
    }

    fn push(&mut self, at: usize, kind: Kind, depth: u16, inner_byte_len: u64) -> Result<(), Flaw> {
        // What is inside has been counted when it was pushed, but for text.
        let text = if matches!(kind, Kind::Text | Kind::Class | Kind::DictClass(_)) { inner_byte_len } else { 0 };
        self.spend(at, OBJECT_BYTE_LEN + text)?;
        if depth > MAX_DEPTH {
            return Err(flaw(at, format!("objects nested at most {MAX_DEPTH} deep"), "deeper"));
        }
        let byte_len = OBJECT_BYTE_LEN + inner_byte_len;
        self.stack.push(Item { kind, depth, byte_len, history: None, is_borrowed: false });
        Ok(())
    }

    fn push_changeable(&mut self, at: usize, kind: Kind, depth: u16, inner_byte_len: u64) -> Result<(), Flaw> {
        self.push(at, kind, depth, inner_byte_len)?;
        self.histories.push(History::default());
        if let Some(item) = self.stack.last_mut() {
            item.history = Some(self.histories.len() - 1);
        }
        Ok(())
    }

    fn spend(&mut self, at: usize, byte_len: u64) -> Result<(), Flaw> {
        self.spent_byte_len += byte_len;
        if self.spent_byte_len > MAX_OBJECTS_BYTE_LEN {
            return Err(flaw(at, format!("objects of at most {MAX_OBJECTS_BYTE_LEN} bytes together"), "more"));
        }
        Ok(())
    }

    /// Takes the top object, which must not be a mark.
    fn pop(&mut self, at: usize) -> Result<Item, Flaw> {
        match self.stack.pop() {
            Some(item) if item.kind != Kind::Mark => Ok(item),
            Some(_) => Err(flaw(at, "an object on the stack", "a mark")),
            None => Err(flaw(at, "an object on the stack", "nothing")),
        }
    }

    /// Takes `count` objects: the depth of the deepest, and their size.
    fn pop_many(&mut self, at: usize, count: usize) -> Result<(u16, u64), Flaw> {
        let (mut depth, mut byte_len) = (0, 0);
        for _ in 0..count {
            let item = self.pop(at)?;
            depth = depth.max(item.depth);
            byte_len += item.byte_len;
        }
        Ok((depth, byte_len))
    }

    fn above_mark(&self, at: usize) -> Result<usize, Flaw> {
        let count = self.stack.iter().rev().position(|item| item.kind == Kind::Mark);
        count.ok_or_else(|| flaw(at, "a mark on the stack", "none"))
    }

    /// Takes the mark from under the top object.
    fn remove_mark(&mut self) {
        if self.stack.len() > 1 {
            self.stack.remove(self.stack.len() - 2);
        }
    }

    fn tuple(&mut self, at: usize, count: usize) -> Result<(), Flaw> {
        let (depth, byte_len) = self.pop_many(at, count)?;
        self.push(at, Kind::Tuple(count), depth + 1, byte_len)
    }

    fn persistent(&mut self, at: usize) -> Result<(), Flaw> {
        let id = self.pop(at)?;
        if !matches!(id.kind, Kind::Tuple(_)) {
            return Err(flaw(at, "a tuple that names a storage", "something else"));
        }
        self.push(at, Kind::Other, id.depth + 1, id.byte_len)
    }

    /// `SETITEMS` and `APPENDS`.
    fn change_many(&mut self, at: usize, kind: Kind) -> Result<(), Flaw> {
        let count = self.above_mark(at)?;
        if kind == Kind::Dict && !count.is_multiple_of(2) {
            return Err(flaw(at, "as many values as keys", format!("{count} objects")));
        }
        let inner = self.pop_many(at, count)?;
        self.stack.pop();
        self.grow(at, &[kind], inner)
    }

    /// Moves `count` objects into the one under them.
    fn change(&mut self, at: usize, kinds: &[Kind], count: usize) -> Result<(), Flaw> {
        let inner = self.pop_many(at, count)?;
        self.grow(at, kinds, inner)
    }

    /// Counts objects into the top one, which must be of one of these kinds and still be the only one of itself.
    fn grow(&mut self, at: usize, kinds: &[Kind], (depth, byte_len): (u16, u64)) -> Result<(), Flaw> {
        self.spend(at, OBJECT_BYTE_LEN)?;
        let Some(top) = self.stack.last_mut().filter(|top| kinds.contains(&top.kind)) else {
            return Err(flaw(at, "a dict, list or object to fill", "something else"));
        };
        // One more for the tuple that wraps what BUILD adds.
        top.depth = top.depth.max(depth + 2);
        top.byte_len += byte_len + OBJECT_BYTE_LEN;
        let too_deep = top.depth > MAX_DEPTH;
        let history = top.history.and_then(|history| self.histories.get_mut(history));
        match history {
            Some(history) if !top.is_borrowed && !history.is_read => history.is_changed |= history.is_stored,
            _ => return Err(flaw(at, "an object filled where it is made", "one that contains itself or is shared")),
        }
        if too_deep {
            return Err(flaw(at, format!("objects nested at most {MAX_DEPTH} deep"), "deeper"));
        }
        Ok(())
    }

    /// `REDUCE` and `NEWOBJ`. Only the class is noted; nothing is called.
    fn make(&mut self, at: usize, is_reduce: bool) -> Result<(), Flaw> {
        let (args, class) = (self.pop(at)?, self.pop(at)?);
        let Kind::Tuple(count) = args.kind else {
            return Err(flaw(at, "a tuple of arguments", "something else"));
        };
        match class.kind {
            Kind::DictClass(most) if is_reduce && count <= most => self.push_changeable(at, Kind::Dict, 0, 0),
            Kind::Class => self.push_changeable(at, Kind::Made, args.depth + 1, args.byte_len + class.byte_len),
            Kind::DictClass(_) => Err(flaw(at, "a dict made empty and filled then", "one made from arguments")),
            _ => Err(flaw(at, "a named class", "something else")),
        }
    }

    fn store(&mut self, step: &Instruction<'_>) -> Result<(), Flaw> {
        let Arg::Slot(slot) = step.arg else { return Ok(()) };
        let top = self.pop(step.at)?;
        self.stack.push(top);
        if !self.read_slots.get(slot as usize).is_some_and(|&read| read) {
            return Ok(());
        }
        self.spend(step.at, top.byte_len + OBJECT_BYTE_LEN)?;
        if let Some(history) = top.history.and_then(|history| self.histories.get_mut(history)) {
            history.is_stored = true;
        }
        self.memo.insert(slot, top);
        self.out.extend_from_slice(step.raw);
        Ok(())
    }

    fn fetch(&mut self, step: &Instruction<'_>) -> Result<(), Flaw> {
        let Arg::Slot(slot) = step.arg else { return Ok(()) };
        let Some(&stored) = self.memo.get(&slot) else {
            return Err(flaw(step.at, format!("an object in memo place {slot}"), "nothing"));
        };
        let history = stored.history.and_then(|history| self.histories.get_mut(history));
        if history.as_ref().is_some_and(|history| history.is_changed) {
            return self.stand_in(step.at, "an object that another entry has too");
        }
        if let Some(history) = history {
            history.is_read = true;
        }
        self.spend(step.at, stored.byte_len)?;
        self.stack.push(Item { is_borrowed: true, ..stored });
        self.out.extend_from_slice(step.raw);
        Ok(())
    }

    fn long(&mut self, step: &Instruction<'_>) -> Result<(), Flaw> {
        let Arg::Long(bytes) = step.arg else { return Ok(()) };
        let is_negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
        if bytes.len() > 8 || (bytes.len() < 8 && is_negative) {
            return self.stand_in(step.at, "an integer out of reach");
        }
        self.push(step.at, Kind::Other, 0, 0)?;
        self.out.extend_from_slice(step.raw);
        Ok(())
    }

    /// Pushes a persistent id of text instead of what stands in the stream.
    fn stand_in(&mut self, at: usize, what: &str) -> Result<(), Flaw> {
        self.push(at, Kind::Other, 1, 0)?;
        self.spend(at, OBJECT_BYTE_LEN + what.len() as u64)?;
        self.out.push(b'X');
        self.out.extend_from_slice(&(what.len() as u32).to_le_bytes());
        self.out.extend_from_slice(what.as_bytes());
        self.out.push(b'Q');
        Ok(())
    }

    fn stop(&mut self, at: usize) -> Result<(), Flaw> {
        self.pop(at)?;
        if self.stack.is_empty() { Ok(()) } else { Err(flaw(at, "one object left", "more")) }
    }
}

fn class(arg: Arg<'_>) -> Kind {
    match arg {
        Arg::Global("collections", "OrderedDict") => Kind::DictClass(0),
        Arg::Global("collections", "defaultdict") => Kind::DictClass(1),
        _ => Kind::Class,
    }
}
