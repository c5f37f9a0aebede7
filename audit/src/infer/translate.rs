//! The recipe's config section: fields that the table needs, and what the examples say of fields that moved, came or went.

use std::collections::{BTreeMap, BTreeSet};

use mlxport_convert::recipe::config::lookup;
use serde_json::Value;

use super::conditions::words;
use super::example::Example;
use super::fields::{Field, list, size};
use super::table::{Table, listed, quote};

/// Fields that a conversion changes of itself, or that say nothing of the model.
const OURS: &[&str] = &[
    "quantization",
    "quantization_config",
    "mlxport",
    "dtype",
    "torch_dtype",
    "transformers_version",
    "_name_or_path",
];

/// The section on its way.
#[derive(Debug, Default)]
pub struct Section {
    /// One line for each field.
    pub fields: Vec<String>,
    /// Paths that are taken out.
    pub drop: Vec<String>,
    /// What is written before the section.
    pub notes: Vec<String>,
}

/// What became of one field.
enum Change {
    /// The value stands at another place of the release's config.
    Moved(String),
    /// It is the same in every example and the release's config does not have it.
    Fixed(Value, bool),
    /// The release's config has it, and the MLX side's does not.
    Gone,
    /// Nothing says what it is.
    Unknown,
}

/// The section for a table and its examples.
pub fn section(table: &Table<'_>, examples: &[Example]) -> Section {
    let mut section = Section::default();
    let mut changes = changes(examples);
    for &at in &table.used {
        let field = &table.fields[at];
        let mut line = declared(field, table.defaults.get(&at).copied());
        // A field that moved is declared once, where the port reads it.
        let is_own = |change: &Change| matches!(change, Change::Moved(from) if *from == field.path);
        let moved = changes.iter().find(|(_, change)| is_own(change)).map(|(to, _)| to.clone());
        if let Some(to) = &moved {
            line = line.replacen(
                &format!("path = {}", quote(&field.path)),
                &format!("path = {}, also = [{}]", quote(to), quote(&field.path)),
                1,
            );
            changes.remove(to);
        }
        if matches!(changes.get(&field.path), Some(Change::Gone)) && moved.is_none() {
            section.notes.push(format!(
                "{}: the MLX side's config does not have it; the recipe needs it and writes it",
                field.path
            ));
            changes.remove(&field.path);
        }
        section.fields.push(line);
    }
    for (path, change) in changes {
        let said = match change {
            Change::Moved(from) => Some(format!("path = {}, also = [{}], kind = \"any\"", quote(&path), quote(&from))),
            Change::Fixed(value, overrides) => toml(&value).map(|value| {
                let why = if overrides { ", override = true, why = \"as the example has it\"" } else { "" };
                format!("path = {}, kind = \"any\", value = {value}{why}", quote(&path))
            }),
            Change::Gone => {
                section.drop.push(path);
                continue;
            }
            Change::Unknown => None,
        };
        match said {
            Some(line) => section.fields.push(line),
            None => section.notes.push(format!("{path}: the two configs differ, and the example does not say how")),
        }
    }
    section.notes.extend(rotary(examples));
    section
}

/// A field as the recipe reads it.
fn declared(field: &Field, default: Option<bool>) -> String {
    let values: Vec<&Value> = field.values.iter().flatten().collect();
    let all = |test: &dyn Fn(&Value) -> bool| values.iter().all(|value| test(value));
    let positive = |value: &Value| size(value).is_some_and(|size| size > 0);
    let kind = if all(&Value::is_boolean) {
        "flag"
    } else if words(field).is_some() {
        "texts"
    } else if all(&Value::is_array) {
        let positive = all(&|value| list(value).is_some_and(|list| list.iter().all(|&item| item > 0)));
        if positive { "sizes" } else { "counts" }
    } else if all(&positive) {
        "size"
    } else {
        "count"
    };
    let only = words(field).map(|words| format!(", only = {}", listed(&words))).unwrap_or_default();
    let default = default.map(|default| format!(", default = {default}")).unwrap_or_default();
    format!("path = {}, kind = \"{kind}\", dim = {}{only}{default}", quote(&field.path), quote(&field.dim))
}

