//! Rows against headers: claims every source key once, checks shape and dtype, and lays out the outputs.

mod counter;
pub(super) mod left_out;
mod zeros;

use std::collections::BTreeMap;

use safetensors::Dtype;

use crate::checkpoint::{TensorInfo, Unreadable};
use crate::dtype::{DtypeChoice, byte_len, element_count, is_wide_or_narrow};
use crate::error::{Violation, ViolationKind};
use crate::recipe::expr::{Dims, EvalError, Expr};
use crate::recipe::{Action, Op, Recipe, Row};
use crate::transforms::Assembly;

use self::counter::{COUNTER, is_counter};
use super::expand::{Combinations, MAX_KEYS_PER_ROW, combinations, index_sets};
use super::operate::results;
use super::outputs::{Dropped, Making, OutputTensor, PlannedSource};

/// After this many a plan stops looking: the config has nothing to do with the weights.
const MAX_VIOLATIONS: usize = 20_000;

type Numbers<'a> = BTreeMap<&'a str, u64>;

pub(super) struct Planner<'a> {
    recipe: &'a Recipe,
    layout: &'a str,
    dtype: DtypeChoice,
    dims: &'a Dims,
    tensors: &'a BTreeMap<String, TensorInfo>,
    unreadable: &'a Unreadable,
    sets: BTreeMap<&'a str, Option<Vec<u64>>>,
    claimed: BTreeMap<String, usize>,
    made: BTreeMap<String, usize>,
    outputs: Vec<OutputTensor>,
    dropped: Vec<Dropped>,
    violations: Vec<Violation>,
    /// A row could not be expanded, so an unclaimed key may be its.
    blind: bool,
}

impl<'a> Planner<'a> {
    pub fn new(
        recipe: &'a Recipe,
        layout: &'a str,
        dtype: DtypeChoice,
        dims: &'a Dims,
        tensors: &'a BTreeMap<String, TensorInfo>,
        unreadable: &'a Unreadable,
    ) -> Self {
        let mut violations = Vec::new();
        Self {
            recipe,
            layout,
            dtype,
            dims,
            tensors,
            unreadable,
            sets: index_sets(recipe, dims, &mut violations),
            claimed: BTreeMap::new(),
            made: BTreeMap::new(),
            outputs: Vec::new(),
            dropped: Vec::new(),
            violations,
            blind: false,
        }
    }

    pub fn all_rows(&mut self) {
        for row in &self.recipe.rows {
            let holds = match &row.when {
                Some(when) => self.value(when, "whether a row holds"),
                None => Some(1),
            };
            match holds {
                Some(0) => {}
                Some(_) => self.row(row),
                None => self.blind = true,
            }
            if self.violations.len() > MAX_VIOLATIONS {
                let found = format!("{} so far; the rest is not listed", self.violations.len());
                self.violations.push(Violation::new(
                    ViolationKind::Config,
                    "config.json",
                    "a config that has to do with the weights",
                    found,
                ));
                self.blind = true;
                return;
            }
        }
    }

    /// The results, with a violation for every key that no row claimed. While rows could not be expanded, keys of their form are not
    /// held against anyone; something has been reported then, or is now.
    pub fn finish(mut self) -> (Vec<OutputTensor>, Vec<Dropped>, Vec<Violation>) {
        for key in self.tensors.keys().filter(|key| !self.claimed.contains_key(*key)) {
            let fits = |row: &&Row| row.sources.iter().any(|(pattern, _)| pattern.captures(key).is_some());
            let near = self.recipe.rows.iter().find(fits);
            if self.blind && near.is_some() {
                continue;
            }
            if near.is_none() && is_counter(key, &self.tensors[key]) {
                let reason = COUNTER.to_owned();
                self.dropped.push(Dropped { key: key.clone(), row: 0, reason, same_as: None });
                continue;
            }
            let violation = Violation::new(ViolationKind::ExtraKey, key, "a row of the recipe to claim it", "none");
            self.violations.push(match near {
                Some(row) => {
                    violation.by(format!("it has the form of {}, but the config has no such number there", row.label()))
                }
                None => violation,
            });
        }
        (self.outputs, self.dropped, self.violations)
    }

    /// Whether a row could not be expanded. It must not pass for a row that matches nothing.
    pub fn is_blind(&self) -> bool {
        self.blind
    }

    /// An expression's value; one that has none is reported, unless the config value behind it has been.
    fn value(&mut self, expr: &Expr, what: &str) -> Option<i128> {
        match expr.eval(self.dims, None) {
            Ok(value) => Some(value),
            Err(EvalError::Unset) => None,
            Err(EvalError::Bad(why)) => {
                self.config_violation(format!("a value for {expr} ({what})"), why);
                None
            }
        }
    }

    fn config_violation(&mut self, expected: String, found: String) {
        self.violations.push(Violation::new(ViolationKind::Config, "config.json", expected, found));
    }

