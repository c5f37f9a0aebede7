//! Keys that differ only in their numbers: which numbers count something, and what a row over all of them is.

use std::collections::{BTreeMap, BTreeSet};

use safetensors::Dtype;

use super::example::{Example, Inexpressible, Instance};
use super::layout::Operation;

/// A part of a key: text with its dots, or a number that counts something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Text, numbers that count nothing among it.
    Text(String),
    /// The number of an index, by its place among the row's.
    Index(usize),
}

/// What a row says apart from its numbers: rows of two examples that agree in it are one row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    /// The sources' keys.
    pub sources: Vec<Vec<Part>>,
    /// The targets' keys.
    pub targets: Vec<Vec<Part>>,
    /// The operation without its numbers.
    pub structure: String,
}

/// One row of one example: all instances that share shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Of each index of the row: what stands before its number, and its numbers.
    pub indices: Vec<(String, BTreeSet<u64>)>,
    /// The index that is stacked over.
    pub over: Option<usize>,
    /// Shapes of the sources.
    pub shapes: Vec<Vec<u64>>,
    /// Their dtype.
    pub dtype: Dtype,
    /// The operation with its numbers.
    pub operation: Operation,
    /// All targets.
    pub targets: Vec<String>,
    /// Why the numbers are written out, where they are.
    pub spelled_out: Option<&'static str>,
}

/// Which numbers in keys count something: of each text before a number, the numbers that follow it.
#[derive(Debug, Default)]
pub struct Counters(BTreeMap<String, BTreeSet<u64>>);

impl Counters {
    /// Those of all keys that something is made of.
    pub fn new(examples: &[Example]) -> Self {
        let mut numbers: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        let mut rests: BTreeMap<(String, String), usize> = BTreeMap::new();
        for key in examples.iter().flat_map(|example| &example.instances).flat_map(|instance| &instance.sources) {
            for (prefix, number, rest) in numbers_of(key) {
                if numbers.entry(prefix.clone()).or_default().insert(number) || number > 0 {
                    *rests.entry((prefix, rest)).or_default() += 1;
                }
            }
        }
        let counts = |(prefix, all): &(String, BTreeSet<u64>)| {
            let in_row = all.iter().copied().eq(0..all.len() as u64);
            all.len() > 1 && in_row && rests.iter().any(|((own, _), count)| own == prefix && *count > 1)
        };
        Self(numbers.into_iter().filter(counts).collect())
    }

    /// Whether the number behind this text counts something.
    fn has(&self, prefix: &str) -> bool {
        self.0.contains_key(prefix)
    }
}

/// The numbers that follow each text in one example.
pub fn counted(example: &Example) -> BTreeMap<String, BTreeSet<u64>> {
    let mut all: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for key in example.instances.iter().flat_map(|instance| &instance.sources) {
        for (prefix, number, _) in numbers_of(key) {
            all.entry(prefix).or_default().insert(number);
        }
    }
    all
}

/// A part of a key as a number, where a recipe spells it as the key does.
fn number_of(part: &str) -> Option<u64> {
    let number: u64 = part.parse().ok()?;
    (number.to_string() == part).then_some(number)
}

/// Every number of a key: the text before it (earlier numbers as `*`), itself, the text behind it (later numbers as `*`).
fn numbers_of(key: &str) -> Vec<(String, u64, String)> {
    let parts: Vec<&str> = key.split('.').collect();
    let stars: Vec<&str> = parts.iter().map(|part| if number_of(part).is_some() { "*" } else { part }).collect();
    let number =
        |(at, part): (usize, &&str)| Some((stars[..at].join("."), number_of(part)?, stars[at + 1..].join(".")));
    parts.iter().enumerate().filter_map(number).collect()
}

/// A key whose numbers are given by a row's indices (`Some`) or stand for themselves.
fn parts(key: &str, index_of: &[Option<usize>]) -> Vec<Part> {
    let mut all: Vec<Part> = Vec::new();
    let mut at = 0;
    for (place, word) in key.split('.').enumerate() {
        let dot = if place == 0 { "" } else { "." };
        let mut index = None;
        if number_of(word).is_some() {
            index = index_of[at];
            at += 1;
        }
        let text = if index.is_some() { dot.to_owned() } else { format!("{dot}{word}") };
        match all.last_mut() {
            Some(Part::Text(last)) => last.push_str(&text),
            _ if text.is_empty() => {}
            _ => all.push(Part::Text(text)),
        }
        all.extend(index.map(Part::Index));
    }
    all
}

