//! Index sets as lists of numbers, and the ways to give every index of a pattern one of them.

use std::collections::BTreeMap;

use crate::error::{Violation, ViolationKind};
use crate::recipe::expr::{Dims, EvalError};
use crate::recipe::{IndexSet, Recipe};

/// The most keys that one row may demand: far above any model, and a bound on what a hostile config can cost.
pub const MAX_KEYS_PER_ROW: usize = 50_000;

/// Every index set of the recipe as numbers; `None` where the config field behind it is wrong.
pub fn index_sets<'a>(
    recipe: &'a Recipe,
    dims: &Dims,
    violations: &mut Vec<Violation>,
) -> BTreeMap<&'a str, Option<Vec<u64>>> {
    let mut sets = BTreeMap::new();
    for (name, set) in &recipe.indices {
        let numbers = match numbers(set, dims) {
            Ok(numbers) => Some(numbers),
            Err(EvalError::Unset) => None,
            Err(EvalError::Bad(why)) => {
                let expected = format!("a range for index {name} ({})", set.count);
                violations.push(Violation::new(ViolationKind::Config, "config.json", expected, why));
                None
            }
        };
        sets.insert(name.as_str(), numbers);
    }
    sets
}

fn numbers(set: &IndexSet, dims: &Dims) -> Result<Vec<u64>, EvalError> {
    let count = set.count.eval(dims, None)?;
    if count > MAX_KEYS_PER_ROW as i128 {
        return Err(EvalError::Bad(format!("{count}, more than {MAX_KEYS_PER_ROW}")));
    }
    let mut numbers = Vec::new();
    for i in 0..count.max(0) {
        let belongs = match &set.filter {
            Some(filter) => filter.eval(dims, Some(i))? != 0,
            None => true,
        };
        if belongs {
            numbers.push(i as u64);
        }
    }
    Ok(numbers)
}

/// The outcome of [`combinations`].
pub enum Combinations<'a> {
    /// All of them.
    All(Vec<BTreeMap<&'a str, u64>>),
    /// A config field behind an index set is wrong.
    Unknown,
    /// More than the limit.
    TooMany,
}

/// Every combination of numbers for `names`, the last name running fastest.
pub fn combinations<'a>(names: &[&'a str], sets: &BTreeMap<&str, Option<Vec<u64>>>, limit: usize) -> Combinations<'a> {
    let mut all = vec![BTreeMap::new()];
    for name in names {
        let Some(Some(numbers)) = sets.get(name) else {
            return Combinations::Unknown;
        };
        if all.len().saturating_mul(numbers.len()) > limit {
            return Combinations::TooMany;
        }
        let extend = |chosen: &BTreeMap<&'a str, u64>| {
            let chosen = chosen.clone();
            numbers.iter().map(move |&number| {
                let mut longer = chosen.clone();
                longer.insert(*name, number);
                longer
            })
        };
        all = all.iter().flat_map(extend).collect();
    }
    Combinations::All(all)
}
