//! The object that `--json` prints, and each page's `page.json`.

use mlxport_ocr::grounding::PixelBox;
use serde_json::{Value, json};

use crate::{error_text::error_text, fingerprint, outcome::Outcome, read_page::ReadPage};

/// A page: text, references with their boxes in the model's units (0 to 999) and in pixels, tokens.
pub(crate) fn page(read: &ReadPage) -> Value {
    let corners = |frame: &Option<PixelBox>| frame.map(|at| [at.left, at.top, at.left + at.width, at.top + at.height]);
    let references = read.found.references.iter().zip(&read.boxes).map(|(reference, pixels)| {
        json!({
            "label": reference.label,
            "boxes": reference.boxes,
            "pixels": pixels.iter().map(corners).collect::<Vec<_>>(),
        })
    });
    json!({
        "page": read.id.name(),
        "width": read.size[0],
        "height": read.size[1],
        "text": read.found.text,
        "references": references.collect::<Vec<_>>(),
        "tokens": read.tokens,
        "ended": read.ended,
        "degraded": read.degraded,
        "seconds": read.seconds,
    })
}

/// A page's width and height, out of its `page.json`.
///
/// # Errors
/// When it says nothing of them.
pub(crate) fn size(record: &[u8]) -> anyhow::Result<[usize; 2]> {
    let record: Value = serde_json::from_slice(record)?;
    let side = |name: &str| record[name].as_u64().and_then(|side| usize::try_from(side).ok());
    let sides = side("width").zip(side("height"));
    sides.map(|(width, height)| [width, height]).ok_or_else(|| anyhow::anyhow!("page.json: expected width and height"))
}

/// What a page is made of, out of its `page.json`; null where an older version wrote it.
///
/// # Errors
/// When it is no JSON.
pub(crate) fn made_of(record: &[u8]) -> anyhow::Result<Value> {
    let mut record: Value = serde_json::from_slice(record)?;
    Ok(record[fingerprint::KEY].take())
}

/// The whole run, as `mlxport ocr --json` prints it.
pub(crate) fn run(outcome: &Outcome) -> Value {
    let degraded = outcome.degraded.iter().map(|(name, reasons)| json!({ "page": name, "reasons": reasons }));
    let skipped =
        outcome.skipped.iter().map(|one| json!({ "file": one.path.display().to_string(), "reason": one.reason }));
    let failed = outcome.failed.iter().map(|(name, error)| json!({ "page": name, "error": error_text(error) }));
    json!({
        "schema": 1,
        "ok": outcome.failed.is_empty() && !outcome.interrupted,
        "interrupted": outcome.interrupted,
        "pages": outcome.pages.values().map(page).collect::<Vec<_>>(),
        "done_before": outcome.done_before,
        "cut_off": outcome.cut_off,
        "degraded": degraded.collect::<Vec<_>>(),
        "skipped": skipped.collect::<Vec<_>>(),
        "failed": failed.collect::<Vec<_>>(),
    })
}
