//! Learns a recipe from an example: a release and an MLX conversion of it, or two of different sizes.
//!
//! ```text
//! layout     a target as strides over one source, and the operation that says the same
//! way        how a target is made of the release, and whether that holds
//! content    targets whose names say nothing: fingerprints, rows (trace), siblings, constants
//! example    what every tensor of the MLX side is made of, verified element by element
//! forms      keys that differ only in their numbers, as one row
//! fields     the numbers of configs      sizes       numbers as expressions over them
//! conditions subsets of layers, rows that only some configs have
//! table      rows and index sets as text   drops     rows for what is left out   translate   the config section
//! prove      the recipe, run: bit by bit the MLX side's tensors
//! ```
//!
//! Data goes down this list only. A recipe is handed out only when it was proved on every example.

mod conditions;
mod content;
mod drops;
mod example;
mod fields;
mod forms;
mod layout;
mod prove;
mod sizes;
mod table;
mod trace;
mod translate;
mod way;
mod write;

use std::path::PathBuf;

use mlxport_convert::DtypeChoice;
use mlxport_convert::error::{ConvertError, Violation};
use mlxport_convert::recipe::Recipe;
use serde::Serialize;

use crate::request::window;
use example::{Example, Inexpressible, understand};
use fields::fields;
use prove::{cast, prove};
use table::Table;

/// The schema of an outcome.
pub const SCHEMA: &str = "mlxport.recipe-infer/1";
/// The most reasons of one kind that are listed.
const MOST_LISTED: usize = 200;

/// A release and a conversion of it.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The release: a directory or one file.
    pub release: PathBuf,
    /// The MLX directory.
    pub mlx: PathBuf,
    /// How they are named in the recipe.
    pub names: (String, String),
}

/// What to learn from.
#[derive(Debug, Clone)]
pub struct Request {
    /// One example, or two of different sizes.
    pub pairs: Vec<Pair>,
    /// Bytes that buffers may take.
    pub memory: u64,
}

/// A key that the recipe cannot make, or may not leave out, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unsaid {
    /// The first of the keys that differ only in their numbers.
    pub key: String,
    /// How many there are.
    pub count: usize,
    /// Why.
    pub why: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inferred {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// `identical`: the recipe gives the MLX side's tensors bit by bit. `cannot`: the format cannot say all of it.
    pub verdict: &'static str,
    /// The recipe, where there is one.
    #[serde(skip)]
    pub recipe: Option<String>,
    /// Rows it has.
    pub rows: usize,
    /// Tensors that come out bit by bit as the MLX side's, in all examples.
    pub identical: usize,
    /// What `convert --dtype` has to say with it.
    pub dtype: Option<&'static str>,
    /// Whether the MLX side is packed: the recipe makes what was packed.
    pub packed: bool,
    /// What cannot be said.
    pub unsaid: Vec<Unsaid>,
    /// Sizes and conditions that several expressions give.
    pub ambiguous: Vec<String>,
    /// Numbers that no config field gives.
    pub constants: Vec<String>,
    /// Targets that name alone tells apart.
    pub by_name: usize,
    /// Anything else a person should read.
    pub notes: Vec<String>,
}

/// Learns a recipe.
///
/// # Errors
/// What keeps any from being learned: directories or files that cannot be read, no config, an MLX side without tensors.
pub fn infer(request: &Request) -> Result<Inferred, ConvertError> {
    let window = window(request.memory);
    let mut examples = Vec::new();
    for pair in &request.pairs {
        examples.push(understand(&pair.release, &pair.mlx, window)?);
    }
    let configs: Vec<&serde_json::Value> = examples.iter().map(|example| &example.configs.0).collect();
    let fields = fields(&configs);
    let mut table = Table::new(&examples, &fields);
    table.drop_rows(&examples)?;
    let mut missing: Vec<_> = examples.iter().flat_map(|example| example.missing.clone()).collect();
    missing.append(&mut table.missing);
    let text = write::recipe(&table, &examples, &request.pairs);
    let mut outcome = outcome(&table, &examples);
    if missing.is_empty() {
        missing = proved(&text, &examples, request, &mut outcome)?;
    }
    outcome.unsaid = folded(missing);
    let done = outcome.unsaid.is_empty();
    outcome.verdict = if done { "identical" } else { "cannot" };
    outcome.recipe = done.then_some(text);
    outcome.notes.dedup();
    Ok(outcome)
}

