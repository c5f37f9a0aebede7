//! config.json: read in whatever form a release has it, written complete and explicit.
//!
//! A recipe lists the fields that matter. Each is looked up at every place it may stand (PyTorch reads the first of them); all places
//! that have it must agree; a missing one takes the default of the release's configuration class. Fields with a `dim` name become the
//! numbers that shapes and index sets are made of. Fields that no row mentions are carried along as they are.

use serde_json::{Map, Value};

use crate::error::{Violation, ViolationKind};

use super::expr::{Dims, EvalError, Expr};
use super::parse::Checker;
use super::table::{Kind, RawField, RawRecipe};

/// The largest `size` or `count`: far above any model, far below any overflow.
const MAX_INTEGER: u64 = 1 << 26;

/// The config part of a recipe.
#[derive(Debug, Clone)]
pub struct ConfigSpec {
    drop: Vec<String>,
    dtype_fields: Vec<String>,
    fields: Vec<Field>,
    dims: Vec<(String, Expr)>,
    require: Vec<Require>,
}

#[derive(Debug, Clone)]
struct Field {
    raw: RawField,
    /// What a missing field is.
    default: Option<Source>,
    /// What the field always is.
    value: Option<Source>,
    null_means: Option<Expr>,
    when: Option<Expr>,
    only: Vec<Value>,
}

#[derive(Debug, Clone)]
enum Source {
    Literal(Value),
    Computed(Expr),
}

#[derive(Debug, Clone)]
struct Require {
    check: Expr,
    when: Option<Expr>,
    why: String,
}

/// A config as the converted directory will have it, and the numbers it gives to the plan.
#[derive(Debug, Clone)]
pub struct Normalized {
    /// The whole config.json.
    pub json: Value,
    /// The recipe's dims.
    pub dims: Dims,
    /// What was changed that a person may want to know.
    pub notes: Vec<String>,
    /// Everything wrong with the source.
    pub violations: Vec<Violation>,
}

impl ConfigSpec {
    pub(super) fn check(raw: &RawRecipe, checker: &mut Checker) -> Self {
        let mut fields = Vec::new();
        for field in &raw.config.fields {
            fields.push(check_field(field, checker));
            if let Some(name) = &field.dim {
                checker.declare(name, field.kind);
            }
        }
        let mut dims = Vec::new();
        for dim in &raw.dims {
            dims.push((
                dim.name.clone(),
                checker.expr(&dim.is, false, &format!("dim {}", dim.name)),
            ));
            checker.declare(&dim.name, Kind::Count);
        }
        let require = raw
            .require
            .iter()
            .map(|require| Require {
                check: checker.expr(&require.check, false, "require"),
                when: require
                    .when
                    .as_ref()
                    .map(|text| checker.expr(text, false, "require")),
                why: require.why.clone(),
            })
            .collect();
        Self {
            drop: raw.config.drop.clone(),
            dtype_fields: raw.config.dtype_fields.clone(),
            fields,
            dims,
            require,
        }
    }

    /// Reads `source`, which may be a release's config or one that this function wrote.
    pub fn normalize(&self, source: &Value) -> Normalized {
        let mut reading = Reading {
            source,
            out: Normalized {
                json: Value::Object(source.as_object().cloned().unwrap_or_default()),
                dims: Dims::default(),
                notes: Vec::new(),
                violations: Vec::new(),
            },
        };
        if !source.is_object() {
            reading.violation("config.json", "a JSON object", kind_of(source).to_owned());
        }
        for path in &self.drop {
            remove(&mut reading.out.json, path);
        }
        for field in &self.fields {
            reading.field(field);
        }
        for (name, expr) in &self.dims {
            let value = reading.eval(expr, name);
            reading.out.dims.ints.insert(name.clone(), value);
        }
        for require in &self.require {
            reading.require(require);
        }
        reading.out
    }

