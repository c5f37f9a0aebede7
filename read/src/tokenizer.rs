//! What `ocr` and `serve` read pages with: a model whose pages have as many tokens as the release counts for them, and its tokenizer.

use std::path::{Path, PathBuf};

use mlxport_model::{contract::Reading, registry};
use mlxport_ocr::{Cut, Prompter, resample::Arithmetic};

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

/// How a model has its pages cut.
fn cut(reading: &Reading) -> Cut {
    let count = |number: i32| usize::try_from(number).unwrap_or(0);
    Cut {
        tile: count(reading.tile_side),
        least: count(reading.tiles.0),
        most: count(reading.tiles.1),
        has_newlines: reading.has_newlines,
        as_transformers: reading.rounds_as_transformers,
        arithmetic: if reading.resizes_as_torch { Arithmetic::Torch } else { Arithmetic::Pillow },
    }
}

/// The tokenizer: the one that is named, else the model's own. It cuts pages as the model wants them.
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
    let reading = registry::facts(model)?.reading;
    Ok(Prompter::open(named.unwrap_or(&own))?.cutting(cut(&reading)))
}
