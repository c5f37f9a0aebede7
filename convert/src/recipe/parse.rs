//! From the raw tables to a checked [`Recipe`]: every expression, pattern and name is resolved, every complaint collected.

use std::collections::{BTreeMap, BTreeSet};

use safetensors::Dtype;

use crate::dtype;
use crate::error::{ConvertError, Violations};

use super::checked::{Action, IndexSet, Op, Recipe, Row};
use super::checker::Checker;
use super::config::ConfigSpec;
use super::expr::Expr;
use super::format;
use super::packing::Packing;
use super::pattern::Pattern;
use super::table::{OpName, RawAction, RawRecipe, RawRow, RawShape, SCHEMA};
use super::value::ExprText;

/// The dtypes a row accepts when it names none.
const WEIGHT_DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::BF16];

impl Recipe {
    /// Parses and checks a recipe; `origin` names it in messages.
    ///
    /// # Errors
    /// [`ConvertError::Violations`] with everything wrong in the file.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ConvertError> {
        let mut checker = Checker::new(origin);
        let raw = format::read(text, origin).map_err(|problem| ConvertError::Violations(Violations(vec![problem])))?;
        checker.check_head(&raw);
        let config = ConfigSpec::check(&raw, &mut checker);
        let mut indices = BTreeMap::new();
        for (name, index) in &raw.indices {
            let place = format!("index {name}");
            let count = checker.expr(&index.count, false, &place);
            let filter = index.filter.as_ref().map(|text| checker.expr(text, true, &place));
            let set = IndexSet { count, filter, may_be_empty: index.may_be_empty };
            indices.insert(name.clone(), set);
        }
        let rows = raw.table.rows.iter().enumerate().map(|(at, row)| checker.row(at + 1, row, &raw)).collect();
        let complain = |place: &str, expected: &str, found: String| checker.complain(place, expected, found);
        let packing = Packing::check(&raw.quantize, complain);
        ConvertError::unless_empty(checker.into_problems())?;
        Ok(Self {
            name: raw.name,
            description: raw.description,
            hash: blake3::hash(text.as_bytes()).to_hex().to_string(),
            layouts: raw.layouts,
            model_types: raw.fits.model_type,
            architectures: raw.fits.architectures,
            config,
            indices,
            rows,
            packing,
        })
    }
}

impl Checker {
    fn check_head(&mut self, raw: &RawRecipe) {
        if raw.schema != SCHEMA {
            self.complain("schema", &SCHEMA.to_string(), raw.schema.to_string());
        }
        let distinct: BTreeSet<_> = raw.layouts.iter().collect();
        if raw.layouts.is_empty() || distinct.len() != raw.layouts.len() {
            let found = format!("{:?}", raw.layouts);
            self.complain("layouts", "at least one, each once", found);
        }
        if raw.description.contains('\n') {
            self.complain("description", "one line", raw.description.clone());
        }
        if raw.table.rows.is_empty() {
            self.complain("rows", "at least one row", "none");
        }
    }

    fn pattern(&mut self, text: &str, place: &str, raw: &RawRecipe) -> Pattern {
        let parsed = Pattern::parse(text);
        let pattern = parsed.unwrap_or_else(|problem| {
            self.complain(place, "a key pattern", problem);
            Pattern::parse("?").expect("plain text is a pattern")
        });
        for name in pattern.indices() {
            if !raw.indices.contains_key(name) {
                self.complain(place, "a declared index", format!("{{{name}}}"));
            }
        }
        pattern
    }

