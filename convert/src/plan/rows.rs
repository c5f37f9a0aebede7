//! Rows against headers: claims every source key once, checks shape and dtype, and lays out the outputs.

use std::collections::BTreeMap;

use crate::checkpoint::{TensorInfo, Unreadable};
use crate::dtype::{DtypeChoice, byte_len, element_count};
use crate::error::{Violation, ViolationKind};
use crate::recipe::expr::{Dims, EvalError, Expr};
use crate::recipe::pattern::Pattern;
use crate::recipe::{Action, Op, Recipe, Row};
use crate::transforms::{Assembly, View};

use super::expand::{combinations, index_sets};
use super::{Dropped, OutputTensor, PlannedSource};

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
            match row.when.as_ref().map(|when| when.eval(self.dims, None)) {
                Some(Ok(0)) => {}
                Some(Err(_)) => self.blind = true,
                _ => self.row(row),
            }
        }
    }

    /// The results, with a violation for every key that no row claimed.
    pub fn finish(mut self) -> (Vec<OutputTensor>, Vec<Dropped>, Vec<Violation>) {
        for key in self.tensors.keys() {
            if self.claimed.contains_key(key) {
                continue;
            }
            let near = self.recipe.rows.iter().find_map(|row| {
                let (pattern, _) = row
                    .sources
                    .iter()
                    .find(|(p, _)| p.captures(key).is_some())?;
                Some((row, pattern))
            });
            if self.blind && near.is_some() {
                continue;
            }
            let violation = Violation::new(
                ViolationKind::ExtraKey,
                key,
                "a row of the recipe to claim it",
                "none",
            );
            self.violations.push(match near {
                Some((row, _)) => violation.by(format!(
                    "it has the form of {}, but the config has no such number there",
                    row.label()
                )),
                None => violation,
            });
        }
        (self.outputs, self.dropped, self.violations)
    }

    fn row(&mut self, row: &'a Row) {
        let Some(action) = row.actions.get(self.layout) else {
            return;
        };
        let stacked = match &action.op {
            Op::Stack { over } => Some(over.as_str()),
            _ => None,
        };
        let names: Vec<&str> = row.sources[0].0.indices().collect();
        if let Some(empty) = names.iter().find(|name| self.is_wrongly_empty(name)) {
            let place = format!("index {empty}");
            let violation = Violation::new(
                ViolationKind::Config,
                place,
                "at least one number",
                "none: the row would match nothing",
            );
            self.violations.push(violation.by(row.label()));
            return;
        }
        let free: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| Some(*name) != stacked)
            .collect();
        let Some(all) = combinations(&free, &self.sets) else {
            self.blind = true;
            return;
        };
        for numbers in all {
            let sources = self.claim(row, &numbers, stacked);
            if let Some(sources) = sources {
                self.output(row, action, &numbers, sources);
            }
        }
    }

    fn is_wrongly_empty(&self, name: &str) -> bool {
        let empty = matches!(self.sets.get(name), Some(Some(numbers)) if numbers.is_empty());
        empty && self.recipe.indices.get(name).is_some_and(|set| !set.may_be_empty)
    }

    /// The source tensors of one output, claimed and checked; `None` when any of them cannot be used.
    fn claim(
        &mut self,
        row: &'a Row,
        numbers: &Numbers<'a>,
        stacked: Option<&'a str>,
    ) -> Option<Vec<PlannedSource>> {
        let mut sources = Vec::new();
        let mut usable = true;
        for (pattern, shape) in &row.sources {
            let shape = self.shape(shape);
            let keys = match stacked {
                None => vec![pattern.key(numbers)],
                Some(over) => self.stacked_keys(pattern, numbers, over)?,
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

    fn stacked_keys(
        &mut self,
        pattern: &Pattern,
        numbers: &Numbers<'a>,
        over: &'a str,
    ) -> Option<Vec<String>> {
        let Some(Some(stack)) = self.sets.get(over) else {
            self.blind = true;
            return None;
        };
        let key = |&number: &u64| {
            let mut numbers = numbers.clone();
            numbers.insert(over, number);
            pattern.key(&numbers)
        };
        Some(stack.iter().map(key).collect())
    }

    /// The shape the config demands; `None` when a config value behind it is wrong.
    fn shape(&mut self, exprs: &[Expr]) -> Option<Vec<u64>> {
        let mut shape = Vec::new();
        for expr in exprs {
            match expr.eval(self.dims, None) {
                Ok(value) if (0..=i128::from(u32::MAX)).contains(&value) => {
                    shape.push(value as u64);
                }
                Err(EvalError::Unset) => return None,
                other => {
                    let found = other.map_or_else(|why| why.to_string(), |value| value.to_string());
                    let violation = Violation::new(
                        ViolationKind::Config,
                        "config.json",
                        format!("a size for {expr}"),
                        found,
                    );
                    if !self.violations.contains(&violation) {
                        self.violations.push(violation);
                    }
                    return None;
                }
            }
        }
        let known = element_count(&shape).is_some_and(|count| count < u64::MAX / 16);
        known.then_some(shape)
    }

    fn source(&mut self, row: &Row, key: String, shape: Option<&[u64]>) -> Option<PlannedSource> {
        let rule = row.label();
        if let Some(first) = self.claimed.insert(key.clone(), row.number) {
            let violation = Violation::new(
                ViolationKind::Recipe,
                &key,
                "each key claimed by one row",
                format!("rows {first} and {} both claim it", row.number),
            );
            self.violations.push(violation);
            return None;
        }
        let Some(info) = self.tensors.get(&key) else {
            if !self.unreadable.covers(&key) {
                let expected = match shape {
                    Some(shape) => format!("a tensor of shape {shape:?}"),
                    None => "a tensor".into(),
                };
                let violation =
                    Violation::new(ViolationKind::MissingKey, &key, expected, "nothing");
                self.violations.push(violation.by(rule));
            }
            return None;
        };
        let mut usable = true;
        if let Some(shape) = shape
            && shape != info.shape
        {
            let violation = Violation::new(
                ViolationKind::WrongShape,
                &key,
                format!("{shape:?}"),
                format!("{:?}", info.shape),
            );
            self.violations.push(violation.by(rule.clone()));
            usable = false;
        }
        if !row.dtypes.contains(&info.dtype) {
            let names: Vec<String> = row.dtypes.iter().map(ToString::to_string).collect();
            let violation = Violation::new(
                ViolationKind::WrongDtype,
                &key,
                names.join(" or "),
                info.dtype.to_string(),
            );
            self.violations.push(violation.by(rule));
            usable = false;
        }
        (usable && shape.is_some()).then(|| PlannedSource {
            key,
            dtype: info.dtype,
            shape: info.shape.clone(),
        })
    }

    /// Adds what the action makes of the sources.
    fn output(
        &mut self,
        row: &Row,
        action: &Action,
        numbers: &Numbers<'_>,
        sources: Vec<PlannedSource>,
    ) {
        if let Op::Drop { reason } = &action.op {
            let dropped = sources.into_iter().map(|source| Dropped {
                key: source.key,
                row: row.number,
                reason: reason.clone(),
            });
            self.dropped.extend(dropped);
            return;
        }
        let first = match sources.first() {
            Some(first) => first.clone(),
            None => return,
        };
        let dtype = self.dtype.apply(first.dtype);
        if let Some(other) = sources
            .iter()
            .find(|source| self.dtype.apply(source.dtype) != dtype)
        {
            let violation = Violation::new(
                ViolationKind::WrongDtype,
                &other.key,
                format!("{} like {}, which it is joined with", first.dtype, first.key),
                other.dtype.to_string(),
            );
            self.violations.push(violation.by(row.label()));
            return;
        }
        match self.results(&action.op, &sources) {
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
                    });
                }
            }
            Err((expected, found)) => {
                let violation =
                    Violation::new(ViolationKind::WrongShape, first.key, expected, found);
                self.violations.push(violation.by(row.label()));
            }
        }
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

    /// Shape and assembly of each target, or what the operation expected and found.
    fn results(
        &self,
        op: &Op,
        sources: &[PlannedSource],
    ) -> Result<Vec<(Vec<u64>, Assembly)>, (String, String)> {
        let first = &sources[0];
        let (key, dtype, shape) = (first.key.as_str(), first.dtype, &first.shape);
        let wholes = || {
            sources
                .iter()
                .map(|s| View::whole(&s.key, s.dtype, &s.shape))
                .collect::<Vec<_>>()
        };
        let one = |shape: Vec<u64>, view: View| Ok(vec![(shape, Assembly::of(view))]);
        match op {
            Op::Copy | Op::Drop { .. } => one(shape.clone(), View::whole(key, dtype, shape)),
            Op::ConvOihwToOhwi => one(
                vec![shape[0], shape[2], shape[3], shape[1]],
                View::conv_ohwi(key, dtype, shape),
            ),
            Op::Transpose => one(
                vec![shape[1], shape[0]],
                View::whole(key, dtype, shape).permuted(&[1, 0]),
            ),
            Op::PermuteUnfold {
                kernel_height,
                kernel_width,
            } => {
                let area = self.kernel_area(kernel_height, kernel_width);
                let area = area.filter(|&area| area > 0 && shape[1].is_multiple_of(area));
                let area = area.ok_or_else(|| {
                    let expected =
                        format!("columns in multiples of {kernel_height} x {kernel_width}");
                    (expected, shape[1].to_string())
                })?;
                let view = View::unfold_columns(key, dtype, shape[0], shape[1] / area, area);
                one(shape.clone(), view)
            }
            Op::SplitQkv => {
                if !shape[0].is_multiple_of(3) {
                    return Err(("rows in multiples of 3".into(), shape[0].to_string()));
                }
                let mut part = shape.clone();
                part[0] /= 3;
                Ok((0..3)
                    .map(|at| View::part(key, dtype, shape, at, 3))
                    .map(|view| (part.clone(), Assembly::of(view)))
                    .collect())
            }
            Op::Stack { .. } => {
                let mut stacked = vec![sources.len() as u64];
                stacked.extend(shape);
                Ok(vec![(stacked, Assembly::sequence(wholes()))])
            }
            Op::Concat { axis } => {
                let joined = concat_shape(sources, *axis)?;
                Ok(vec![(joined, Assembly::concat(wholes(), shape, *axis))])
            }
        }
    }

    fn kernel_area(&self, height: &Expr, width: &Expr) -> Option<u64> {
        let side = |expr: &Expr| u64::try_from(expr.eval(self.dims, None).ok()?).ok();
        side(height)?.checked_mul(side(width)?)
    }
}

/// The shape of sources joined along `axis`; they must agree in every other.
fn concat_shape(sources: &[PlannedSource], axis: usize) -> Result<Vec<u64>, (String, String)> {
    let mut joined = sources[0].shape.clone();
    for source in &sources[1..] {
        let agree = source.shape.len() == joined.len()
            && (0..joined.len()).all(|at| at == axis || source.shape[at] == joined[at]);
        if !agree {
            let expected = format!("{joined:?} but for axis {axis}");
            return Err((expected, format!("{:?}", source.shape)));
        }
        joined[axis] += source.shape[axis];
    }
    Ok(joined)
}
