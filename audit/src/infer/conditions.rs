//! Which numbers of an index a row is over, and in which configs a row is there at all, as conditions over config fields.

use std::collections::BTreeSet;

use serde_json::Value;

use super::fields::{Field, list, size};

/// A condition in a recipe's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// As a recipe spells it.
    pub text: String,
    /// The fields it uses.
    pub fields: BTreeSet<usize>,
    /// Others that hold in the same cases and are about as likely.
    pub others: Vec<String>,
    /// No field gives it: it holds for these examples.
    pub constant: bool,
    /// A flag that is missing in an example: what it is taken to be there.
    pub default: Option<(usize, bool)>,
}

/// A way to choose numbers, with what it costs.
struct Choice<'a> {
    text: String,
    fields: Vec<usize>,
    cost: i32,
    /// The list whose items it looks at: one for each number there is.
    list: Option<&'a Field>,
    holds: Box<dyn Fn(usize, u64) -> bool + 'a>,
}

impl Choice<'_> {
    /// Whether its list has an item for each of so many numbers.
    fn reaches(&self, example: usize, count: u64) -> bool {
        let items = |field: &Field| field.values.get(example)?.as_ref()?.as_array().map(Vec::len);
        self.list.is_none_or(|field| items(field) == Some(count as usize))
    }
}

/// The numbers of an index in one example: those that a row has, of how many.
pub type Subset = (BTreeSet<u64>, u64);

/// What a condition costs that no field gives.
const CONSTANT: i32 = 14;

/// The likeliest condition on `i` that chooses these numbers in each example.
pub fn choose(fields: &[Field], wanted: &[Option<Subset>]) -> Condition {
    let mut found: Vec<Choice<'_>> = Vec::new();
    for (at, field) in fields.iter().enumerate() {
        listed(at, field, &mut found);
        counted(at, field, fields, &mut found);
    }
    constants(&mut found);
    let fits = |choice: &Choice<'_>| {
        wanted.iter().enumerate().all(|(example, subset)| {
            subset.as_ref().is_none_or(|(numbers, count)| {
                let agrees = |i| (choice.holds)(example, i) == numbers.contains(&i);
                choice.reaches(example, *count) && (0..*count).all(agrees)
            })
        })
    };
    found.retain(fits);
    found.sort_by(|a, b| (a.cost, a.text.len(), &a.text).cmp(&(b.cost, b.text.len(), &b.text)));
    let Some(first) = found.first() else { return spelled_out(wanted) };
    let near = found[1..].iter().filter(|other| other.cost <= first.cost + 4 && first.cost < CONSTANT);
    Condition {
        text: first.text.clone(),
        fields: first.fields.iter().copied().collect(),
        others: near.take(3).map(|other| other.text.clone()).collect(),
        constant: first.cost >= CONSTANT,
        default: None,
    }
}

/// The words of a list, in the order that `only` has them.
pub fn words(field: &Field) -> Option<Vec<String>> {
    let mut words: Vec<String> = Vec::new();
    for value in field.values.iter().flatten() {
        for item in value.as_array()? {
            let word = item.as_str()?.to_owned();
            if !words.contains(&word) {
                words.push(word);
            }
        }
    }
    (!words.is_empty()).then_some(words)
}

/// By a list with an item for each number, or a list of numbers.
fn listed<'a>(at: usize, field: &'a Field, found: &mut Vec<Choice<'a>>) {
    if let Some(words) = words(field) {
        for (place, word) in words.into_iter().enumerate() {
            for (sign, cost) in [("==", 3), ("!=", 4)] {
                let word = word.clone();
                let item = move |example: usize, i: u64| {
                    field.values.get(example)?.as_ref()?.get(i as usize)?.as_str().map(|found| found == word)
                };
                let text = format!("{}[i] {sign} {place}", field.dim);
                let holds = Box::new(move |example, i| item(example, i) == Some(sign == "=="));
                found.push(Choice { text, fields: vec![at], cost, list: Some(field), holds });
            }
        }
        return;
    }
    let lists: Vec<Option<Vec<u64>>> = field.values.iter().map(|value| list(value.as_ref()?)).collect();
    let values: BTreeSet<u64> = lists.iter().flatten().flatten().copied().collect();
    for value in values.into_iter().take(16) {
        let own = lists.clone();
        let holds =
            move |example: usize, i: u64| own[example].as_ref().and_then(|list| list.get(i as usize)) == Some(&value);
        let text = format!("{}[i] == {value}", field.dim);
        found.push(Choice { text, fields: vec![at], cost: 5, list: Some(field), holds: Box::new(holds) });
    }
    if !lists.iter().any(Option::is_some) {
        return;
    }
    for negated in [false, true] {
        let own = lists.clone();
        let holds =
            move |example: usize, i: u64| own[example].as_ref().is_some_and(|list| list.contains(&i)) != negated;
        let text = if negated { format!("!(i in {})", field.dim) } else { format!("i in {}", field.dim) };
        found.push(Choice { text, fields: vec![at], cost: 5, list: None, holds: Box::new(holds) });
    }
}