/// The rows of one example, those of one form in the order of their numbers.
pub fn groups(
    example: &Example,
    counters: &Counters,
    missing: &mut Vec<Inexpressible>,
) -> BTreeMap<RowKey, Vec<Group>> {
    let mut alike: BTreeMap<String, Vec<&Instance>> = BTreeMap::new();
    for instance in &example.instances {
        let over = match stacked(instance) {
            Ok(over) => over,
            Err(why) => {
                missing.extend(instance.targets.iter().map(|key| Inexpressible { key: key.clone(), why: why.clone() }));
                continue;
            }
        };
        let stars = |key: &String| crate::names::pattern(key);
        let first = fixed(&instance.sources[0], counters, over);
        let sources: Vec<String> =
            if over.is_some() { Vec::new() } else { instance.sources.iter().map(stars).collect() };
        let targets: Vec<String> = instance.targets.iter().map(stars).collect();
        let (shapes, dtype, operation) = (&instance.shapes, instance.dtype, &instance.operation);
        let stack = over.map(|_| instance.sources.len());
        let alike_in = format!("{first} {sources:?} {targets:?} {shapes:?} {dtype} {operation:?} {stack:?}");
        alike.entry(alike_in).or_default().push(instance);
    }
    let mut all: BTreeMap<RowKey, Vec<Group>> = BTreeMap::new();
    for instances in alike.values() {
        for (key, group) in general(instances, counters) {
            all.entry(key).or_default().push(group);
        }
    }
    for groups in all.values_mut() {
        groups
            .sort_by_key(|group| group.indices.iter().map(|(_, numbers)| numbers.first().copied()).collect::<Vec<_>>());
    }
    all
}

/// The key with those numbers that count nothing.
fn fixed(key: &str, counters: &Counters, over: Option<usize>) -> String {
    let numbers = numbers_of(key);
    let index_of: Vec<Option<usize>> = numbers
        .iter()
        .enumerate()
        .map(|(at, (prefix, ..))| (Some(at) == over || counters.has(prefix)).then_some(0))
        .collect();
    format!("{:?}", parts(key, &index_of))
}

/// The place of the number that a stack runs over; `None` for anything but a stack.
fn stacked(instance: &Instance) -> Result<Option<usize>, String> {
    if instance.operation.name != "stack" {
        return Ok(None);
    }
    let form =
        |key: &String| (crate::names::pattern(key), numbers_of(key).iter().map(|number| number.1).collect::<Vec<_>>());
    let forms: Vec<(String, Vec<u64>)> = instance.sources.iter().map(form).collect();
    let (pattern, first) = &forms[0];
    let odd = || {
        format!(
            "it is a stack of tensors that differ in more than one number: {}, {}, …",
            instance.sources[0], instance.sources[1]
        )
    };
    if forms.iter().any(|(other, numbers)| other != pattern || numbers.len() != first.len()) {
        return Err(odd());
    }
    let varies: Vec<usize> =
        (0..first.len()).filter(|&at| forms.iter().any(|(_, numbers)| numbers[at] != first[at])).collect();
    let [over] = varies[..] else { return Err(odd()) };
    let order: Vec<u64> = forms.iter().map(|(_, numbers)| numbers[over]).collect();
    if !order.iter().copied().eq(0..order.len() as u64) {
        return Err(format!("it is a stack in another order than 0, 1, 2, …: {}", crate::order::list(&order)));
    }
    Ok(Some(over))
}

/// Instances that are alike but for numbers, as one row; or a row for each, where that cannot be.
fn general(instances: &[&Instance], counters: &Counters) -> Vec<(RowKey, Group)> {
    if let Some(found) = one_row(instances, counters) {
        return vec![found];
    }
    let why = if instances.len() == 1 { None } else { Some("the numbers of source and target do not run together") };
    instances.iter().map(|instance| spelled_out(instance, why)).collect()
}

/// Every number as it stands, but for the one that is stacked over.
fn spelled_out(instance: &Instance, why: Option<&'static str>) -> (RowKey, Group) {
    let over = stacked(instance).ok().flatten();
    let index_of = |key: &String| -> Vec<Option<usize>> {
        (0..numbers_of(key).len()).map(|at| (Some(at) == over).then_some(0)).collect()
    };
    let count = if over.is_some() { 1 } else { instance.sources.len() };
    let sources = instance.sources[..count].iter().map(|key| parts(key, &index_of(key))).collect();
    let targets = instance.targets.iter().map(|key| parts(key, &vec![None; numbers_of(key).len()])).collect();
    let indices = over.map(|over| {
        let prefix = numbers_of(&instance.sources[0])[over].0.clone();
        (prefix, (0..instance.sources.len() as u64).collect())
    });
    let group = group(&[instance], indices.into_iter().collect(), over.map(|_| 0), why);
    (RowKey { sources, targets, structure: instance.operation.structure() }, group)
}

fn group(
    instances: &[&Instance],
    indices: Vec<(String, BTreeSet<u64>)>,
    over: Option<usize>,
    spelled_out: Option<&'static str>,
) -> Group {
    let first = instances[0];
    Group {
        indices,
        over,
        shapes: first.shapes.clone(),
        dtype: first.dtype,
        operation: first.operation.clone(),
        targets: instances.iter().flat_map(|instance| instance.targets.clone()).collect(),
        spelled_out,
    }
}

/// One row for all of them: every index of the source runs with a number of each target.
fn one_row(instances: &[&Instance], counters: &Counters) -> Option<(RowKey, Group)> {
    let alike = Alike::new(instances, counters)?;
    let indices = alike.indices()?;
    alike.is_product(&indices).then(|| alike.row(&indices))
}