    /// Writes the dtype that the converted weights have into the fields that state it.
    pub fn set_dtype(&self, json: &mut Value, torch_name: &str) {
        for path in &self.dtype_fields {
            set(json, path, Value::String(torch_name.to_owned()));
        }
    }
}

fn check_field(raw: &RawField, checker: &mut Checker) -> Field {
    let mut source = |value: &Option<toml::Value>| {
        let value = value.as_ref()?;
        let numeric = !matches!(raw.kind, Kind::Text | Kind::Any);
        Some(match value {
            toml::Value::String(text) if numeric => {
                Source::Computed(checker.expr(text, false, &raw.path))
            }
            other => Source::Literal(to_json(other)),
        })
    };
    let (default, value) = (source(&raw.default), source(&raw.value));
    let mut expr = |text: &Option<String>| {
        text.as_ref()
            .map(|text| checker.expr(text, false, &raw.path))
    };
    let (null_means, when) = (expr(&raw.null_means), expr(&raw.when));
    if raw.overrides && value.is_none() && raw.kind != Kind::Null {
        checker.complain(&raw.path, "a value to override with", "none");
    }
    let no_number = matches!(
        raw.kind,
        Kind::Number | Kind::Positive | Kind::Null | Kind::Any
    );
    let uncounted = raw.kind == Kind::Text && raw.only.is_empty();
    if raw.dim.is_some() && (no_number || uncounted) {
        checker.complain(
            &raw.path,
            "no dim for a field that is no integer",
            "a dim name",
        );
    }
    Field {
        raw: raw.clone(),
        default,
        value,
        null_means,
        when,
        only: raw.only.iter().map(to_json).collect(),
    }
}