    fn row(&mut self, number: usize, row: &RawRow, raw: &RawRecipe) -> Row {
        let place = format!("row {number}");
        let patterns: Vec<Pattern> = row.from.list().into_iter().map(|text| self.pattern(text, &place, raw)).collect();
        let nothing = Vec::new();
        let shapes: Vec<&Vec<ExprText>> = match &row.shape {
            None => vec![&nothing; patterns.len()],
            Some(RawShape::Same(shape)) => vec![shape; patterns.len()],
            Some(RawShape::Each(shapes)) => shapes.iter().collect(),
        };
        if shapes.len() != patterns.len() || patterns.is_empty() {
            let found = format!("{} shapes for {} keys", shapes.len(), patterns.len());
            self.complain(&place, "a shape for every key", found);
        }
        let shapes: Vec<Vec<Expr>> = shapes.into_iter().map(|shape| self.exprs(shape, &place)).collect();
        let sources: Vec<(Pattern, Vec<Expr>)> = patterns.into_iter().zip(shapes).collect();
        let when = row.when.as_ref().map(|text| self.expr(text, false, &place));
        let dtypes = self.dtypes(row, &place);
        for name in row.layouts.keys() {
            if !raw.layouts.contains(name) {
                self.complain(&place, "a layout of this recipe", name.clone());
            }
        }
        let mut actions = BTreeMap::new();
        for layout in &raw.layouts {
            let action = row.layouts.get(layout).cloned().unwrap_or_else(|| row.action());
            let checked = self.action(&action, &sources, &place, raw);
            actions.extend(checked.map(|action| (layout.clone(), action)));
        }
        if actions.values().any(|action| matches!(action.op, Op::Add { .. }))
            && let Some(other) = dtypes.iter().find(|dtype| !dtype::is_float(**dtype))
        {
            self.complain(&place, "float dtypes for add", other.to_string());
        }
        let unseen = row.shape.is_none();
        self.check_drop(row, &sources, &actions, &place);
        self.check_zeros(row, &actions, &place);
        let (optional, zeros_if_missing) = (row.optional, row.zeros_if_missing.clone());
        let keeps_dtype = row.keep_dtype.as_ref().is_some_and(|why| !why.trim().is_empty());
        if row.keep_dtype.is_some() != keeps_dtype {
            self.complain(&place, "why in keep_dtype", "nothing");
        }
        Row { number, sources, dtypes, unseen, optional, zeros_if_missing, keeps_dtype, when, actions }
    }

    /// Only what is left out may go without a shape, be missing, or be named by the beginning of its key.
    fn check_drop(
        &mut self,
        row: &RawRow,
        sources: &[(Pattern, Vec<Expr>)],
        actions: &BTreeMap<String, Action>,
        place: &str,
    ) {
        let drops = actions.values().all(|action| matches!(action.op, Op::Drop { .. }));
        let open_ended = sources.iter().any(|(pattern, _)| pattern.is_open_ended());
        if row.shape.is_none() && !drops {
            self.complain(place, "a shape (only drop goes without)", "none");
        }
        if row.optional && !drops {
            self.complain(place, "no optional (only what is dropped may be missing; see when)", "it");
        }
        if open_ended && (!drops || row.shape.is_some()) {
            self.complain(place, "'*' only in drop rows without a shape", sources[0].0.to_string());
        }
        let has_twin = |action: &Action| matches!(action.op, Op::Drop { same_as: Some(_), .. });
        if row.shape.is_none() && actions.values().any(has_twin) {
            self.complain(place, "a shape with same_as", "none");
        }
        if row.shape.is_none() && row.dtype.is_some() {
            self.complain(place, "no dtype where no shape is checked", "it");
        }
    }

    /// Zeros stand for one tensor, whose target has a shape that the row tells without it.
    fn check_zeros(&mut self, row: &RawRow, actions: &BTreeMap<String, Action>, place: &str) {
        let told =
            |action: &Action| matches!(action.op, Op::Copy | Op::ConvOihwToOhwi | Op::Transpose | Op::Drop { .. });
        if row.zeros_if_missing.is_some() && !actions.values().all(told) {
            self.complain(
                place,
                "zeros_if_missing only with copy, conv_oihw_to_ohwi, transpose or drop",
                "another operation",
            );
        }
    }

    fn dtypes(&mut self, row: &RawRow, place: &str) -> Vec<Dtype> {
        let Some(names) = &row.dtype else {
            return WEIGHT_DTYPES.to_vec();
        };
        let mut dtypes = Vec::new();
        for name in names {
            match dtype::from_name(name) {
                Some(dtype) => dtypes.push(dtype),
                None => self.complain(place, "dtypes as safetensors names them", name.clone()),
            }
        }
        dtypes
    }

    fn action(
        &mut self,
        raw: &RawAction,
        sources: &[(Pattern, Vec<Expr>)],
        place: &str,
        recipe: &RawRecipe,
    ) -> Option<Action> {
        let targets: Vec<Pattern> = raw
            .to
            .as_ref()
            .map_or(Vec::new(), |to| to.list().into_iter().map(|text| self.pattern(text, place, recipe)).collect());
        let op = self.op(raw, targets.len(), place, recipe)?;
        let wanted = match &op {
            Op::SplitQkv => 3,
            // Without sizes there are as many equal parts as targets.
            Op::Split { sizes, .. } => sizes.as_ref().map_or(targets.len().max(2), Vec::len),
            Op::Drop { .. } => 0,
            // A port may hold a tied tensor twice.
            Op::Copy => targets.len().max(1),
            _ => 1,
        };
        if targets.len() != wanted {
            let found = targets.len().to_string();
            self.complain(place, &format!("{wanted} targets for {op}"), found);
        }
        if (sources.len() > 1) != matches!(op, Op::Concat { .. }) {
            let found = format!("{} for {op}", sources.len());
            self.complain(place, "one source, or several for concat", found);
        }
        self.check_ranks(&op, sources, place);
        self.check_rearranged(&op, sources, place);
        if let Some(open_ended) = targets.iter().find(|target| target.is_open_ended()) {
            self.complain(place, "a target that is a whole key", open_ended.to_string());
        }
        self.check_indices(&op, sources, &targets, place, recipe);
        Some(Action { op, targets })
    }

