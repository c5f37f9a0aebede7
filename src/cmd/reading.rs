//! What `ocr` and `serve` read pages with: a model whose pages have as many tokens as the release counts for them, and its tokenizer.

use std::path::{Path, PathBuf};

use mlxport_model::registry;
use mlxport_ocr::Prompter;

/// Refuses, by its config alone, a model whose projector makes other than (side ÷ 64)² tokens of a view. The release counts a page's places
/// in the prompt so whatever the projector (`infer` of `modeling_deepseekocr.py`), and fails where features and places differ in number.
///
/// # Errors
/// With the fields that say so; and where config.json cannot be used.
pub fn refuse_other_token_counts(model: &Path) -> anyhow::Result<()> {
    let found = registry::facts(model)?.reading.other_token_counts;
    anyhow::ensure!(
        found.is_empty(),
        "{}: {}; expected a projector that keeps the number of a page's tokens, by which its places in the prompt are counted: `ocr` and \
         `serve` cannot use such a model, `mlxport parity` can check it",
        model.join("config.json").display(),
        found.join("; ")
    );
    Ok(())
}

/// The tokenizer: the one that is named, else the model's own.
///
/// # Errors
/// When it is not there or cannot be used.
pub fn tokenizer(model: &Path, named: Option<&PathBuf>) -> anyhow::Result<Prompter> {
    let own = model.join("tokenizer.json");
    anyhow::ensure!(
        named.is_some() || own.exists(),
        "{}: expected the release's tokenizer.json there, which `mlxport convert` copies where the release has it, or one named by \
         --tokenizer; found none",
        own.display()
    );
    Ok(Prompter::open(named.unwrap_or(&own))?)
}
