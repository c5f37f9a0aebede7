//! Rows looked up by their bits: where each row of a target lies in the release gives strides, stacks and joins.

use std::collections::{BTreeSet, HashMap};

use mlxport_convert::checkpoint::TensorSource;
use mlxport_convert::error::ConvertError;
use mlxport_convert::transforms::{Assembly, Axis, Scratch, View};

use super::layout::Layout;
use super::way::{Way, holds, piece, score, whole};
use crate::search::hash;
use crate::target::{Format, Target};
use crate::verify::{Pair, convertible, windows};

/// Rows of a target, or of the release, that are held in memory.
const MAX_ROWS: u64 = 1 << 21;
/// Places of one row that are kept.
const MAX_HITS: usize = 32;

type Hash = [u8; 16];
/// A place and the row there.
type Hit = (usize, u64);

/// A tensor of the release read as rows.
struct Place {
    key: String,
    /// Its axes in this order, the last one along a row.
    view: View,
}

/// A target read as rows.
struct Lost {
    target: usize,
    /// Its axes in this order.
    order: Vec<usize>,
    rows: Vec<Hash>,
}

/// Lost targets, and the places where each of their rows is found.
pub struct Trace<'a> {
    pair: &'a Pair<'a>,
    targets: &'a [Target],
    lost: Vec<Lost>,
    places: Vec<Place>,
    formats: Vec<Format>,
    hits: HashMap<(usize, Hash), Vec<Hit>>,
}

