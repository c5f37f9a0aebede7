//! Fields of a JSON object, read one by one; what is wrong with them is collected, so that a client hears of all of it at once.

use serde_json::{Map, Value};

use crate::error::{NAMED, Problem};

/// The most stop strings.
const MAX_STOPS: usize = 16;

/// An object's fields.
pub(crate) struct Fields<'a> {
    fields: &'a Map<String, Value>,
    path: String,
    strict: bool,
    pub problems: Vec<Problem>,
    /// Fields that are not followed.
    pub ignored: Vec<String>,
}

impl<'a> Fields<'a> {
    /// `path` stands before the fields' names in what is said of them: empty, or `vllm_xargs.` say. `strict`: what would be ignored is a
    /// problem.
    pub fn new(fields: &'a Map<String, Value>, path: &str, strict: bool) -> Self {
        Self { fields, path: path.to_owned(), strict, problems: Vec::new(), ignored: Vec::new() }
    }

    /// The fields of an object in the field `name`.
    pub fn inner(&mut self, name: &str) -> Option<Self> {
        let value = self.get(name)?;
        self.expect(name, "an object", |value| value.is_object().then_some(()))?;
        self.at(name, value)
    }

    /// Takes over what was found in an inner object.
    pub fn take_over(&mut self, mut inner: Self) {
        self.problems.append(&mut inner.problems);
        for name in inner.ignored {
            if self.ignored.len() <= NAMED && !self.ignored.contains(&name) {
                self.ignored.push(name);
            }
        }
    }

    /// A field's value; null is as good as absent.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    pub fn wrong(&mut self, name: &str, message: impl Into<String>) {
        self.wrong_as(name, message, None);
    }

    pub fn wrong_as(&mut self, name: &str, message: impl Into<String>, code: Option<&'static str>) {
        self.problems.push(Problem { param: self.place(name), message: message.into(), code });
    }

    /// Where a field is in the request.
    pub fn place(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// The fields of `value`, an object in a list of this object: the one at `place`, `content[3]` say.
    pub fn at(&self, place: &str, value: &'a Value) -> Option<Self> {
        Some(Self::new(value.as_object()?, &format!("{}{place}.", self.path), self.strict))
    }

    /// A field that is not followed, and why: ignored, or a problem.
    pub fn ignore(&mut self, name: &str, message: impl Into<String>) {
        if self.strict {
            self.wrong(name, message);
        } else if self.ignored.len() <= NAMED {
            // Safe in a header and in a log.
            let name =
                name.chars().take(60).map(|c| if c.is_ascii_graphic() && c != '"' && c != '\\' { c } else { '?' });
            // What is ignored in one message is likely to be in others: it is named once.
            self.ignored.push(self.path.chars().filter(|c| !c.is_ascii_digit()).chain(name).collect());
        }
    }

    /// Ignores every field that is neither in `known` nor null.
    pub fn only(&mut self, known: &[&str]) {
        let fields = self.fields;
        let unknown = fields.iter().filter(|(name, value)| !known.contains(&name.as_str()) && !value.is_null());
        for (name, _) in unknown.take(NAMED) {
            let shown: String = name.chars().take(60).collect();
            self.ignore(&shown, "no such field is known");
        }
    }

    fn expect<T>(&mut self, name: &str, expected: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        let value = self.get(name)?;
        let found = read(value);
        if found.is_none() {
            self.wrong(name, format!("expected {expected}, found {}", shown(value)));
        }
        found
    }

    pub fn boolean(&mut self, name: &str) -> Option<bool> {
        self.expect(name, "true or false", Value::as_bool)
    }

    pub fn string(&mut self, name: &str) -> Option<String> {
        self.expect(name, "a string", |value| value.as_str().map(str::to_owned))
    }

    /// A number of `least..=most`.
    pub fn number(&mut self, name: &str, least: f64, most: f64) -> Option<f32> {
        self.expect(name, &format!("a number from {least} to {most}"), |value| {
            value.as_f64().filter(|number| (least..=most).contains(number)).map(|number| number as f32)
        })
    }

    /// A whole number of `least..=most`; JavaScript's 8.0 is one, too.
    pub fn count(&mut self, name: &str, least: usize, most: usize) -> Option<usize> {
        let expected = match most {
            usize::MAX => format!("a whole number from {least}"),
            _ => format!("a whole number from {least} to {most}"),
        };
        self.expect(name, &expected, |value| {
            let whole = value.as_f64().filter(|number| number.fract() == 0.0 && (0.0..1e15).contains(number));
            let count = value.as_u64().or(whole.map(|number| number as u64))?;
            Some(usize::try_from(count).unwrap_or(usize::MAX)).filter(|count| (least..=most).contains(count))
        })
    }

    /// Any whole number of 64 bits.
    pub fn seed(&mut self, name: &str) -> Option<u64> {
        self.expect(name, "a whole number of 64 bits", |value| {
            value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned))
        })
    }

    /// A list of token ids; some clients can only send it as text, `[1, 2]`.
    pub fn ids(&mut self, name: &str) -> Option<Vec<i32>> {
        let list = |values: &Vec<Value>| {
            let id = |value: &Value| value.as_i64().and_then(|id| i32::try_from(id).ok()).filter(|id| *id >= 0);
            values.iter().map(id).collect::<Option<Vec<_>>>().filter(|ids| ids.len() <= 1024)
        };
        self.expect(name, "a list of at most 1024 token ids", |value| match value {
            Value::String(text) => serde_json::from_str::<Vec<Value>>(text).ok().as_ref().and_then(list),
            other => other.as_array().and_then(list),
        })
    }

    /// One string, or up to `MAX_STOPS` of them, each of at most 256 bytes. Empty ones, which UIs send for none, are ignored.
    pub fn stops(&mut self, name: &str) -> Vec<String> {
        let read = |value: &Value| match value {
            Value::String(text) => Some(vec![text.clone()]),
            other => other.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
        };
        let expected = format!("a string, or up to {MAX_STOPS} of them, of 1 to 256 bytes");
        let fits = |stops: &Vec<String>| stops.len() <= MAX_STOPS && stops.iter().all(|text| text.len() <= 256);
        let mut stops = self.expect(name, &expected, |value| read(value).filter(fits)).unwrap_or_default();
        if stops.iter().any(String::is_empty) {
            self.ignore(name, format!("expected {expected}, found an empty one"));
            stops.retain(|stop| !stop.is_empty());
        }
        stops
    }

    /// A field that is understood, but of whose values only those that change nothing can be followed. Others are refused, where an answer
    /// without them would not be what was asked for (`must`), else ignored.
    pub fn neutral(&mut self, name: &str, must: bool, neutral: &[Value]) {
        let Some(value) = self.get(name) else { return };
        let same = |other: &Value| match (value.as_f64(), other.as_f64()) {
            (Some(a), Some(b)) => a == b,
            _ => value == other,
        };
        if neutral.iter().any(same) {
            return;
        }
        let allowed: Vec<String> = neutral.iter().map(Value::to_string).collect();
        let allowed = allowed.join(" or ");
        let message = format!("not supported: expected {allowed} or no such field, found {}", shown(value));
        if must { self.wrong(name, message) } else { self.ignore(name, message) }
    }
}

/// A value, short enough for an error.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Array(values) => format!("a list of {}", values.len()),
        Value::Object(fields) => format!("an object of {} fields", fields.len()),
        Value::String(text) if text.chars().count() > 40 => {
            let begin: String = text.chars().take(40).collect();
            format!("{begin:?}…")
        }
        other => other.to_string(),
    }
}