/// By a number: the first so many, all from it on, every so many.
fn counted<'a>(at: usize, field: &'a Field, fields: &'a [Field], found: &mut Vec<Choice<'a>>) {
    let value = |field: &'a Field, example: usize| field.values.get(example)?.as_ref().and_then(size);
    if !(0..field.values.len()).any(|example| value(field, example).is_some()) {
        return;
    }
    let leaf = field.path.rsplit('.').next().unwrap_or_default();
    let says = |words: &[&str]| words.iter().any(|word| leaf.contains(word));
    let (first, every) = (says(&["first", "dense"]), says(&["step", "interval", "period", "freq", "pattern", "every"]));
    let mut push = |text: String, fields: Vec<usize>, cost, holds: Box<dyn Fn(u64, u64) -> bool + 'a>| {
        let holds = Box::new(move |example, i| value(field, example).is_some_and(|n| holds(n, i)));
        found.push(Choice { text, fields, cost, list: None, holds });
    };
    let name = &field.dim;
    let cost = if first { 4 } else { 9 };
    push(format!("i < {name}"), vec![at], cost, Box::new(|n, i| i < n));
    push(format!("i >= {name}"), vec![at], cost, Box::new(|n, i| i >= n));
    let cost = if every { 6 } else { 11 };
    push(format!("(i + 1) % {name} == 0"), vec![at], cost, Box::new(|n, i| n > 1 && (i + 1) % n == 0));
    push(format!("(i + 1) % {name} != 0"), vec![at], cost, Box::new(|n, i| n > 1 && (i + 1) % n != 0));
    push(format!("i % {name} == 0"), vec![at], cost, Box::new(|n, i| n > 1 && i % n == 0));
    push(format!("i % {name} != 0"), vec![at], cost, Box::new(|n, i| n > 1 && i % n != 0));
    if !every {
        return;
    }
    for (other, offset) in fields.iter().enumerate().filter(|(_, other)| other.path.contains("offset")) {
        for negated in [false, true] {
            let holds = move |example: usize, i: u64| {
                let both = value(field, example).zip(value(offset, example));
                both.is_some_and(|(n, from)| n > 1 && (i % n == from) != negated)
            };
            let text = format!("i % {name} {} {}", if negated { "!=" } else { "==" }, offset.dim);
            let alike = if leaf.split('_').next() == offset.path.rsplit('.').next().and_then(|l| l.split('_').next()) {
                5
            } else {
                7
            };
            found.push(Choice { text, fields: vec![at, other], cost: alike, list: None, holds: Box::new(holds) });
        }
    }
}

/// By numbers alone.
fn constants(found: &mut Vec<Choice<'_>>) {
    let mut push = |text: String, holds: Box<dyn Fn(u64) -> bool>| {
        found.push(Choice {
            text,
            fields: Vec::new(),
            cost: CONSTANT,
            list: None,
            holds: Box::new(move |_, i| holds(i)),
        });
    };
    for n in 1..=64_u64 {
        push(format!("i < {n}"), Box::new(move |i| i < n));
        push(format!("i >= {n}"), Box::new(move |i| i >= n));
    }
    for n in 2..=8_u64 {
        for rest in 0..n {
            push(format!("i % {n} == {rest}"), Box::new(move |i| i % n == rest));
            push(format!("i % {n} != {rest}"), Box::new(move |i| i % n != rest));
        }
    }
}

/// Each number by itself; only where the examples agree.
fn spelled_out(wanted: &[Option<Subset>]) -> Condition {
    let first = wanted.iter().flatten().next().map(|subset| subset.0.clone()).unwrap_or_default();
    let text = first.iter().map(|number| format!("i == {number}")).collect::<Vec<_>>().join(" || ");
    let text = if text.is_empty() { "0".to_owned() } else { text };
    Condition { text, fields: BTreeSet::new(), others: Vec::new(), constant: true, default: None }
}

/// The likeliest condition that holds in exactly these examples; `None` where no field is one.
pub fn when(fields: &[Field], present: &[bool]) -> Option<Condition> {
    let mut found: Vec<(i32, Condition)> = Vec::new();
    for (at, field) in fields.iter().enumerate() {
        let says = |words: &[&str]| words.iter().any(|word| field.path.contains(word));
        let likely = if says(&["tie", "bias", "use_", "qk_norm", "num_experts", "shared"]) { 0 } else { 3 };
        let flags: Vec<Option<bool>> =
            field.values.iter().map(|value| value.as_ref().and_then(Value::as_bool)).collect();
        let counts: Vec<Option<u64>> = field.values.iter().map(|value| value.as_ref().and_then(size)).collect();
        let mut push = |text: String, cost, default| {
            let condition = Condition { text, fields: [at].into(), others: Vec::new(), constant: false, default };
            found.push((cost, condition));
        };
        for negated in [false, true] {
            let text = format!("{}{}", if negated { "!" } else { "" }, field.dim);
            let agrees =
                flags.iter().zip(present).all(|(flag, &there)| flag.is_none_or(|flag| (flag != negated) == there));
            let known = flags.iter().flatten().count();
            // A flag that one config leaves out is the other value there, as its class's default.
            let missing =
                flags.iter().zip(present).find(|(flag, _)| flag.is_none()).map(|(_, &there)| (at, there != negated));
            let distinguished = known == present.len()
                || known > 0 && flags.iter().flatten().all(|&flag| missing.is_none_or(|(_, other)| flag != other));
            if agrees && distinguished && known > 0 {
                push(text, likely + if missing.is_some() { 6 } else { 0 }, missing);
            }
            let counted = counts
                .iter()
                .zip(present)
                .all(|(count, &there)| count.is_some_and(|count| ((count > 0) != negated) == there));
            if counted {
                push(format!("{} {} 0", field.dim, if negated { "==" } else { ">" }), likely + 4, None);
            }
        }
    }
    found.sort_by(|a, b| (a.0, &a.1.text).cmp(&(b.0, &b.1.text)));
    let others = found.iter().skip(1).take(3).map(|(_, other)| other.text.clone()).collect();
    found.into_iter().next().map(|(_, condition)| Condition { others, ..condition })
}
