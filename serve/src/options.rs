//! Fields of a JSON object, read one by one; what is wrong with them is collected, so that a client hears of all of it at once.

use serde_json::{Map, Value};

use crate::error::{NAMED, Problem};

/// An object's fields.
pub(crate) struct Fields<'a> {
    fields: &'a Map<String, Value>,
    path: String,
    pub problems: Vec<Problem>,
}

impl<'a> Fields<'a> {
    /// `path` stands before the fields' names in what is said of them: empty, or `vllm_xargs.` say.
    pub fn new(fields: &'a Map<String, Value>, path: &str) -> Self {
        Self { fields, path: path.to_owned(), problems: Vec::new() }
    }

    /// A field's value; null is as good as absent.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    pub fn wrong(&mut self, name: &str, message: impl Into<String>) {
        self.problems.push(Problem { param: format!("{}{name}", self.path), message: message.into(), code: None });
    }

    /// Names every field that is neither in `known` nor null.
    pub fn only(&mut self, known: &[&str]) {
        let fields = self.fields;
        let unknown = fields.iter().filter(|(name, value)| !known.contains(&name.as_str()) && !value.is_null());
        for (name, _) in unknown.take(NAMED) {
            let shown: String = name.chars().take(60).collect();
            self.wrong(&shown, "no such field is known");
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

    pub fn object(&mut self, name: &str) -> Option<&'a Map<String, Value>> {
        let value = self.get(name)?;
        self.expect(name, "an object", |value| value.is_object().then_some(()))?;
        value.as_object()
    }

    /// A number of `least..=most`.
    pub fn number(&mut self, name: &str, least: f64, most: f64) -> Option<f32> {
        self.expect(name, &format!("a number from {least} to {most}"), |value| {
            value.as_f64().filter(|number| (least..=most).contains(number)).map(|number| number as f32)
        })
    }

    /// A whole number of `least..=most`.
    pub fn count(&mut self, name: &str, least: usize, most: usize) -> Option<usize> {
        self.expect(name, &format!("a whole number from {least} to {most}"), |value| {
            value.as_u64().and_then(|count| usize::try_from(count).ok()).filter(|count| (least..=most).contains(count))
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

    /// One string, or up to four of them; each of 1 to 256 bytes.
    pub fn stops(&mut self, name: &str) -> Vec<String> {
        let fits = |text: &String| (1..=256).contains(&text.len());
        let read = |value: &Value| match value {
            Value::String(text) => Some(vec![text.clone()]),
            other => other.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
        };
        let expected = "a string, or up to 4 of them, of 1 to 256 bytes";
        self.expect(name, expected, |value| {
            read(value).filter(|stops: &Vec<String>| stops.len() <= 4 && stops.iter().all(fits))
        })
        .unwrap_or_default()
    }

    /// A field that is understood, but of whose values only those that change nothing are taken.
    pub fn neutral(&mut self, name: &str, neutral: &[Value]) {
        let Some(value) = self.get(name) else { return };
        let same = |other: &Value| match (value.as_f64(), other.as_f64()) {
            (Some(a), Some(b)) => a == b,
            _ => value == other,
        };
        if !neutral.iter().any(same) {
            let allowed: Vec<String> = neutral.iter().map(Value::to_string).collect();
            let allowed = allowed.join(" or ");
            self.wrong(name, format!("not supported: expected {allowed} or no such field, found {}", shown(value)));
        }
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