/// Instances that are alike but for numbers, and how their numbers run together.
struct Alike<'a> {
    instances: &'a [&'a Instance],
    over: Option<usize>,
    /// The first source's numbers: the text before each, and of each instance all.
    places: Vec<String>,
    lead: Vec<Vec<u64>>,
    /// Those of them that count something.
    counting: Vec<usize>,
    /// Of each other source, then of each target: which number of the lead each of its numbers follows.
    tied: Vec<Vec<Option<usize>>>,
    /// How many sources a row names.
    sources: usize,
}

impl<'a> Alike<'a> {
    /// `None` where a number of another key changes and follows none of the first source's.
    fn new(instances: &'a [&'a Instance], counters: &Counters) -> Option<Self> {
        let first = instances[0];
        let over = stacked(first).ok()?;
        let places: Vec<String> = numbers_of(&first.sources[0]).into_iter().map(|number| number.0).collect();
        let counting = (0..places.len()).filter(|&at| Some(at) != over && counters.has(&places[at])).collect();
        let lead = instances.iter().map(|instance| numbers(&instance.sources[0])).collect();
        let sources = if over.is_some() { 1 } else { first.sources.len() };
        let mut alike = Self { instances, over, places, lead, counting, tied: Vec::new(), sources };
        for at in 1..sources {
            alike.tied.push(alike.follows(&|instance| &instance.sources[at])?);
        }
        for at in 0..first.targets.len() {
            alike.tied.push(alike.follows(&|instance| &instance.targets[at])?);
        }
        Some(alike)
    }

    /// Which number of the lead each number of another key follows; a number that never changes may stand for itself.
    fn follows(&self, pick: &dyn Fn(&'a Instance) -> &'a String) -> Option<Vec<Option<usize>>> {
        let all: Vec<Vec<u64>> = self.instances.iter().map(|instance| numbers(pick(instance))).collect();
        let (mut found, mut used) = (Vec::new(), BTreeSet::new());
        for at in 0..all[0].len() {
            let own = column(&all, at);
            let like =
                self.counting.iter().copied().find(|&lead| !used.contains(&lead) && column(&self.lead, lead) == own);
            let constant = own.iter().all(|number| *number == own[0]);
            used.extend(like);
            (like.is_some() || constant).then_some(())?;
            found.push(like);
        }
        Some(found)
    }

    /// The numbers that are indices: an index has to be in every key. One that is not may only be a number that never changes.
    fn indices(&self) -> Option<Vec<usize>> {
        let mut indices = Vec::new();
        for &at in &self.counting {
            if self.tied.iter().all(|keys| keys.contains(&Some(at))) {
                indices.push(at);
            } else if column(&self.lead, at).iter().any(|number| *number != self.lead[0][at]) {
                return None;
            }
        }
        Some(indices)
    }

    /// Whether there is an instance for every combination of the indices' numbers.
    fn is_product(&self, indices: &[usize]) -> bool {
        let size = |&at: &usize| column(&self.lead, at).into_iter().collect::<BTreeSet<_>>().len();
        let product: usize = indices.iter().map(size).product();
        let distinct = self.lead.iter().collect::<BTreeSet<_>>().len();
        product == self.instances.len() && distinct == self.instances.len()
    }

    fn row(&self, indices: &[usize]) -> (RowKey, Group) {
        let first = self.instances[0];
        let mut named = indices.to_vec();
        named.extend(self.over);
        named.sort_unstable();
        let place = |at: Option<usize>| at.and_then(|at| named.iter().position(|&other| other == at));
        let spelled =
            |key: &String, tied: &[Option<usize>]| parts(key, &tied.iter().map(|&at| place(at)).collect::<Vec<_>>());
        let lead: Vec<Option<usize>> = (0..self.places.len()).map(Some).collect();
        let sources = std::iter::once(spelled(&first.sources[0], &lead))
            .chain(first.sources[1..self.sources].iter().zip(&self.tied).map(|(key, tied)| spelled(key, tied)))
            .collect();
        let tied = &self.tied[self.sources - 1..];
        let targets = first.targets.iter().zip(tied).map(|(key, tied)| spelled(key, tied)).collect();
        let set = |&at: &usize| match Some(at) == self.over {
            true => (self.places[at].clone(), (0..first.sources.len() as u64).collect()),
            false => (self.places[at].clone(), column(&self.lead, at).into_iter().collect()),
        };
        let group = group(self.instances, named.iter().map(set).collect(), place(self.over), None);
        (RowKey { sources, targets, structure: first.operation.structure() }, group)
    }
}

/// A key's numbers.
fn numbers(key: &str) -> Vec<u64> {
    numbers_of(key).into_iter().map(|number| number.1).collect()
}

/// One number of each.
fn column(all: &[Vec<u64>], at: usize) -> Vec<u64> {
    all.iter().map(|numbers| numbers[at]).collect()
}
