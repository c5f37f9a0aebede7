//! The plan: from headers, recipe and config to the list of output tensors, or to everything that is wrong. No tensor byte is read.
//!
//! Rows are expanded over their index sets into the exact keys they demand, so that a missing key, an extra key and a wrong shape are
//! found by name and never by guess.

pub mod copy;
mod expand;
mod operate;
mod outputs;
pub mod pack;
mod rearrange;
mod render;
mod rows;
mod stated;

use std::collections::BTreeMap;

use crate::checkpoint::{TensorInfo, Unreadable};
use crate::dtype::{DtypeChoice, mlx_loads};
use crate::error::{Violation, ViolationKind};
use crate::recipe::Recipe;
use crate::recipe::config::Normalized;

pub use outputs::{Dropped, Making, OutputTensor, Part, Plan, PlannedSource};

/// Makes the plan as far as it can be made; it may be carried out only when no violation comes with it.
pub fn plan(
    recipe: &Recipe,
    layout: &str,
    dtype: DtypeChoice,
    normalized: Normalized,
    tensors: &BTreeMap<String, TensorInfo>,
    unreadable: &Unreadable,
) -> (Plan, Vec<Violation>) {
    let Normalized { json, dims, notes, mut violations } = normalized;
    let mut planner = rows::Planner::new(recipe, layout, dtype, &dims, tensors, unreadable);
    planner.all_rows();
    let blind = planner.is_blind();
    let (outputs, dropped, found) = planner.finish();
    violations.extend(found);
    if blind && violations.is_empty() {
        // A row that could not be expanded always has a reason on the list; if ever it has not, the plan must still not pass.
        violations.push(Violation::new(ViolationKind::Recipe, &recipe.name, "every row expanded", "one that was not"));
    }
    let mut notes = notes;
    for tensor in outputs.iter().filter(|tensor| tensor.making == Making::Zeros) {
        let why =
            recipe.rows.iter().find(|row| row.number == tensor.row).and_then(|row| row.zeros_if_missing.as_deref());
        notes.push(format!("{}: the release has none, zeros are written ({})", tensor.name, why.unwrap_or_default()));
    }
    let counters = dropped.iter().filter(|dropped| dropped.row == 0);
    notes.extend(counters.map(|dropped| format!("{} was left out: {}", dropped.key, dropped.reason)));
    let mut plan = Plan {
        recipe: recipe.name.clone(),
        recipe_hash: recipe.hash.clone(),
        layout: layout.to_owned(),
        dtype,
        quantization: None,
        tensors: outputs,
        dropped,
        config: json,
        notes,
    };
    complete_config(&mut plan, Some(recipe));
    violations.extend(check_dtypes(&plan));
    (plan, violations)
}

/// States in the config what the weights are and who wrote them.
pub fn complete_config(plan: &mut Plan, recipe: Option<&Recipe>) {
    stated::state_dtype(plan, recipe);
    let stamp = serde_json::json!({
        "schema": crate::manifest::SCHEMA,
        "recipe": plan.recipe,
        "layout": plan.layout,
        "version": env!("CARGO_PKG_VERSION"),
    });
    crate::recipe::config::set(&mut plan.config, "mlxport", stamp);
}

/// What of a plan MLX could not load.
pub fn check_dtypes(plan: &Plan) -> Vec<Violation> {
    let bad = plan.tensors.iter().filter(|tensor| !mlx_loads(tensor.dtype));
    bad.map(|tensor| {
        let converts = if crate::dtype::is_wide_or_narrow(tensor.dtype) {
            " (--dtype bf16, f16 or f32 converts it)"
        } else {
            "; leave it out by a row with op = \"drop\""
        };
        let found = format!("{}{converts}", tensor.dtype);
        Violation::new(ViolationKind::WrongDtype, &tensor.name, "a dtype that MLX loads", found)
    })
    .collect()
}