    fn row(&mut self, row: &'a Row) {
        let Some(action) = row.actions.get(self.layout) else {
            return;
        };
        if let (true, Op::Drop { reason, .. }) = (row.unseen, &action.op) {
            return self.drop_unseen(row, reason);
        }
        let names: Vec<&str> = row.sources[0].0.indices().collect();
        if let Some(empty) = names.iter().find(|name| self.is_wrongly_empty(name)) {
            let expected = format!("at least one number for index {empty} ({})", row.label());
            self.config_violation(expected, "none: the row would match nothing".into());
            return;
        }
        let Ok(stack) = self.stack(&action.op) else {
            self.blind = true;
            return;
        };
        let (stacked, width) = (stack.as_ref().map(|(over, _)| *over), stack.as_ref().map_or(1, |(_, all)| all.len()));
        let free: Vec<&str> = names.into_iter().filter(|name| Some(*name) != stacked).collect();
        match combinations(&free, &self.sets, MAX_KEYS_PER_ROW / width.max(1)) {
            // Sizes of what is not there need make no sense (windows where no block has one).
            Combinations::All(all) if all.is_empty() => {}
            Combinations::All(all) => {
                let shapes: Vec<_> = row.sources.iter().map(|(_, shape)| self.shape(shape)).collect();
                for numbers in all {
                    if self.zeros(row, action, &numbers, &shapes) {
                        continue;
                    }
                    if let Some(sources) = self.claim(row, &shapes, &numbers, stack.as_ref()) {
                        self.output(row, action, &numbers, sources);
                    }
                }
            }
            Combinations::Unknown => self.blind = true,
            Combinations::TooMany => {
                let expected = format!("at most {MAX_KEYS_PER_ROW} keys of one form ({})", row.label());
                self.config_violation(expected, "more".into());
                self.blind = true;
            }
        }
    }

    /// Leaves out whatever has the row's form and lies in its index sets.
    fn drop_unseen(&mut self, row: &Row, reason: &str) {
        let (pattern, _) = &row.sources[0];
        if pattern.indices().any(|name| !matches!(self.sets.get(name), Some(Some(_)))) {
            self.blind = true;
            return;
        }
        let inside = |(name, number): &(&str, u64)| match self.sets.get(name) {
            Some(Some(numbers)) => numbers.binary_search(number).is_ok(),
            _ => false,
        };
        let own = |key: &&String| pattern.captures(key).is_some_and(|numbers| numbers.iter().all(inside));
        let keys: Vec<String> = self.tensors.keys().filter(own).cloned().collect();
        if keys.is_empty() && !row.optional && self.unreadable.is_empty() {
            let violation =
                Violation::new(ViolationKind::MissingKey, pattern.to_string(), "a tensor to leave out", "nothing");
            self.violations.push(violation.by(row.label()));
        }
        for key in keys {
            if self.claims(row, &key) {
                self.dropped.push(Dropped { key, row: row.number, reason: reason.to_owned(), same_as: None });
            }
        }
    }

    /// The index that a row stacks over, with its numbers; an error when a config value behind it is wrong.
    fn stack(&self, op: &'a Op) -> Result<Option<(&'a str, Vec<u64>)>, ()> {
        let Op::Stack { over } = op else {
            return Ok(None);
        };
        match self.sets.get(over.as_str()) {
            Some(Some(numbers)) => Ok(Some((over, numbers.clone()))),
            _ => Err(()),
        }
    }

    fn is_wrongly_empty(&self, name: &str) -> bool {
        let empty = matches!(self.sets.get(name), Some(Some(numbers)) if numbers.is_empty());
        empty && self.recipe.indices.get(name).is_some_and(|set| !set.may_be_empty)
    }

