//! config.json under a built-in recipe, and the plan it makes of a checkpoint that lies in the repository. Input: the config's text.

use std::path::Path;
use std::sync::LazyLock;

use mlxport_convert::DtypeChoice;
use mlxport_convert::checkpoint::{Checkpoint, Scan, TensorSource, Unreadable};
use mlxport_convert::dtype::byte_len;
use mlxport_convert::plan::{Plan, plan};
use mlxport_convert::recipe::Recipe;
use mlxport_convert::recipe::config::Normalized;
use serde_json::Value;

static RECIPE: LazyLock<Recipe> = LazyLock::new(|| Recipe::named("deepseek-ocr").expect("it is built in"));

/// The key table that every plan is made for; no tensor of it is ever read.
static TABLE: LazyLock<Scan> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/data/tiny-grid/checkpoint");
    let scan = Checkpoint::scan(&path).expect("it lies in the repository");
    assert!(scan.violations.is_empty() && scan.unreadable.is_empty(), "{:?}", scan.violations);
    scan
});

/// Normalizes the config, twice where it is sound, and plans with it.
pub fn run(data: &[u8]) {
    let Ok(config) = serde_json::from_slice::<Value>(data) else { return };
    let _ = RECIPE.fits(&config);
    let once = RECIPE.config.normalize(&config);
    if once.violations.is_empty() {
        let twice = RECIPE.config.normalize(&once.json);
        assert!(twice.violations.is_empty(), "refuses its own output: {:?}", twice.violations);
        assert!(twice.notes.is_empty(), "changes its own output: {:?}", twice.notes);
        assert_eq!(twice.json, once.json);
        assert_eq!(twice.dims, once.dims);
    }
    for layout in &RECIPE.layouts {
        planned(&once, layout);
    }
}

fn planned(normalized: &Normalized, layout: &str) {
    let tensors = TABLE.checkpoint.tensors();
    let make = || plan(&RECIPE, layout, DtypeChoice::Keep, normalized.clone(), tensors, &Unreadable::default());
    let (plan, violations) = make();
    assert_eq!(make().1, violations, "the same config is judged the same");
    if violations.is_empty() {
        everything_goes_somewhere(&plan);
    }
}

/// A plan without violations takes every key, and moves bytes without making or losing any.
fn everything_goes_somewhere(plan: &Plan) {
    let tensors = TABLE.checkpoint.tensors();
    let bytes_of = |key: &str| byte_len(tensors[key].dtype, &tensors[key].shape).expect("it is a sound checkpoint");
    let dropped: u64 = plan.dropped.iter().map(|dropped| bytes_of(&dropped.key)).sum();
    let all: u64 = tensors.keys().map(|key| bytes_of(key)).sum();
    assert_eq!(plan.byte_len() + dropped, all);
    let taken = plan.tensors.iter().flat_map(|tensor| &tensor.sources).map(|source| &source.key);
    let mut taken: Vec<&String> = taken.chain(plan.dropped.iter().map(|dropped| &dropped.key)).collect();
    taken.sort_unstable();
    taken.dedup();
    assert!(taken.into_iter().eq(tensors.keys()), "a key is left over");
}
