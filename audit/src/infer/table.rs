//! From what the examples do to a recipe's rows: numbers become expressions, indices get names, rows of both examples are one.

use std::collections::{BTreeMap, BTreeSet};

use super::conditions::{self, Subset};
use super::example::{Example, Inexpressible};
use super::fields::{Context, Field};
use super::forms::{Counters, Group, Part, RowKey, counted, groups};
use super::sizes::Sizes;
use crate::names;

/// A number in each example; `None` where the example has no such row.
type Number = Vec<Option<u64>>;

/// A named set of numbers.
#[derive(Debug, Clone)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// The text before its number.
    prefix: String,
    /// Its numbers in each example.
    numbers: Vec<Option<BTreeSet<u64>>>,
    /// How many there are to choose from.
    pub count: String,
    /// Which of them.
    pub filter: Option<String>,
    /// Whether an example has none.
    pub may_be_empty: bool,
}

/// The table on its way.
pub struct Table<'a> {
    examples: &'a [Example],
    pub(super) fields: &'a [Field],
    sizes: Sizes<'a>,
    counted: Vec<BTreeMap<String, BTreeSet<u64>>>,
    /// Index sets, in the order they were asked for.
    pub indices: Vec<Index>,
    /// The rows as text, with what is said of each before it.
    pub rows: Vec<(Vec<String>, String)>,
    /// Fields that expressions use.
    pub used: BTreeSet<usize>,
    /// Flags with the value that a config without them stands for.
    pub defaults: BTreeMap<usize, bool>,
    /// What was chosen, what would do as well, and in how many places.
    pub ambiguous: BTreeMap<(String, Vec<String>), usize>,
    /// Numbers that no field gives, and where.
    pub constants: BTreeMap<String, BTreeSet<String>>,
    /// What cannot be said.
    pub missing: Vec<Inexpressible>,
}

impl<'a> Table<'a> {
    /// All rows of the examples.
    pub fn new(examples: &'a [Example], fields: &'a [Field]) -> Self {
        let mut table = Self {
            examples,
            fields,
            sizes: Sizes::new(fields),
            counted: examples.iter().map(counted).collect(),
            indices: Vec::new(),
            rows: Vec::new(),
            used: BTreeSet::new(),
            defaults: BTreeMap::new(),
            ambiguous: BTreeMap::new(),
            constants: BTreeMap::new(),
            missing: Vec::new(),
        };
        table.fill();
        table
    }

    fn fill(&mut self) {
        let counters = Counters::new(self.examples);
        let mut all: BTreeMap<RowKey, Vec<Vec<Group>>> = BTreeMap::new();
        for (at, example) in self.examples.iter().enumerate() {
            for (key, found) in groups(example, &counters, &mut self.missing) {
                all.entry(key).or_insert_with(|| vec![Vec::new(); self.examples.len()])[at] = found;
            }
        }
        for (key, found) in all {
            let most = found.iter().map(Vec::len).max().unwrap_or(0);
            let uneven = found.iter().any(|groups| !groups.is_empty() && groups.len() != most);
            if uneven {
                let targets = found.iter().flatten().flat_map(|group| group.targets.first());
                let why = "its shapes fall into other groups in the second example than in the first";
                self.missing.extend(targets.map(|key| Inexpressible { key: key.clone(), why: why.to_owned() }));
                continue;
            }
            for at in 0..most {
                let row: Vec<Option<&Group>> = found.iter().map(|groups| groups.get(at)).collect();
                self.row(&key, &row);
            }
        }
    }