/// Runs the recipe on every example; what it makes otherwise than the MLX side, and what its own checks say.
fn proved(
    text: &str,
    examples: &[Example],
    request: &Request,
    outcome: &mut Inferred,
) -> Result<Vec<Inexpressible>, ConvertError> {
    let mut missing = Vec::new();
    // What the checks refuse (a key with braces in it, say) cannot be said: that is an answer, not an error.
    let said = |missing: &mut Vec<Inexpressible>, error| match error {
        ConvertError::Violations(list) => {
            let inexpressible = |wrong: &Violation| Inexpressible { key: wrong.place.clone(), why: wrong.to_string() };
            missing.extend(list.0.iter().map(inexpressible));
            Ok(())
        }
        error => Err(error),
    };
    let recipe = match Recipe::parse(text, "the recipe") {
        Ok(recipe) => recipe,
        Err(error) => {
            said(&mut missing, error)?;
            return Ok(missing);
        }
    };
    for (example, pair) in examples.iter().zip(&request.pairs) {
        match prove(&recipe, example, &pair.release, window(request.memory)) {
            Ok(proof) => {
                outcome.identical += proof.identical;
                missing.extend(proof.different);
                let differs = |name: &String| format!("config.json: {name} comes out otherwise than on the MLX side");
                outcome.notes.extend(proof.config.iter().map(differs));
            }
            Err(error) => said(&mut missing, error)?,
        }
    }
    Ok(missing)
}

fn outcome(table: &Table<'_>, examples: &[Example]) -> Inferred {
    let dtype = |choice| match choice {
        DtypeChoice::Keep => None,
        DtypeChoice::Bf16 => Some("bf16"),
        DtypeChoice::F16 => Some("f16"),
        DtypeChoice::F32 => Some("f32"),
    };
    Inferred {
        schema: SCHEMA,
        verdict: "cannot",
        recipe: None,
        rows: table.rows.len(),
        identical: 0,
        dtype: examples.first().and_then(|example| dtype(cast(example))),
        packed: examples.iter().any(Example::is_packed),
        unsaid: Vec::new(),
        ambiguous: write::ambiguous(table),
        constants: write::constants(table),
        by_name: examples.iter().map(|example| example.by_name.len()).sum(),
        notes: write::config_notes(table, examples),
    }
}

/// Reasons of keys that differ only in their numbers, as one with a count.
fn folded(missing: Vec<Inexpressible>) -> Vec<Unsaid> {
    let mut all: Vec<Unsaid> = Vec::new();
    for one in missing {
        let form = |key: &str, why: &str| (crate::names::pattern(key), crate::names::pattern(why));
        let own = form(&one.key, &one.why);
        match all.iter().position(|known| form(&known.key, &known.why) == own) {
            Some(known) => all[known].count += 1,
            None if all.len() < MOST_LISTED => all.push(Unsaid { key: one.key, count: 1, why: one.why }),
            None => {}
        }
    }
    all
}

/// The outcome in words, a line for each thing, a newline at the end.
pub fn summary(outcome: &Inferred) -> String {
    let mut lines = Vec::new();
    match outcome.verdict {
        "identical" => {
            let cast = outcome.dtype.map(|dtype| format!(" (with --dtype {dtype})")).unwrap_or_default();
            lines.push(format!(
                "identical: {} rows; run on the release{cast}, all {} tensors come out bit by bit as the MLX side's",
                outcome.rows, outcome.identical
            ));
        }
        _ => lines.push("cannot be said: no recipe was written".to_owned()),
    }
    if outcome.packed {
        lines.push(
            "the MLX side is packed: the recipe makes what was packed, and packed so it gives the same codes"
                .to_owned(),
        );
    }
    for unsaid in &outcome.unsaid {
        let more = if unsaid.count > 1 { format!(" (and {} more alike)", unsaid.count - 1) } else { String::new() };
        lines.push(format!("cannot: {}{more}: {}", unsaid.key, unsaid.why));
    }
    lines.extend(outcome.ambiguous.iter().map(|line| format!("ambiguous: {line}")));
    lines.extend(outcome.constants.iter().map(|line| format!("number: {line}")));
    if outcome.by_name > 0 {
        lines.push(format!("by name alone: {} tensors whose values are all one number", outcome.by_name));
    }
    lines.extend(outcome.notes.iter().map(|line| format!("note: {line}")));
    lines.join("\n") + "\n"
}

/// A release's `model_type` values and `architectures`, of all examples.
fn fits(examples: &[Example]) -> (Vec<String>, Vec<String>) {
    let (mut types, mut architectures): (Vec<String>, Vec<String>) = Default::default();
    for example in examples {
        let config = &example.configs.0;
        let listed = config.get("architectures").and_then(|value| value.as_array()).into_iter().flatten();
        let known = listed.filter_map(|name| name.as_str());
        for (list, name) in config
            .get("model_type")
            .and_then(|name| name.as_str())
            .map(|name| (0, name))
            .into_iter()
            .chain(known.map(|name| (1, name)))
        {
            let all = if list == 0 { &mut types } else { &mut architectures };
            if !all.iter().any(|other| other == name) {
                all.push(name.to_owned());
            }
        }
    }
    (types, architectures)
}