/// What differs between the configs of both sides, the same in every example.
fn changes(examples: &[Example]) -> BTreeMap<String, Change> {
    let mut all = BTreeMap::new();
    let mut paths = Vec::new();
    for example in examples {
        leaves(&example.configs.0, &example.configs.1, "", &mut paths);
    }
    paths.sort();
    paths.dedup();
    for path in paths {
        let of = |config: &Value| lookup(config, &path).cloned();
        let pairs: Vec<(Option<Value>, Option<Value>)> =
            examples.iter().map(|example| (of(&example.configs.0), of(&example.configs.1))).collect();
        if pairs.iter().any(|(release, mlx)| release != mlx) {
            all.insert(path.clone(), change(&path, &pairs, examples));
        }
    }
    all
}

/// The paths at which either side has a value; of objects that only the release has, their own.
fn leaves(release: &Value, mlx: &Value, path: &str, paths: &mut Vec<String>) {
    if release == mlx {
        return;
    }
    let members = |value: &Value| value.as_object().map(|all| all.keys().cloned().collect::<BTreeSet<_>>());
    let mut names = members(release).unwrap_or_default();
    names.extend(members(mlx).unwrap_or_default());
    for name in names.into_iter().filter(|name| !OURS.contains(&name.as_str()) && !name.contains('.')) {
        let own = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (release.get(&name).unwrap_or(&Value::Null), mlx.get(&name)) {
            (left, Some(right @ Value::Object(_))) => leaves(left, right, &own, paths),
            _ => paths.push(own),
        }
    }
}

fn change(name: &str, pairs: &[(Option<Value>, Option<Value>)], examples: &[Example]) -> Change {
    if pairs.iter().all(|(release, mlx)| release.is_some() && mlx.is_none()) {
        return Change::Gone;
    }
    let leaf = crate::names::leaf(name);
    let moved = |example: &Example| {
        let mut places = Vec::new();
        find(&example.configs.0, leaf, "", &mut places);
        places.retain(|(path, value)| path != name && Some(value) == lookup(&example.configs.1, name));
        places.into_iter().map(|(path, _)| path).collect::<Vec<_>>()
    };
    let mut places = moved(&examples[0]);
    places.retain(|path| examples[1..].iter().all(|example| moved(example).contains(path)));
    if let Some(path) = places.into_iter().next() {
        return Change::Moved(path);
    }
    match &pairs[0].1 {
        Some(value) if pairs.iter().all(|(_, mlx)| mlx.as_ref() == Some(value)) => {
            Change::Fixed(value.clone(), pairs.iter().any(|(release, _)| release.is_some()))
        }
        _ => Change::Unknown,
    }
}

/// Every place of a field of that name.
fn find(config: &Value, name: &str, path: &str, places: &mut Vec<(String, Value)>) {
    let Value::Object(members) = config else { return };
    for (own, value) in members {
        let path = if path.is_empty() { own.clone() } else { format!("{path}.{own}") };
        if own == name {
            places.push((path.clone(), value.clone()));
        }
        find(value, name, &path, places);
    }
}

/// A JSON value as TOML spells it; `None` for null, which TOML has not.
fn toml(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Option<Vec<_>>>()?.join(", ")),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| Some(format!("{} = {}", quote(name), toml(value)?));
            format!("{{ {} }}", members.iter().map(member).collect::<Option<Vec<_>>>()?.join(", "))
        }
        other => other.to_string(),
    })
}

/// What is wrong with a config that no tensor shows.
fn rotary(examples: &[Example]) -> Option<String> {
    let config = &examples.first()?.configs;
    let hidden = config.0.get("rope_parameters").is_some() && config.1.get("rope_theta").is_none();
    hidden.then(|| {
        "the release has rope_parameters and the MLX side no rope_theta: a port that reads rope_theta takes its own default without a \
         word (docs/recipes.md, Fields that move)"
            .to_owned()
    })
}
