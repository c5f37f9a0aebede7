//! Faults of the steps between encoders and decoder.

use mlx_rs::Array;
use mlxport_model::{
    Result,
    contract::{At, Step, Steps},
};

use super::{emptied, taken};

/// Parts in the opposite order.
pub fn joined_backwards(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Join { parts, axis } = step else { return inner.run(at, step) };
    let parts: Vec<Array> = parts.iter().rev().cloned().collect();
    inner.run(at, Step::Join { parts: &parts, axis })
}

/// The last part empty.
pub fn last_part_empty(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    edited_parts(inner, at, step, |parts| {
        if let Some(last) = parts.last_mut() {
            *last = emptied(last)?;
        }
        Ok(())
    })
}

/// The last two parts exchanged.
pub fn last_parts_exchanged(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    edited_parts(inner, at, step, |parts| {
        let last = parts.len().saturating_sub(1);
        parts.swap(last.saturating_sub(1), last);
        Ok(())
    })
}

/// The last part but one before all others.
pub fn last_but_one_first(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    edited_parts(inner, at, step, |parts| {
        let last = parts.len().saturating_sub(1);
        parts.swap(0, last.saturating_sub(1));
        Ok(())
    })
}

/// The result's rows one further, the last one first.
pub fn rows_off_by_one(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let is_joined = matches!(step, Step::Join { .. });
    let rows = inner.run(at, step)?;
    let count = rows.dim(0);
    if is_joined { taken(&rows, 0, (0..count).map(|row| (row - 1).rem_euclid(count))) } else { Ok(rows) }
}

fn edited_parts(inner: &dyn Steps, at: At, step: Step, edit: impl Fn(&mut Vec<Array>) -> Result<()>) -> Result<Array> {
    let Step::Join { parts, axis } = step else { return inner.run(at, step) };
    let mut parts = parts.to_vec();
    edit(&mut parts)?;
    inner.run(at, Step::Join { parts: &parts, axis })
}

/// As many tokens, from the first on.
pub fn taken_from_first(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Take { x, start, end } = step else { return inner.run(at, step) };
    inner.run(at, Step::Take { x, start: 0, end: end - start })
}

/// Tiles taken in column order.
pub fn laid_by_columns(inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
    let Step::Lay { tiles, across, down } = step else { return inner.run(at, step) };
    let tiles = taken(tiles, 0, (0..across * down).map(|place| place % across * down + place / across))?;
    inner.run(at, Step::Lay { tiles: &tiles, across, down })
}
