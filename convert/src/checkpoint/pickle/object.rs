//! What a pickle is made of, once read: objects that name each other by number.
//!
//! References are numbers into one [`Heap`], as they are references in Python: a dict that two places share is one dict, one that contains
//! itself is no danger, and dropping the heap never recurses. A class is a label; what a class makes is an opaque [`Made`].

/// The number of an object in its heap.
pub type Id = u32;

/// One object.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An integer beyond 64 bits.
    Large,
    /// A number.
    Float(f64),
    /// Text; a byte string of Python 2 that is UTF-8 counts as text, as `torch.load` has it.
    Text(Box<str>),
    /// Bytes, of which the number is kept.
    Bytes(usize),
    /// A tuple.
    Tuple(Vec<Id>),
    /// A list.
    List(Vec<Id>),
    /// A set.
    Set(Vec<Id>),
    /// A dict, `OrderedDict` or `defaultdict`.
    Dict(Vec<(Id, Id)>),
    /// The name of a class or function.
    Class(Box<Class>),
    /// What a class or function would have made.
    Made(Box<Made>),
    /// What the file keeps outside the pickle: a storage.
    Persistent(Id),
}

/// The name of a class or function. It is never looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// Its module.
    pub module: String,
    /// Its name in the module.
    pub name: String,
}

/// An opaque stand-in for what a class or function would have made of arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// The class or function; mostly a [`Value::Class`].
    pub class: Id,
    /// Its arguments.
    pub args: Vec<Id>,
    /// What `BUILD` gave it: its attributes, mostly a dict.
    pub state: Option<Id>,
    /// What was appended to it.
    pub list: Vec<Id>,
    /// What was entered in it.
    pub dict: Vec<(Id, Id)>,
}

/// All objects of a pickle.
#[derive(Debug, Default)]
pub struct Heap {
    values: Vec<Value>,
}

impl Heap {
    /// Adds an object. The caller bounds how many; beyond the numbers there are, it gives back the last one.
    pub fn add(&mut self, value: Value) -> Id {
        let id = Id::try_from(self.values.len()).unwrap_or(Id::MAX);
        self.values.push(value);
        id
    }

    /// The object of a number. Every number comes from [`Heap::add`]; any other is `None`.
    pub fn get(&self, id: Id) -> &Value {
        self.values.get(id as usize).unwrap_or(&Value::None)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, id: Id) -> Option<&mut Value> {
        self.values.get_mut(id as usize)
    }

    /// Every object.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The text, where it is text.
    pub fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, where it is one.
    pub fn int(&self, id: Id) -> Option<i64> {
        match self.get(id) {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// Module and name, where it is a class or function.
    pub fn class(&self, id: Id) -> Option<(&str, &str)> {
        match self.get(id) {
            Value::Class(class) => Some((&class.module, &class.name)),
            _ => None,
        }
    }

    /// What was made, and the class's module and name where that is known.
    pub fn made(&self, id: Id) -> Option<(&Made, Option<(&str, &str)>)> {
        match self.get(id) {
            Value::Made(made) => Some((made, self.class(made.class))),
            _ => None,
        }
    }

    /// The entries, where it is a dict, or an object of a class that is one.
    pub fn entries(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.get(id) {
            Value::Dict(entries) => Some(entries),
            Value::Made(made) if !made.dict.is_empty() => Some(&made.dict),
            _ => None,
        }
    }

    /// The last entry of a dict under this key (Python's dict has that one).
    pub fn entry(&self, dict: Id, key: &str) -> Option<Id> {
        let entries = self.entries(dict)?;
        entries.iter().rev().find(|(own, _)| self.text(*own) == Some(key)).map(|(_, value)| *value)
    }

    /// The attributes that `BUILD` gave an object, as a dict.
    pub fn attributes(&self, id: Id) -> Option<Id> {
        let (made, _) = self.made(id)?;
        let state = made.state?;
        match self.get(state) {
            // (attributes, slots)
            Value::Tuple(parts) => parts.first().copied().filter(|&first| self.entries(first).is_some()),
            _ => self.entries(state).map(|_| state),
        }
    }

    /// The elements of a list, tuple or set, in whatever way the protocol writes it.
    pub fn elements(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Tuple(list) | Value::List(list) | Value::Set(list) => Some(list),
            Value::Made(made) => match (self.class(made.class), made.args.as_slice()) {
                (Some(("__builtin__" | "builtins", "set" | "frozenset")), [inner]) => match self.get(*inner) {
                    Value::List(list) | Value::Tuple(list) => Some(list),
                    _ => None,
                },
                _ if !made.list.is_empty() => Some(&made.list),
                _ => None,
            },
            _ => None,
        }
    }

    /// What an object is, for messages.
    pub fn describe(&self, id: Id) -> String {
        match self.get(id) {
            Value::None => "None".into(),
            Value::Bool(true) => "True".into(),
            Value::Bool(false) => "False".into(),
            Value::Int(value) => format!("the integer {value}"),
            Value::Large => "an integer beyond 64 bits".into(),
            Value::Float(value) => format!("the number {value}"),
            Value::Text(text) => format!("the text {:?}", text.chars().take(40).collect::<String>()),
            Value::Bytes(byte_len) => format!("{byte_len} bytes"),
            Value::Tuple(list) => format!("a tuple of {}", list.len()),
            Value::List(list) => format!("a list of {}", list.len()),
            Value::Set(list) => format!("a set of {}", list.len()),
            Value::Dict(entries) => format!("a dict of {}", entries.len()),
            Value::Class(class) => format!("the name {}.{}", class.module, class.name),
            Value::Made(made) => match self.class(made.class) {
                Some(("torch._utils", "_rebuild_qtensor")) => {
                    "a quantized tensor (dequantize() it in PyTorch and save it again)".into()
                }
                Some(("torch._utils", "_rebuild_meta_tensor_no_storage")) => {
                    "a tensor without data (of the device meta: save the model after its weights are loaded)".into()
                }
                Some((module, "_reconstruct" | "_frombuffer")) if module.starts_with("numpy") => {
                    "a NumPy array (torch.from_numpy() makes a tensor of it; save that again)".into()
                }
                Some(("torch._utils", "_rebuild_sparse_tensor")) => {
                    "a sparse tensor (to_dense() it in PyTorch and save it again)".into()
                }
                Some((module, name)) => format!("what {module}.{name} makes"),
                None => "an object".into(),
            },
            Value::Persistent(_) => "a bare storage".into(),
        }
    }
}