    /// One row of the table.
    fn row(&mut self, key: &RowKey, groups: &[Option<&Group>]) {
        let Some(first) = groups.iter().flatten().next().copied() else { return };
        let mut notes = Vec::new();
        let names: Vec<String> = (0..first.indices.len()).map(|at| self.index(at, groups)).collect();
        let spell = |parts: &Vec<Part>| -> String {
            parts
                .iter()
                .map(|part| match part {
                    Part::Text(text) => text.clone(),
                    Part::Index(at) => format!("{{{}}}", names[*at]),
                })
                .collect()
        };
        let sources: Vec<String> = key.sources.iter().map(spell).collect();
        let targets: Vec<String> = key.targets.iter().map(spell).collect();
        let mut text = format!("from = {}", quoted(&sources));
        text += &format!(", shape = {}", self.source_shapes(groups, &sources));
        if !mlxport_convert::dtype::is_float(first.dtype) {
            text += &format!(", dtype = [\"{}\"]", first.dtype);
        }
        text += &self.when(groups, &targets[0], &mut notes);
        text += &self.operation(groups, &sources[0], &targets, first.over.map(|at| names[at].as_str()));
        text += &format!(", to = {}", quoted(&targets));
        if groups.iter().flatten().any(|group| group.spelled_out.is_some()) {
            notes.push(format!(
                "{}: written out for this example's numbers alone",
                first.spelled_out.unwrap_or_default()
            ));
        }
        let by_name = self.examples.iter().zip(groups).any(|(example, group)| {
            group.is_some_and(|group| group.targets.iter().any(|target| example.by_name.contains(target)))
        });
        if by_name {
            notes.push(
                "by name alone: all its values are one number, which says nothing of where they come from".to_owned(),
            );
        }
        self.rows.push((notes, text));
    }

    fn source_shapes(&mut self, groups: &[Option<&Group>], sources: &[String]) -> String {
        let mut shapes = Vec::new();
        for (at, key) in sources.iter().enumerate() {
            let numbers = zipped(groups, |group| group.shapes.get(at).or(group.shapes.first()).cloned());
            shapes.push(self.shape(&numbers, key));
        }
        if shapes.len() == 1 || shapes.iter().all(|shape| *shape == shapes[0]) {
            return shapes.remove(0);
        }
        format!("[{}]", shapes.join(", "))
    }

    /// The operation's own keys, with a comma before each.
    fn operation(&mut self, groups: &[Option<&Group>], source: &str, targets: &[String], over: Option<&str>) -> String {
        let operation = groups.iter().flatten().next().map(|group| group.operation.clone());
        let Some(operation) = operation.filter(|operation| operation.name != "copy") else { return String::new() };
        let mut text = format!(", op = \"{}\"", operation.name);
        if let Some(over) = over {
            text += &format!(", over = \"{over}\"");
        }
        if operation.number != 0 {
            text += &format!(", number = {}", operation.number);
        }
        if operation.view.is_some() {
            let numbers = zipped(groups, |group| group.operation.view.clone());
            text += &format!(", view = {}", self.shape(&numbers, source));
        }
        if let Some(axis) = operation.axis {
            text += &format!(", axis = {axis}");
        }
        if operation.sizes.is_some() {
            let numbers = zipped(groups, |group| group.operation.sizes.clone());
            let sizes: Vec<String> = numbers
                .iter()
                .zip(targets)
                .map(|(number, key)| self.number(number, &Context { key, axis: 0, rank: 2 }))
                .collect();
            let equal = sizes.iter().all(|size| *size == sizes[0]);
            if !equal {
                text += &format!(", sizes = [{}]", sizes.join(", "));
            }
        }
        text += &orders(&operation.orders);
        text + &self.results(groups, &operation.results, targets)
    }

    fn results(&mut self, groups: &[Option<&Group>], first: &[Option<Vec<u64>>], targets: &[String]) -> String {
        if first.iter().all(Option::is_none) {
            return String::new();
        }
        let mut all = Vec::new();
        for (at, key) in targets.iter().enumerate() {
            // One that needs none is written, too, where another needs one.
            let numbers =
                zipped(groups, |group| group.operation.results.get(at)?.clone().or_else(|| part_shape(group, at)));
            all.push(self.shape(&numbers, key));
        }
        match all.len() {
            1 => format!(", result = {}", all[0]),
            _ if all.iter().all(|shape| *shape == all[0]) => format!(", result = {}", all[0]),
            _ => format!(", result = [{}]", all.join(", ")),
        }
    }

