//! Where values come from that are not what their name says: rows are looked up by their bits in the whole release.
//!
//! The release's rows are made into the target's format (rounded, packed) and hashed; a row that is found is the same bits but for a
//! collision of 128 bits of BLAKE3. What is held in memory are the hashes of the rows that are looked for, never the release's.

use std::collections::HashMap;

use mlxport_convert::checkpoint::TensorSource;
use mlxport_convert::error::ConvertError;
use mlxport_convert::transforms::{Assembly, Scratch, View};
use safetensors::Dtype;

use crate::target::{Format, Target};
use crate::verify::{Pair, convertible, windows};

/// A run of a target whose place in the release is not known.
#[derive(Debug, Clone)]
pub struct Lost<'a> {
    /// The target.
    pub target: &'a Target,
    /// The first value.
    pub first: u64,
    /// How many values.
    pub len: u64,
}

/// Where one of the release's tensors is looked at, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// The release's key.
    pub key: String,
    /// Its axes as they are read: `None` as stored.
    pub order: Option<Vec<usize>>,
    /// How many rows it has so.
    pub rows: u64,
}

/// What was found of a lost run.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The rows that were looked for.
    pub rows: Vec<u64>,
    /// Of each, where it is: (place, row there), at most four, in the order of the places.
    pub hits: Vec<Vec<(usize, u64)>>,
}

/// Rows that are held in memory, all runs together.
const MAX_ROWS: usize = 1 << 21;
/// Hits kept of a row.
const MAX_HITS: usize = 6;

type Hash = [u8; 16];

