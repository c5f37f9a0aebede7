//! A recipe file. Input: its text.

use std::collections::BTreeMap;

use mlxport_convert::checkpoint::Unreadable;
use mlxport_convert::plan::plan;
use mlxport_convert::recipe::pattern::Pattern;
use mlxport_convert::recipe::{Op, Recipe, Row};
use mlxport_convert::{ConvertError, DtypeChoice};
use serde_json::json;

use super::expression::round_trip;

/// Parses the recipe; a sound one is held against an empty config and an empty checkpoint.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Recipe::parse(text, "fuzz") {
        Ok(recipe) => check(&recipe),
        Err(ConvertError::Violations(found)) => assert!(!found.0.is_empty(), "refused without a reason"),
        Err(other) => panic!("not a list of violations: {other}"),
    }
}

fn check(recipe: &Recipe) {
    for set in recipe.indices.values() {
        round_trip(&set.count);
        set.filter.iter().for_each(round_trip);
    }
    for (at, row) in recipe.rows.iter().enumerate() {
        assert_eq!(row.number, at + 1);
        check_row(recipe, row);
    }
    let _ = recipe.fits(&json!({ "model_type": "x", "architectures": ["y"] }));
    for layout in &recipe.layouts {
        assert_eq!(recipe.layout(Some(layout)).ok().as_ref(), Some(layout));
        nothing_to_convert(recipe, layout);
    }
}

fn check_row(recipe: &Recipe, row: &Row) {
    assert!(!row.sources.is_empty(), "{}", row.label());
    for (pattern, shape) in &row.sources {
        same_pattern(pattern);
        shape.iter().for_each(round_trip);
    }
    row.when.iter().for_each(round_trip);
    for layout in &recipe.layouts {
        let action = &row.actions[layout];
        action.targets.iter().for_each(same_pattern);
        let wanted = match action.op {
            Op::SplitQkv => 3,
            Op::Drop { .. } => 0,
            _ => 1,
        };
        assert_eq!(action.targets.len(), wanted, "{}", row.label());
    }
}

/// A pattern prints as it was written, and takes the keys that it makes.
fn same_pattern(pattern: &Pattern) {
    assert_eq!(Pattern::parse(&pattern.to_string()).as_ref(), Ok(pattern));
    let numbers: BTreeMap<&str, u64> = pattern.indices().zip([0, 7, 10, u64::MAX].into_iter().cycle()).collect();
    let key = pattern.key(&numbers);
    let expected: Vec<(&str, u64)> = pattern.indices().map(|name| (name, numbers[name])).collect();
    if let Some(found) = pattern.captures(&key) {
        assert_eq!(found.len(), expected.len(), "{pattern}: {key}");
    }
    // Text that begins or ends with digits may run into a number, which is then not told apart.
    if !pattern.to_string().contains(|c: char| c.is_ascii_digit()) {
        assert_eq!(pattern.captures(&key), Some(expected), "{pattern}: {key}");
    }
}

/// A plan for no tensors at all: either everything is missing, or the recipe has nothing to demand.
fn nothing_to_convert(recipe: &Recipe, layout: &str) {
    let normalized = recipe.config.normalize(&json!({}));
    let (plan, violations) =
        plan(recipe, layout, DtypeChoice::Keep, normalized, &BTreeMap::new(), &Unreadable::default());
    assert!(plan.tensors.is_empty(), "made of nothing: {:?}, {violations:?}", plan.tensors.first());
}