    fn shape(&mut self, numbers: &[Number], key: &str) -> String {
        let rank = numbers.len();
        let sizes: Vec<String> = numbers
            .iter()
            .enumerate()
            .map(|(axis, number)| self.number(number, &Context { key, axis, rank }))
            .collect();
        format!("[{}]", sizes.join(", "))
    }

    /// A number as an expression, quoted where it is not just that number.
    fn number(&mut self, number: &Number, context: &Context<'_>) -> String {
        let found = self.sizes.express(number, context);
        self.used.extend(&found.fields);
        if found.constant {
            self.constants.entry(found.text.clone()).or_default().insert(context.key.to_owned());
        }
        if !found.others.is_empty() {
            *self.ambiguous.entry((found.text.clone(), found.others.clone())).or_default() += 1;
        }
        if found.text.bytes().all(|byte| byte.is_ascii_digit()) { found.text } else { quote(&found.text) }
    }

    /// The condition under which the row holds, where an example does not have it.
    fn when(&mut self, groups: &[Option<&Group>], target: &str, notes: &mut Vec<String>) -> String {
        let present: Vec<bool> = groups.iter().map(Option::is_some).collect();
        if present.iter().all(|&there| there) {
            return String::new();
        }
        let Some(condition) = conditions::when(self.fields, &present) else {
            let why = "only one of the examples has it, and no config field says why";
            self.missing.push(Inexpressible { key: target.to_owned(), why: why.to_owned() });
            return String::new();
        };
        self.used.extend(&condition.fields);
        if let Some((field, default)) = condition.default {
            self.defaults.insert(field, default);
            notes.push(format!("one example's config does not say {}: taken as {default}", self.fields[field].path));
        }
        if !condition.others.is_empty() {
            notes.push(format!("when: {} would hold in the same examples", condition.others.join(", or ")));
        }
        format!(", when = \"{}\"", condition.text)
    }

    /// The name of a row's index.
    fn index(&mut self, at: usize, groups: &[Option<&Group>]) -> String {
        let prefix = groups.iter().flatten().next().map(|group| group.indices[at].0.clone()).unwrap_or_default();
        let numbers: Vec<Option<BTreeSet<u64>>> =
            groups.iter().map(|group| group.map(|group| group.indices[at].1.clone())).collect();
        let alike = |known: &&Index| {
            known.prefix == prefix
                && known.numbers.iter().zip(&numbers).all(|(a, b)| a.is_none() || b.is_none() || a == b)
        };
        if let Some(known) = self.indices.iter().find(alike) {
            return known.name.clone();
        }
        let counts: Number = self.counted.iter().map(|all| all.get(&prefix).map(|all| all.len() as u64)).collect();
        let context = Context { key: &prefix, axis: 0, rank: 0 };
        let count = self.number(&counts, &context);
        let subsets: Vec<Option<Subset>> =
            numbers.iter().zip(&counts).map(|(numbers, count)| numbers.clone().zip(*count)).collect();
        let whole = subsets.iter().flatten().all(|(numbers, count)| numbers.len() as u64 == *count);
        let (mut filter, mut word) = (None, None);
        if !whole {
            let condition = conditions::choose(self.fields, &subsets);
            self.used.extend(&condition.fields);
            if condition.constant {
                self.constants.entry(condition.text.clone()).or_default().insert(format!("{prefix}.*"));
            }
            if !condition.others.is_empty() {
                *self.ambiguous.entry((condition.text.clone(), condition.others.clone())).or_default() += 1;
            }
            word = self.word_of(&condition.text);
            filter = Some(condition.text);
        }
        let name = self.free_name(&prefix, word.as_deref());
        self.indices.push(Index { name: name.clone(), prefix, numbers, count, filter, may_be_empty: !whole });
        name
    }

    /// What the layers that a condition chooses are called: as a list of names has it, or by where they are.
    fn word_of(&self, condition: &str) -> Option<String> {
        for (sign, word) in [("i < ", "early"), ("i >= ", "late")] {
            if condition.starts_with(sign) {
                return Some(word.to_owned());
            }
        }
        let (dim, place) = condition.split_once("[i] == ")?;
        let field = self.fields.iter().find(|field| field.dim == dim)?;
        conditions::words(field)?.get(place.parse::<usize>().ok()?).cloned()
    }