/// Looks for all of them in one pass over those of the release's tensors whose rows are as long.
///
/// # Errors
/// Where a file cannot be read.
pub fn search(pair: &Pair<'_>, lost: &[Lost<'_>]) -> Result<(Vec<Place>, Vec<Found>), ConvertError> {
    let mut places = Vec::new();
    let mut found = vec![Found::default(); lost.len()];
    let most = (MAX_ROWS / lost.len().max(1)).clamp(64, 1 << 18) as u64;
    let mut kinds: Vec<(Format, u64)> = Vec::new();
    for run in lost {
        let kind = (run.target.format, row_len(run));
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    for (format, row) in kinds {
        let mut wanted: HashMap<Hash, Vec<(usize, usize)>> = HashMap::new();
        for (at, run) in lost.iter().enumerate().filter(|(_, run)| (run.target.format, row_len(run)) == (format, row)) {
            let rows = run.len / row;
            let step = rows.div_ceil(most).max(1);
            for (index, number) in (0..rows).step_by(step as usize).enumerate() {
                let parts = run.target.read(pair.mlx, run.first + number * row, row)?;
                wanted.entry(hash(parts.iter().map(Vec::as_slice))).or_default().push((at, index));
                found[at].rows.push(number);
                found[at].hits.push(Vec::new());
            }
        }
        look(pair, format, row, &wanted, &mut places, &mut found)?;
    }
    Ok((places, found))
}

fn row_len(run: &Lost<'_>) -> u64 {
    run.target.row_len().min(run.len)
}

/// One pass over the release for rows of one length in one format.
fn look(
    pair: &Pair<'_>,
    format: Format,
    row: u64,
    wanted: &HashMap<Hash, Vec<(usize, usize)>>,
    places: &mut Vec<Place>,
    found: &mut [Found],
) -> Result<(), ConvertError> {
    let mut scratch = Scratch::default();
    for (key, info) in pair.release.tensors() {
        let plain_same = matches!(format, Format::Plain(dtype) if dtype == info.dtype);
        if !convertible(info.dtype) && !plain_same {
            continue;
        }
        let view = View::stored(key, info.dtype, &info.shape, &info.strides);
        for (order, view) in variants(&view, &info.shape, row) {
            let assembly = Assembly::of(view);
            let place = places.len();
            places.push(Place { key: key.clone(), order, rows: assembly.len() / row });
            let window = (pair.window / row).max(1) * row;
            for (at, count) in windows(assembly.len(), window) {
                let Some(parts) = pair.wanted(format, &assembly, at, count, 0.0, &mut scratch)? else { break };
                for number in 0..count / row {
                    let cut = |part: &Vec<u8>| {
                        let len = part.len() / (count / row) as usize;
                        number as usize * len..(number as usize + 1) * len
                    };
                    let Some(seekers) = wanted.get(&hash(parts.iter().map(|part| &part[cut(part)]))) else { continue };
                    for &(run, index) in seekers {
                        let hits = &mut found[run].hits[index];
                        if hits.len() < MAX_HITS
                            || hits.iter().filter(|hit| hit.0 == place).count() == 0 && hits.len() < 64
                        {
                            hits.push((place, at / row + number));
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

/// The ways a tensor's rows may be read so that they have this length.
fn variants(view: &View, shape: &[u64], row: u64) -> Vec<(Option<Vec<usize>>, View)> {
    let rank = shape.len();
    let mut all = Vec::new();
    if shape.last() == Some(&row) {
        all.push((None, view.clone()));
    } else if rank == 1 && shape[0] > row && shape[0].is_multiple_of(row) {
        all.extend(view.clone().reshaped(&[shape[0] / row, row]).map(|view| (None, view)));
    }
    if (2..=5).contains(&rank) {
        let mut orders: Vec<Vec<usize>> = vec![(0..rank - 2).chain([rank - 1, rank - 2]).collect()];
        if rank >= 3 {
            orders.push([0].into_iter().chain(2..rank).chain([1]).collect());
            orders.push((1..rank).chain([0]).collect());
        }
        orders.dedup();
        for order in orders {
            if shape[order[rank - 1]] == row {
                all.push((Some(order.clone()), view.clone().permuted(&order)));
            }
        }
    }
    all
}

pub(crate) fn hash<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Hash {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    short
}

/// The hash of whole buffers, for pairing scales with codes.
pub fn digest(parts: &[&[u8]]) -> [u8; 16] {
    hash(parts.iter().copied())
}

/// What the hits of a run say together.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// The place most rows come from.
    pub place: usize,
    /// The share of rows that come from there.
    pub share: f64,
    /// Of the rows that were looked for, in order: the row there.
    pub from: Vec<Option<u64>>,
    /// Rows whose hits are in other places.
    pub elsewhere: usize,
    /// Whether other places would do as well.
    pub ambiguous: bool,
}

/// The place that explains most rows; `prefer` breaks ties. `None` where nothing was found.
pub fn origin(found: &Found, places: &[Place], prefer: &dyn Fn(&Place) -> i32) -> Option<Origin> {
    let mut counts: HashMap<usize, usize> = HashMap::new();
    for hits in &found.hits {
        let mut seen: Vec<usize> = hits.iter().map(|hit| hit.0).collect();
        seen.dedup();
        for place in seen {
            *counts.entry(place).or_default() += 1;
        }
    }
    let (&place, &most) =
        counts.iter().max_by_key(|(place, count)| (**count, prefer(&places[**place]), usize::MAX - **place))?;
    let equals = counts.iter().filter(|(other, count)| **other != place && **count == most).count();
    let offset = usual_offset(found, place);
    let from: Vec<Option<u64>> = found
        .hits
        .iter()
        .zip(&found.rows)
        .map(|(hits, &row)| {
            let here: Vec<u64> = hits.iter().filter(|hit| hit.0 == place).map(|hit| hit.1).collect();
            let straight = here.iter().find(|&&there| there as i64 - row as i64 == offset);
            straight.or(here.first()).copied()
        })
        .collect();
    let elsewhere = found.hits.iter().filter(|hits| !hits.is_empty() && !hits.iter().any(|hit| hit.0 == place)).count();
    let share = most as f64 / found.rows.len().max(1) as f64;
    Some(Origin { place, share, from, elsewhere, ambiguous: equals > 0 })
}

/// How far most rows of a place have moved.
fn usual_offset(found: &Found, place: usize) -> i64 {
    let mut counts: HashMap<i64, usize> = HashMap::new();
    for (hits, &row) in found.hits.iter().zip(&found.rows) {
        for hit in hits.iter().filter(|hit| hit.0 == place) {
            *counts.entry(hit.1 as i64 - row as i64).or_default() += 1;
        }
    }
    counts.into_iter().max_by_key(|&(offset, count)| (count, -offset.abs())).map_or(0, |(offset, _)| offset)
}

/// Whether a dtype's values can be looked for at all.
pub fn searchable(target: &Target) -> bool {
    match target.format {
        Format::Plain(dtype) => convertible(dtype) || matches!(dtype, Dtype::I64 | Dtype::I32 | Dtype::U8),
        Format::Packed { .. } => true,
    }
}
