//! One pass over a config: every field found, checked, completed and written, in the recipe's order.

use serde_json::{Map, Value};

use crate::error::{Violation, ViolationKind};
use crate::json;
use crate::recipe::expr::{Dims, EvalError, Expr};
use crate::recipe::table::{Kind, WriteMode};

use super::path::{lookup, remove, set};
use super::translate::{translated, translates};
use super::value::{as_integer, fits, integer, kind_of, same, wording};
use super::{ConfigSpec, Field, Normalized, Require, Source};

pub(super) fn normalize(spec: &ConfigSpec, source: &Value) -> Normalized {
    let carried = || Value::Object(source.as_object().cloned().unwrap_or_default());
    let start = if spec.write == WriteMode::Listed { Value::Object(Map::new()) } else { carried() };
    let mut reading = Reading {
        source,
        out: Normalized { json: start, dims: Dims::default(), notes: Vec::new(), violations: Vec::new() },
    };
    if !source.is_object() {
        reading.violation("config.json", "a JSON object", kind_of(source).to_owned());
    }
    for path in &spec.drop {
        remove(&mut reading.out.json, path);
    }
    for field in &spec.fields {
        reading.field(field);
    }
    for (name, expr) in &spec.dims {
        let value = reading.eval(expr, name);
        reading.out.dims.ints.insert(name.clone(), value);
    }
    for require in &spec.require {
        reading.require(require);
    }
    if spec.write == WriteMode::AsIs {
        reading.out.json = carried();
    }
    reading.out
}

/// One pass over the fields.
struct Reading<'a> {
    source: &'a Value,
    out: Normalized,
}