    /// The source tensors of one output, claimed and checked; `None` when any of them cannot be used. A stack has one per number.
    fn claim(
        &mut self,
        row: &'a Row,
        shapes: &[Option<Vec<u64>>],
        numbers: &Numbers<'a>,
        stack: Option<&(&'a str, Vec<u64>)>,
    ) -> Option<Vec<PlannedSource>> {
        let mut sources = Vec::new();
        let mut usable = true;
        for ((pattern, _), shape) in row.sources.iter().zip(shapes) {
            let keys = match stack {
                None => vec![pattern.key(numbers)],
                Some((over, stack)) => {
                    let with = |&number: &u64| {
                        let mut numbers = numbers.clone();
                        numbers.insert(*over, number);
                        pattern.key(&numbers)
                    };
                    stack.iter().map(with).collect()
                }
            };
            for key in keys {
                match self.source(row, key, shape.as_deref()) {
                    Some(source) => sources.push(source),
                    None => usable = false,
                }
            }
        }
        usable.then_some(sources)
    }

    /// The shape the config demands; `None` when a config value behind it is wrong.
    fn shape(&mut self, exprs: &[Expr]) -> Option<Vec<u64>> {
        let mut shape = Vec::new();
        for expr in exprs {
            let value = self.value(expr, "a size")?;
            if !(0..=i128::from(u32::MAX)).contains(&value) {
                self.config_violation(format!("a size for {expr}"), value.to_string());
                return None;
            }
            shape.push(value as u64);
        }
        if element_count(&shape).is_none_or(|count| count > u64::MAX / 16) {
            let sizes: Vec<String> = exprs.iter().map(ToString::to_string).collect();
            self.config_violation(
                format!("a shape of {} that can be counted", sizes.join(" x ")),
                format!("{shape:?}"),
            );
            return None;
        }
        Some(shape)
    }

    /// Notes the row as the key's; `false` where another row has it already.
    fn claims(&mut self, row: &Row, key: &str) -> bool {
        let Some(first) = self.claimed.insert(key.to_owned(), row.number) else {
            return true;
        };
        self.violations.push(Violation::new(
            ViolationKind::Recipe,
            key,
            "each key claimed by one row",
            format!("rows {first} and {} both claim it", row.number),
        ));
        false
    }

    fn source(&mut self, row: &Row, key: String, shape: Option<&[u64]>) -> Option<PlannedSource> {
        let rule = row.label();
        if !self.claims(row, &key) {
            return None;
        }
        let Some(info) = self.tensors.get(&key) else {
            if !self.unreadable.covers(&key) && !row.optional {
                let expected = match shape {
                    Some(shape) => format!("a tensor of shape {shape:?}"),
                    None => "a tensor".into(),
                };
                let violation = Violation::new(ViolationKind::MissingKey, &key, expected, "nothing");
                self.violations.push(violation.by(rule));
            }
            return None;
        };
        let mut usable = true;
        if let Some(shape) = shape
            && shape != info.shape
        {
            let violation =
                Violation::new(ViolationKind::WrongShape, &key, format!("{shape:?}"), format!("{:?}", info.shape));
            self.violations.push(violation.by(rule.clone()));
            usable = false;
        }
        if !self.dtype.accepts(&row.dtypes, info.dtype) {
            let names: Vec<String> = row.dtypes.iter().map(ToString::to_string).collect();
            let found = match is_wide_or_narrow(info.dtype) {
                true => format!("{}, which the model cannot use (--dtype bf16, f16 or f32 converts it)", info.dtype),
                false => info.dtype.to_string(),
            };
            let violation = Violation::new(ViolationKind::WrongDtype, &key, names.join(" or "), found);
            self.violations.push(violation.by(rule));
            usable = false;
        }
        (usable && shape.is_some()).then(|| PlannedSource::stored(&key, info))
    }

    /// Adds what the action makes of the sources.
    fn output(&mut self, row: &Row, action: &Action, numbers: &Numbers<'_>, sources: Vec<PlannedSource>) {
        if let Op::Drop { reason, same_as } = &action.op {
            for source in sources {
                let same_as = same_as.as_ref().and_then(|twin| self.twin(row, &source, &twin.key(numbers)));
                self.dropped.push(Dropped { key: source.key, row: row.number, reason: reason.clone(), same_as });
            }
            return;
        }
        let (Some(first), Some(dtype)) = (sources.first().cloned(), self.common_dtype(row, &sources)) else {
            return;
        };
        match results(&action.op, action.targets.len(), &sources, self.dims) {
            Ok(results) => {
                for (target, (shape, assembly)) in action.targets.iter().zip(results) {
                    self.make(OutputTensor {
                        name: target.key(numbers),
                        dtype,
                        shape,
                        sources: sources.clone(),
                        op: action.op.to_string(),
                        row: row.number,
                        assembly,
                        making: Making::Store,
                    });
                }
            }
            Err((expected, found)) => {
                let violation = Violation::new(ViolationKind::WrongShape, first.key, expected, found);
                self.violations.push(violation.by(row.label()));
            }
        }
    }

    /// The dtype that all sources are written in; tensors that are joined must not end up in different ones.
    fn common_dtype(&mut self, row: &Row, sources: &[PlannedSource]) -> Option<Dtype> {
        let first = sources.first()?;
        let choice = if row.keeps_dtype { DtypeChoice::Keep } else { self.dtype };
        let dtype = choice.apply(first.dtype);
        let Some(other) = sources.iter().find(|source| choice.apply(source.dtype) != dtype) else {
            return Some(dtype);
        };
        let expected = format!("{} like {}, which it is joined with", first.dtype, first.key);
        let violation = Violation::new(ViolationKind::WrongDtype, &other.key, expected, other.dtype.to_string());
        self.violations.push(violation.by(row.label()));
        None
    }

    fn make(&mut self, output: OutputTensor) {
        if let Some(first) = self.made.insert(output.name.clone(), output.row) {
            self.violations.push(Violation::new(
                ViolationKind::Recipe,
                output.name,
                "each target made once",
                format!("rows {first} and {} both make it", output.row),
            ));
        } else if byte_len(output.dtype, &output.shape).is_some() {
            self.outputs.push(output);
        } else {
            self.violations.push(Violation::new(
                ViolationKind::WrongShape,
                output.name,
                "a size that can be counted",
                format!("{:?}", output.shape),
            ));
        }
    }
}