    /// A name for an index: what is counted, in the singular.
    fn free_name(&self, prefix: &str, word: Option<&str>) -> String {
        let last = prefix.rsplit('.').find(|part| *part != "*").unwrap_or("n");
        let base = match last {
            "h" => "layer",
            other => other.strip_suffix('s').unwrap_or(other),
        };
        let plain =
            |text: &str| text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect::<String>();
        let base = match word {
            Some(word) => format!("{}_{}", plain(word), plain(base)),
            None => plain(base),
        };
        let free = |name: &String| !self.indices.iter().any(|index| index.name == *name);
        std::iter::once(base.clone()).chain((2..).map(|n| format!("{base}_{n}"))).find(free).unwrap_or(base)
    }

    /// A shape as the row of a kept tensor has it, for a row that leaves its twin out.
    pub fn shape_of(&mut self, key: &str) -> Option<String> {
        use mlxport_convert::checkpoint::TensorSource;
        let shapes =
            self.examples.iter().map(|example| example.release.tensors().get(key).map(|info| info.shape.clone()));
        let shapes: Vec<Option<Vec<u64>>> = shapes.collect();
        let rank = shapes.iter().flatten().next()?.len();
        let numbers: Vec<Number> =
            (0..rank).map(|axis| shapes.iter().map(|shape| shape.as_ref()?.get(axis).copied()).collect()).collect();
        Some(self.shape(&numbers, key))
    }

    /// Whether a prefix's numbers are an index of the table, and its name.
    pub fn whole_index(&self, prefix: &str) -> Option<&Index> {
        self.indices.iter().find(|index| index.prefix == prefix && index.filter.is_none())
    }
}

/// The numbers of one list, axis by axis, in every example.
fn zipped(groups: &[Option<&Group>], pick: impl Fn(&Group) -> Option<Vec<u64>>) -> Vec<Number> {
    let lists: Vec<Option<Vec<u64>>> = groups.iter().map(|group| pick((*group)?)).collect();
    let rank = lists.iter().flatten().map(Vec::len).max().unwrap_or(0);
    (0..rank).map(|axis| lists.iter().map(|list| list.as_ref()?.get(axis).copied()).collect()).collect()
}

/// The shape of a part of a split that is written under no other.
fn part_shape(group: &Group, at: usize) -> Option<Vec<u64>> {
    let operation = &group.operation;
    let mut shape = operation.view.clone().or_else(|| group.shapes.first().cloned())?;
    if let (Some(axis), Some(sizes)) = (operation.axis, &operation.sizes) {
        shape[axis] = *sizes.get(at)?;
    }
    Some(match operation.orders.get(at)? {
        Some(order) => order.iter().map(|&axis| shape[axis]).collect(),
        None => shape,
    })
}

/// Orders of axes: one for all, or one for each target.
fn orders(orders: &[Option<Vec<usize>>]) -> String {
    let Some(rank) = orders.iter().flatten().map(Vec::len).next() else { return String::new() };
    let all: Vec<String> =
        orders.iter().map(|order| format!("{:?}", order.clone().unwrap_or_else(|| (0..rank).collect()))).collect();
    match all.iter().all(|order| *order == all[0]) {
        true => format!(", order = {}", all[0]),
        false => format!(", order = [{}]", all.join(", ")),
    }
}

/// A text as TOML spells it; JSON's escapes are TOML's, too.
pub fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A list of texts.
pub fn listed(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quote(text)).collect::<Vec<_>>().join(", "))
}

/// One key, or a list of them.
fn quoted(keys: &[String]) -> String {
    if let [key] = keys { quote(key) } else { listed(keys) }
}

/// The text before the first number of a key, earlier numbers as `*`, where it has exactly one number.
pub fn only_prefix(key: &str) -> Option<String> {
    let parts: Vec<&str> = key.split('.').collect();
    let at = parts.iter().position(|part| names::is_number(part))?;
    parts[at + 1..].iter().all(|part| !names::is_number(part)).then(|| parts[..at].join("."))
}