impl<'a> Trace<'a> {
    /// Reads the lost targets and these of the release's tensors.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn new(
        pair: &'a Pair<'a>,
        targets: &'a [Target],
        lost: &[usize],
        keys: &[String],
    ) -> Result<Self, ConvertError> {
        let mut trace =
            Self { pair, targets, lost: Vec::new(), places: Vec::new(), formats: Vec::new(), hits: HashMap::new() };
        for &at in lost {
            trace.rows_of(at)?;
        }
        for lost in &trace.lost {
            let format = targets[lost.target].format;
            if !trace.formats.contains(&format) {
                trace.formats.push(format);
            }
        }
        let kinds: BTreeSet<(usize, u64)> = trace.lost.iter().map(|lost| trace.kind(lost)).collect();
        for (format, row) in kinds {
            trace.look(format, row, keys)?;
        }
        Ok(trace)
    }

    /// Which format a target has, and how long its rows are.
    fn kind(&self, lost: &Lost) -> (usize, u64) {
        let target = &self.targets[lost.target];
        let format = self.formats.iter().position(|format| *format == target.format).unwrap_or(0);
        (format, target.shape[lost.order[lost.order.len() - 1]])
    }

    /// The rows of one target in every order that it is read in.
    fn rows_of(&mut self, at: usize) -> Result<(), ConvertError> {
        let target = &self.targets[at];
        let rank = target.shape.len();
        if rank < 2 || target.len() == 0 || target.shape.contains(&0) {
            return Ok(());
        }
        for order in orders(rank) {
            let row = target.shape[order[rank - 1]];
            if row < 2 || target.len() / row > MAX_ROWS || target.is_packed() && !order.is_sorted() {
                continue;
            }
            let rows = match target.format {
                Format::Plain(dtype) => {
                    let view = View::whole(&target.name, dtype, &target.shape).permuted(&order);
                    let mut rows = Vec::new();
                    each_row(self.pair, &view, row, |at, count, scratch| {
                        let mut bytes = vec![0; count as usize * dtype.bitsize() / 8];
                        Assembly::of(view.clone()).read(self.pair.mlx, dtype, at, &mut bytes, scratch)?;
                        rows.extend(
                            bytes.chunks_exact(row as usize * dtype.bitsize() / 8).map(|row| hash([row].into_iter())),
                        );
                        Ok(())
                    })?;
                    rows
                }
                Format::Packed { .. } => (0..target.len() / row)
                    .map(|number| Ok(hash(target.read(self.pair.mlx, number * row, row)?.iter().map(Vec::as_slice))))
                    .collect::<Result<_, ConvertError>>()?,
            };
            self.lost.push(Lost { target: at, order, rows });
        }
        Ok(())
    }

    /// Looks up rows of one length in the release.
    fn look(&mut self, number: usize, row: u64, keys: &[String]) -> Result<(), ConvertError> {
        let format = self.formats[number];
        let own = |lost: &&Lost| self.targets[lost.target].format == format;
        let wanted: BTreeSet<Hash> = self.lost.iter().filter(own).flat_map(|lost| lost.rows.iter().copied()).collect();
        for key in keys {
            let info = &self.pair.release.tensors()[key];
            let same = matches!(format, Format::Plain(dtype) if dtype == info.dtype);
            if info.shape.len() < 2 || !(same || convertible(info.dtype)) {
                continue;
            }
            let view = whole(self.pair.release, key).views.remove(0);
            for order in orders(info.shape.len()).into_iter().filter(|order| info.shape[order[order.len() - 1]] == row)
            {
                let place = Place { key: key.clone(), view: view.clone().permuted(&order) };
                for (own, at) in found(self.pair, format, &place.view, row, &wanted)? {
                    let hits = self.hits.entry((number, own)).or_default();
                    if hits.len() < MAX_HITS {
                        hits.push((self.places.len(), at));
                    }
                }
                self.places.push(place);
            }
        }
        Ok(())
    }

    /// Of each target the way that its rows show, verified.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn ways(&self) -> Result<Vec<(usize, Way)>, ConvertError> {
        let mut found: Vec<(usize, Way)> = Vec::new();
        for lost in &self.lost {
            if found.iter().any(|(at, _)| *at == lost.target) {
                continue;
            }
            let way = match self.of_one(lost)? {
                Some(way) => Some(way),
                None => self.of_several(lost)?,
            };
            found.extend(way.map(|way| (lost.target, way)));
        }
        Ok(found)
    }

    fn hits(&self, lost: &Lost, row: usize) -> &[Hit] {
        self.hits.get(&(self.kind(lost).0, lost.rows[row])).map_or(&[], Vec::as_slice)
    }

    /// The places that have all of these rows, likeliest names first.
    fn common(&self, lost: &Lost, rows: std::ops::Range<usize>) -> Vec<usize> {
        let of = |row| self.hits(lost, row).iter().map(|hit| hit.0).collect::<BTreeSet<_>>();
        let mut common = of(rows.start);
        for row in rows.skip(1) {
            let there = of(row);
            common.retain(|place| there.contains(place));
        }
        let mut common: Vec<usize> = common.into_iter().collect();
        let name = &self.targets[lost.target].name;
        common.sort_by_key(|&place| std::cmp::Reverse(score(name, &self.places[place].key)));
        common
    }

    /// Of elements of one tensor.
    fn of_one(&self, lost: &Lost) -> Result<Option<Way>, ConvertError> {
        let target = &self.targets[lost.target];
        for place in self.common(lost, 0..lost.rows.len()).into_iter().take(4) {
            let Some(layout) = self.layout(lost, place) else { continue };
            let key = &self.places[place].key;
            if holds(self.pair, target, &layout, key)? {
                return Ok(Some(Way::One { key: key.clone(), layout, plus: 0 }));
            }
        }
        Ok(None)
    }

    /// The strides by which a target goes through a place.
    fn layout(&self, lost: &Lost, place: usize) -> Option<Layout> {
        let Place { view, .. } = &self.places[place];
        let shape: Vec<u64> = lost.order.iter().map(|&at| self.targets[lost.target].shape[at]).collect();
        let (lead, along) = shape.split_at(shape.len() - 1);
        let offsets = self.offsets(lost, place)?;
        let mut axes = vec![Vec::new(); shape.len()];
        let mut every = offsets.len();
        for (at, &len) in lead.iter().enumerate() {
            every /= len as usize;
            let steps: Vec<u64> = (0..len as usize).map(|step| offsets[step * every]).collect();
            axes[lost.order[at]] = nested(&steps)?;
        }
        let stride = view.axes.last()?.stride;
        axes[lost.order[lead.len()]] = vec![Axis { len: along[0], stride }];
        Some(Layout { start: offsets[0], axes })
    }

    /// Where each row begins in the tensor. Of several equal rows the one that goes on as before.
    fn offsets(&self, lost: &Lost, place: usize) -> Option<Vec<u64>> {
        let view = &self.places[place].view;
        let mut offsets: Vec<u64> = Vec::new();
        for row in 0..lost.rows.len() {
            let own = self.hits(lost, row).iter().filter(|hit| hit.0 == place).map(|hit| begin(view, hit.1));
            let next = match offsets[..] {
                [.., a, b] => b as i128 * 2 - a as i128,
                [a] => i128::from(a),
                [] => 0,
            };
            offsets.push(own.min_by_key(|&offset| (i128::from(offset) - next).abs())?);
        }
        Some(offsets)
    }

    /// Of whole tensors, one after another along the first axis that the target is read by.
    fn of_several(&self, lost: &Lost) -> Result<Option<Way>, ConvertError> {
        let target = &self.targets[lost.target];
        let (axis, rows) = (lost.order[0], lost.rows.len());
        let steps = target.shape[axis] as usize;
        let each = rows / steps.max(1);
        let mut keys: Vec<String> = Vec::new();
        let mut runs: Vec<usize> = Vec::new();
        for step in 0..steps {
            let common = self.common(lost, step * each..(step + 1) * each);
            let stays = common.iter().any(|&place| keys.last() == Some(&self.places[place].key));
            let Some(&first) = common.first() else { return Ok(None) };
            match (stays, runs.last_mut()) {
                (true, Some(run)) => *run += 1,
                _ => {
                    keys.push(self.places[first].key.clone());
                    runs.push(1);
                }
            }
        }
        let distinct = keys.iter().collect::<BTreeSet<_>>().len() == keys.len();
        if !distinct || keys.len() < 2 {
            return Ok(None);
        }
        if axis == 0 && keys.len() == steps && stacks(self.pair, target, &keys)? {
            return Ok(Some(Way::Stack { keys }));
        }
        Ok(joins(self.pair, target, &keys, axis)?.then_some(Way::Concat { keys, axis }))
    }
}