impl Reading<'_> {
    fn violation(&mut self, place: &str, expected: impl Into<String>, found: impl Into<String>) {
        let violation = Violation::new(ViolationKind::Config, place, expected, found);
        self.out.violations.push(violation);
    }

    /// An expression's value; one that has none is reported, unless the reason has been already.
    fn eval(&mut self, expr: &Expr, place: &str) -> Option<i128> {
        match expr.eval(&self.out.dims, None) {
            Ok(value) => Some(value),
            Err(EvalError::Unset) => None,
            Err(EvalError::Bad(why)) => {
                self.violation(place, format!("a value for {expr}"), why);
                None
            }
        }
    }

    fn field(&mut self, field: &Field) {
        // Where that cannot be told, the reason has been reported.
        let skipped = field.when.as_ref().is_some_and(|when| self.eval(when, &field.raw.path).unwrap_or(0) == 0);
        let value = if skipped { None } else { self.value_of(field) };
        let checked = value.and_then(|value| self.checked(field, value));
        if let Some(value) = &checked {
            // Other places of a translated field are in the other language: they stay what they are.
            for path in field.raw.also.iter().filter(|_| !translates(&field.raw)) {
                if field.raw.mirror || lookup(&self.out.json, path).is_some() {
                    set(&mut self.out.json, path, value.clone());
                }
            }
            set(&mut self.out.json, &field.raw.path, value.clone());
        }
        // What the same field is under the condition that holds stays.
        if !(skipped && self.is_bound(field)) {
            self.bind(field, checked.as_ref());
        }
    }

    /// Whether the field's dim has a value already.
    fn is_bound(&self, field: &Field) -> bool {
        let dims = &self.out.dims;
        field.raw.dim.as_ref().is_some_and(|name| {
            dims.ints.get(name).is_some_and(Option::is_some) || dims.lists.get(name).is_some_and(Option::is_some)
        })
    }

    /// What the config says the field is: all places must agree, defaults fill in, fixed values are checked or enforced.
    fn value_of(&mut self, field: &Field) -> Option<Value> {
        let path = &field.raw.path;
        let places: Vec<&String> = field.raw.also.iter().chain([path]).collect();
        let mut found: Option<(&String, Value)> = None;
        for place in places {
            let Some(value) = lookup(self.source, place).map(|value| translated(&field.raw, value)) else {
                continue;
            };
            match &found {
                Some((first, seen)) if !same(seen, &value) => {
                    let expected = format!("{}, as {first} says", json::to_line(seen));
                    self.violation(place, expected, json::to_line(&value));
                }
                Some(_) => {}
                None => found = Some((place, value)),
            }
        }
        let found = found.map(|(_, value)| value);
        let fixed = match (&field.value, field.raw.overrides) {
            (None, true) => Some(Value::Null),
            (None, false) => None,
            (Some(source), _) => Some(self.resolve(source, path)?),
        };
        match (fixed, found) {
            (Some(fixed), Some(found)) if !same(&fixed, &found) => {
                if field.raw.overrides {
                    let why = field.raw.why.as_deref().unwrap_or("MLX tools read it so");
                    let note = format!("config {path}: {} became {fixed} ({why})", json::to_line(&found));
                    self.out.notes.push(note);
                    return Some(fixed);
                }
                let why = field.raw.why.as_deref().unwrap_or("the other fields say so");
                self.violation(path, format!("{fixed} ({why})"), json::to_line(&found));
                None
            }
            (Some(fixed), _) => Some(fixed),
            (None, Some(found)) => Some(found),
            (None, None) => self.default_of(field),
        }
    }

    fn default_of(&mut self, field: &Field) -> Option<Value> {
        match (&field.default, field.raw.kind) {
            (Some(source), _) => self.resolve(source, &field.raw.path),
            (None, Kind::SizeOrNull | Kind::CountOrNull | Kind::ObjectOrNull | Kind::Null) => Some(Value::Null),
            // A field that only has to agree where it is given.
            (None, Kind::Any) => None,
            (None, _) => {
                let expected = wording(field.raw.kind);
                self.violation(&field.raw.path, expected, "nothing");
                None
            }
        }
    }

    fn resolve(&mut self, source: &Source, place: &str) -> Option<Value> {
        match source {
            Source::Literal(value) => Some(value.clone()),
            Source::Computed(expr) => {
                let value = self.eval(expr, place)?;
                i64::try_from(value).ok().map(Value::from)
            }
        }
    }

    /// The value in its written form, when its kind and the list of supported values allow it.
    fn checked(&mut self, field: &Field, value: Value) -> Option<Value> {
        let path = &field.raw.path;
        let value = as_integer(field.raw.kind, value);
        let value = match (&field.null_means, value) {
            (Some(expr), Value::Null) => self.resolve(&Source::Computed(expr.clone()), path)?,
            (_, value) => value,
        };
        if field.raw.kind == Kind::Null && !value.is_null() || !self.supported(field, &value) {
            let why = field.raw.why.as_deref().unwrap_or("by this recipe");
            let names: Vec<String> = field.only.iter().map(Value::to_string).collect();
            let expected = if names.is_empty() { "null".to_owned() } else { names.join(" or ") };
            self.out
                .violations
                .push(Violation::new(ViolationKind::Unsupported, path, expected, json::to_line(&value)).by(why));
            return None;
        }
        if !fits(field.raw.kind, &value) {
            self.violation(path, wording(field.raw.kind), json::to_line(&value));
            return None;
        }
        let zero_as_null = field.raw.kind == Kind::CountOrNull && value.as_u64() == Some(0);
        Some(if zero_as_null { Value::Null } else { value })
    }

    fn supported(&self, field: &Field, value: &Value) -> bool {
        let known = |value: &Value| field.only.iter().any(|known| same(known, value));
        match (field.raw.kind, value) {
            _ if field.only.is_empty() => true,
            (Kind::Texts, Value::Array(items)) => items.iter().all(known),
            _ => known(value),
        }
    }

    /// Gives the field's dim its number (a text's is its place in `only`).
    fn bind(&mut self, field: &Field, value: Option<&Value>) {
        let Some(name) = &field.raw.dim else { return };
        let place_of = |value: &Value| field.only.iter().position(|known| known == value).map(|at| at as i128);
        if matches!(field.raw.kind, Kind::Sizes | Kind::Counts | Kind::Texts) {
            let list = value.and_then(Value::as_array);
            let number = |item: &Value| if item.is_string() { place_of(item) } else { integer(item) };
            let list = list.map(|items| items.iter().filter_map(number).collect());
            self.out.dims.lists.insert(name.clone(), list);
            return;
        }
        if let Some(whole) = &field.share_of {
            let whole = self.eval(whole, &field.raw.path);
            // As Python's int() cuts it.
            let share = |value: &Value| Some((value.as_f64()? * whole? as f64) as i128);
            self.out.dims.ints.insert(name.clone(), value.and_then(share));
            return;
        }
        let number = value.and_then(|value| match value {
            Value::Null => Some(0),
            Value::Bool(flag) => Some(i128::from(*flag)),
            Value::String(_) => place_of(value),
            other => integer(other),
        });
        self.out.dims.ints.insert(name.clone(), number);
    }

    fn require(&mut self, require: &Require) {
        let holds = match &require.when {
            Some(when) => self.eval(when, "config.json"),
            None => Some(1),
        };
        if holds.is_none_or(|value| value == 0) {
            return;
        }
        if self.eval(&require.check, "config.json") == Some(0) {
            let names = require.check.names();
            let numbers: Vec<String> = names
                .iter()
                .map(|(name, list)| {
                    if *list {
                        let list = self.out.dims.lists.get(*name).cloned().flatten();
                        format!("{name} = {:?}", list.unwrap_or_default())
                    } else {
                        let value = self.out.dims.ints.get(*name).copied().flatten();
                        format!("{name} = {}", value.unwrap_or_default())
                    }
                })
                .collect();
            let expected = format!("{} ({})", require.check, require.why);
            self.violation("config.json", expected, numbers.join(", "));
        }
    }
}