fn to_json(value: &toml::Value) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
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
        let skipped = field
            .when
            .as_ref()
            .is_some_and(|when| self.eval(when, &field.raw.path) == Some(0));
        let value = if skipped { None } else { self.value_of(field) };
        let checked = value.and_then(|value| self.checked(field, value));
        if let Some(value) = &checked {
            for path in &field.raw.also {
                if field.raw.mirror || lookup(&self.out.json, path).is_some() {
                    set(&mut self.out.json, path, value.clone());
                }
            }
            set(&mut self.out.json, &field.raw.path, value.clone());
        }
        self.bind(field, checked.as_ref());
    }

    /// What the config says the field is: all places must agree, defaults fill in, fixed values are checked or enforced.
    fn value_of(&mut self, field: &Field) -> Option<Value> {
        let path = &field.raw.path;
        let places: Vec<&String> = field.raw.also.iter().chain([path]).collect();
        let mut found: Option<(&String, Value)> = None;
        for place in places {
            let Some(value) = lookup(self.source, place) else {
                continue;
            };
            match &found {
                Some((first, seen)) if !same(seen, value) => {
                    let expected = format!("{seen}, as {first} says");
                    self.violation(place, expected, value.to_string());
                }
                Some(_) => {}
                None => found = Some((place, value.clone())),
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
                    let note = format!("config {path}: {found} became {fixed} ({why})");
                    self.out.notes.push(note);
                    return Some(fixed);
                }
                let why = field.raw.why.as_deref().unwrap_or("the other fields say so");
                self.violation(path, format!("{fixed} ({why})"), found.to_string());
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
            (None, Kind::SizeOrNull | Kind::CountOrNull | Kind::Null) => Some(Value::Null),
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
        let value = match (&field.null_means, value) {
            (Some(expr), Value::Null) => self.resolve(&Source::Computed(expr.clone()), path)?,
            (_, value) => value,
        };
        if field.raw.kind == Kind::Null && !value.is_null() || !self.supported(field, &value) {
            let why = field.raw.why.as_deref().unwrap_or("by this recipe");
            let names: Vec<String> = field.only.iter().map(Value::to_string).collect();
            let expected = if names.is_empty() {
                "null".to_owned()
            } else {
                names.join(" or ")
            };
            self.out.violations.push(
                Violation::new(
                    ViolationKind::Unsupported,
                    path,
                    expected,
                    value.to_string(),
                )
                .by(why),
            );
            return None;
        }
        if !fits(field.raw.kind, &value) {
            self.violation(path, wording(field.raw.kind), value.to_string());
            return None;
        }
        let zero_as_null = field.raw.kind == Kind::CountOrNull && value.as_u64() == Some(0);
        Some(if zero_as_null { Value::Null } else { value })
    }

    fn supported(&self, field: &Field, value: &Value) -> bool {
        field.only.is_empty() || field.only.iter().any(|known| same(known, value))
    }

    /// Gives the field's dim its number (a text's is its place in `only`).
    fn bind(&mut self, field: &Field, value: Option<&Value>) {
        let Some(name) = &field.raw.dim else { return };
        if matches!(field.raw.kind, Kind::Sizes | Kind::Counts) {
            let list = value.and_then(Value::as_array);
            let list = list.map(|items| items.iter().filter_map(integer).collect());
            self.out.dims.lists.insert(name.clone(), list);
            return;
        }
        let number = value.and_then(|value| match value {
            Value::Null => Some(0),
            Value::Bool(flag) => Some(i128::from(*flag)),
            Value::String(_) => {
                let at = field.only.iter().position(|known| known == value);
                at.map(|at| at as i128)
            }
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

fn integer(value: &Value) -> Option<i128> {
    value.as_u64().map(i128::from)
}

/// Equal as the config means it: 10000 and 10000.0 are one number.
fn same(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

fn fits(kind: Kind, value: &Value) -> bool {
    let count = |value: &Value| value.as_u64().is_some_and(|n| n <= MAX_INTEGER);
    let size = |value: &Value| count(value) && value.as_u64() != Some(0);
    let all = |test: &dyn Fn(&Value) -> bool| value.as_array().is_some_and(|l| l.iter().all(test));
    match kind {
        Kind::Size => size(value),
        Kind::Count => count(value),
        Kind::SizeOrNull => value.is_null() || size(value),
        Kind::CountOrNull => value.is_null() || count(value),
        Kind::Number => value.is_number(),
        Kind::Positive => value.as_f64().is_some_and(|n| n > 0.0),
        Kind::Flag => value.is_boolean(),
        Kind::Text => value.is_string(),
        Kind::Sizes => all(&size),
        Kind::Counts => all(&count),
        Kind::Null => value.is_null(),
        Kind::Any => true,
    }
}

fn wording(kind: Kind) -> &'static str {
    match kind {
        Kind::Size => "an integer from 1 to 67108864",
        Kind::Count => "an integer from 0 to 67108864",
        Kind::SizeOrNull => "an integer from 1 to 67108864, or null",
        Kind::CountOrNull => "an integer from 0 to 67108864, or null",
        Kind::Number => "a number",
        Kind::Positive => "a number above 0",
        Kind::Flag => "true or false",
        Kind::Text => "a string",
        Kind::Sizes => "a list of integers from 1",
        Kind::Counts => "a list of integers from 0",
        Kind::Null => "null",
        Kind::Any => "anything",
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The value at a dotted path.
pub fn lookup<'a>(json: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(json, |at, part| at.get(part))
}

/// Puts a value at a dotted path, making objects on the way (whatever stood there instead of an object is replaced).
pub fn set(json: &mut Value, path: &str, value: Value) {
    let mut at = json;
    for part in path.split('.') {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(object) = at else { return };
        at = object.entry(part).or_insert(Value::Null);
    }
    *at = value;
}

fn remove(json: &mut Value, path: &str) {
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    let mut at = json;
    for part in parent.split('.').filter(|part| !part.is_empty()) {
        match at.get_mut(part) {
            Some(next) => at = next,
            None => return,
        }
    }
    if let Value::Object(object) = at {
        object.shift_remove(name);
    }
}