    /// An operation that moves axes must get the axes it moves.
    fn check_ranks(&mut self, op: &Op, sources: &[(Pattern, Vec<Expr>)], place: &str) {
        let rank = match op {
            Op::ConvOihwToOhwi => Some(4),
            Op::Transpose | Op::PermuteUnfold { .. } => Some(2),
            _ => None,
        };
        for (_, shape) in sources {
            let axis_outside = matches!(op, Op::Concat { axis } if *axis >= shape.len());
            let no_rows = matches!(op, Op::SplitQkv) && shape.is_empty();
            if rank.is_some_and(|rank| rank != shape.len()) || axis_outside || no_rows {
                let found = format!("{} axes", shape.len());
                self.complain(place, &format!("a shape that {op} can take"), found);
            }
        }
    }

    fn op(&mut self, raw: &RawAction, targets: usize, place: &str, recipe: &RawRecipe) -> Option<Op> {
        let name = raw.op.unwrap_or(OpName::Copy);
        let needs = [
            ("over", raw.over.is_some(), name == OpName::Stack),
            ("kernel", raw.kernel.is_some(), name == OpName::PermuteUnfold),
            ("axis", raw.axis.is_some(), matches!(name, OpName::Concat | OpName::Split)),
            ("number", raw.number.is_some_and(|number| number != 0), name == OpName::Add),
            ("reason", raw.reason.is_some(), name == OpName::Drop),
            ("order", raw.order.is_some(), name == OpName::Permute || name == OpName::Split && raw.order.is_some()),
        ];
        for (field, given, wanted) in needs {
            if given != wanted {
                let found = if given { "it" } else { "nothing" };
                let not = if wanted { "" } else { "no " };
                self.complain(place, &format!("{not}{field} for {name}"), found);
            }
        }
        if raw.same_as.is_some() && name != OpName::Drop {
            self.complain(place, &format!("no same_as for {name}"), "it");
        }
        self.check_fields(raw, name, place);
        Some(match name {
            OpName::Copy => Op::Copy,
            OpName::ConvOihwToOhwi => Op::ConvOihwToOhwi,
            OpName::Transpose => Op::Transpose,
            OpName::Permute => self.permute(raw, place),
            OpName::Split => self.split(raw, targets, place)?,
            OpName::SplitQkv => Op::SplitQkv,
            OpName::Stack => Op::Stack { over: raw.over.clone()? },
            OpName::Concat => Op::Concat { axis: raw.axis? },
            OpName::Add => Op::Add { number: raw.number? },
            OpName::Drop => {
                let same_as = raw.same_as.as_ref().map(|text| self.pattern(text, place, recipe));
                Op::Drop { reason: raw.reason.clone()?, same_as }
            }
            OpName::PermuteUnfold => {
                let [height, width] = raw.kernel.as_ref()?;
                Op::PermuteUnfold {
                    kernel_height: self.expr(height, false, place),
                    kernel_width: self.expr(width, false, place),
                }
            }
        })
    }

    /// Targets must carry the same numbers as sources, less the one that is stacked over: else one target would be made many times.
    fn check_indices(
        &mut self,
        op: &Op,
        sources: &[(Pattern, Vec<Expr>)],
        targets: &[Pattern],
        place: &str,
        recipe: &RawRecipe,
    ) {
        let set = |pattern: &Pattern| -> BTreeSet<String> { pattern.indices().map(str::to_owned).collect() };
        let first = sources.first().map(|(p, _)| set(p)).unwrap_or_default();
        let mut wanted = first.clone();
        if let Op::Stack { over } = op {
            if !wanted.remove(over) {
                self.complain(place, "the stacked index in the key", over.clone());
            }
            if recipe.indices.get(over).is_some_and(|set| set.filter.is_some()) {
                self.complain(place, "to stack over a whole range", format!("{over} has a filter"));
            }
        }
        let twin = match op {
            Op::Drop { same_as, .. } => same_as.as_ref(),
            _ => None,
        };
        if twin.is_some_and(|twin| twin.is_open_ended() || set(twin) != first) {
            self.complain(place, "same_as as a whole key with the indices of from", "another");
        }
        let agree = sources.iter().all(|(p, _)| set(p) == first) && targets.iter().all(|target| set(target) == wanted);
        if !agree {
            let found = "other ones";
            self.complain(place, "the same indices in keys and targets", found);
        }
    }
}