/// The rows of a view, in a target's format, that are wanted: their hashes, and where they are.
fn found(
    pair: &Pair<'_>,
    format: Format,
    view: &View,
    row: u64,
    wanted: &BTreeSet<Hash>,
) -> Result<Vec<(Hash, u64)>, ConvertError> {
    let mut found = Vec::new();
    let assembly = Assembly::of(view.clone());
    each_row(pair, view, row, |at, count, scratch| {
        let Some(parts) = pair.wanted(format, &assembly, at, count, 0.0, scratch)? else { return Ok(()) };
        let rows = (count / row) as usize;
        for nth in 0..rows {
            let cut = |part: &Vec<u8>| part.len() / rows * nth..part.len() / rows * (nth + 1);
            let own = hash(parts.iter().map(|part| &part[cut(part)]));
            if wanted.contains(&own) {
                found.push((own, at / row + nth as u64));
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// Whether a target is these whole tensors on a new first axis.
fn stacks(pair: &Pair<'_>, target: &Target, keys: &[String]) -> Result<bool, ConvertError> {
    let tensors = pair.release.tensors();
    if !keys.iter().all(|key| tensors[key].shape == target.shape[1..]) {
        return Ok(false);
    }
    let views = keys.iter().flat_map(|key| whole(pair.release, key).views).collect();
    pair.holds(target, &piece(Assembly::sequence(views), target, &keys[0]), 0.0)
}

/// Whether a target is these whole tensors joined along an axis.
///
/// # Errors
/// Where a file cannot be read.
pub fn joins(pair: &Pair<'_>, target: &Target, keys: &[String], axis: usize) -> Result<bool, ConvertError> {
    let shapes: Vec<&Vec<u64>> = keys.iter().map(|key| &pair.release.tensors()[key].shape).collect();
    let fits = shapes.iter().all(|shape| {
        shape.len() == target.shape.len() && (0..shape.len()).all(|at| at == axis || shape[at] == target.shape[at])
    });
    if !fits || shapes.iter().map(|shape| shape[axis]).sum::<u64>() != target.shape[axis] {
        return Ok(false);
    }
    let views = keys.iter().flat_map(|key| whole(pair.release, key).views).collect();
    pair.holds(target, &piece(Assembly::concat(views, shapes[0], axis), target, &keys[0]), 0.0)
}

/// Orders of axes in which rows are read: as they are, the last two exchanged, and those that bring a channel to the end or from it.
fn orders(rank: usize) -> Vec<Vec<usize>> {
    let mut all = vec![(0..rank).collect::<Vec<_>>()];
    if rank >= 2 {
        all.push((0..rank - 2).chain([rank - 1, rank - 2]).collect());
    }
    if rank >= 3 {
        all.push([0].into_iter().chain(2..rank).chain([1]).collect());
        all.push((1..rank).chain([0]).collect());
    }
    all.dedup();
    all
}

/// Windows of whole rows.
fn each_row(
    pair: &Pair<'_>,
    view: &View,
    row: u64,
    mut visit: impl FnMut(u64, u64, &mut Scratch) -> Result<(), ConvertError>,
) -> Result<(), ConvertError> {
    let mut scratch = Scratch::default();
    for (at, count) in windows(view.len(), (pair.window / row).max(1) * row) {
        visit(at, count, &mut scratch)?;
    }
    Ok(())
}

/// The element where a row of a view begins.
fn begin(view: &View, mut row: u64) -> u64 {
    let mut offset = view.start;
    for axis in view.axes[..view.axes.len() - 1].iter().rev() {
        offset += row % axis.len * axis.stride;
        row /= axis.len;
    }
    offset
}

/// Numbers that go up by steps within steps, as axes; `None` where they do not.
pub(super) fn nested(numbers: &[u64]) -> Option<Vec<Axis>> {
    let [first, second, ..] = numbers else { return Some(Vec::new()) };
    let step = second.checked_sub(*first).filter(|&step| step > 0)?;
    let even = |run: &[u64]| run.windows(2).all(|two| two[1].checked_sub(two[0]) == Some(step));
    let count = numbers.len();
    let run = (2..=count).rev().find(|&run| count.is_multiple_of(run) && numbers.chunks(run).all(even))?;
    let heads: Vec<u64> = numbers.iter().copied().step_by(run).collect();
    let mut axes = nested(&heads)?;
    axes.push(Axis { len: run as u64, stride: step });
    Some(axes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_within_steps_are_axes() {
        let axis = |len, stride| Axis { len, stride };
        assert_eq!(nested(&[7]), Some(vec![]));
        assert_eq!(nested(&[5, 8, 11]), Some(vec![axis(3, 3)]));
        assert_eq!(nested(&[0, 4, 1, 5, 2, 6, 3, 7]), Some(vec![axis(4, 1), axis(2, 4)]));
        assert_eq!(nested(&[0, 1, 10, 11, 20, 21]), Some(vec![axis(3, 10), axis(2, 1)]));
        for none in [&[0, 2, 1][..], &[3, 3], &[0, 1, 2, 4], &[2, 1]] {
            assert_eq!(nested(none), None, "{none:?}");
        }
    }
}
