//! Tensors inside routed experts: which token each row is, and what a handful of rows can tell.
//!
//! An expert's tokens stand in whatever order the recording's program gathered them in (PyTorch's is an unstable `argsort`). A
//! recording that kept the router's input says which row is which: a row of `experts.N.in` is, bit for bit, a row of `gate.in`.
//! So the rows of two recordings can be laid side by side, whatever the order of each.

use std::collections::HashMap;

use mlxport_fixtures::{Data, Fixture, Kind, NoiseFloor, Point, Result};
use mlxport_verdict::{Mode, Reference, compare};

/// What one recording says of the experts of all layers.
#[derive(Debug, Default)]
pub struct Experts {
    /// By the expert's path and call: for each recorded row, its place among the expert's tokens in token order.
    ranks: HashMap<(String, u32), Vec<usize>>,
    /// By mode, layer, tensor inside the expert, call and kind: the relative floor over the rows of all experts.
    floors: HashMap<Place, f64>,
    /// By layer and call: what the recorded run is off from float64 at the worst token that enters the experts.
    worst_tokens: HashMap<(String, u32), f64>,
}

/// Mode, layer, tensor inside the expert, call and kind.
type Place = (Mode, String, String, u32, Kind);

/// `model.layers.1.mlp.experts.5.up_proj` → (`model.layers.1.mlp`, `5`, `up_proj`).
fn split(path: &str) -> Option<(&str, &str, &str)> {
    let (layer, rest) = path.split_once(".experts.")?;
    Some(match rest.split_once('.') {
        Some((number, inside)) => (layer, number, inside),
        None => (layer, rest, ""),
    })
}

/// Whether a point lies inside a routed expert.
pub(crate) fn is_inside(point: &Point) -> bool {
    split(&point.point).is_some()
}

impl Experts {
    /// Reads the order of rows and pools the floors, which `floor` tells for each point and mode. `points` are the fixture's,
    /// under whatever names.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn read(
        fixture: &Fixture,
        points: &[Point],
        floor: impl Fn(&Point, Mode) -> Option<NoiseFloor>,
    ) -> Result<Self> {
        let modes = [Mode::Cumulative, Mode::Isolated];
        let floors = modes.into_iter().flat_map(|mode| pooled_floors(points, mode, &floor)).collect();
        let mut experts = Self { floors, ..Self::default() };
        for gate in points.iter().filter(|p| p.kind == Kind::In(0) && p.sampling.is_none()) {
            let Some(layer) = gate.point.strip_suffix(".gate") else { continue };
            let tokens = fixture.recorded_as_is(gate)?.data;
            experts.note_worst_token(fixture, layer, gate, &tokens)?;
            if let Some(tokens) = bits(&tokens) {
                let mine = |point: &&Point| {
                    let whole_expert =
                        split(&point.point).is_some_and(|(of, _, inside)| of == layer && inside.is_empty());
                    whole_expert && point.kind == Kind::In(0) && point.call == gate.call && point.sampling.is_none()
                };
                for point in points.iter().filter(mine) {
                    experts.note_order(fixture, point, &tokens)?;
                }
            }
        }
        Ok(experts)
    }

    fn note_order(&mut self, fixture: &Fixture, point: &Point, tokens: &[u64]) -> Result<()> {
        let Some(rows) = bits(&fixture.recorded_as_is(point)?.data) else { return Ok(()) };
        let width = point.shape.last().copied().unwrap_or(1).max(1);
        if let Some(ranks) = ranks(&rows, tokens, width) {
            self.ranks.insert((point.point.clone(), point.call), ranks);
        }
        Ok(())
    }

    fn note_worst_token(&mut self, fixture: &Fixture, layer: &str, gate: &Point, tokens: &Data) -> Result<()> {
        let Data::F32(tokens) = tokens else { return Ok(()) };
        let Some(Data::F64(truth)) = fixture.truth(gate)?.map(|truth| truth.data) else { return Ok(()) };
        if let Ok(metrics) = compare(&gate.shape, Reference::F64(&truth), tokens) {
            self.worst_tokens.insert((layer.to_owned(), gate.call), metrics.worst_row.rel_l2);
        }
        Ok(())
    }

    /// The floor at this place over the rows of all experts of the layer: one expert's few rows are too few to measure one.
    #[must_use]
    pub fn pooled_floor(&self, point: &Point, mode: Mode) -> Option<f64> {
        let (layer, _, inside) = split(&point.point)?;
        self.floors.get(&(mode, layer.to_owned(), inside.to_owned(), point.call, point.kind)).copied()
    }

    /// In a whole pass, an expert inherits the error of the tokens it is given, and a token that arrives ill-conditioned is
    /// off by another amount with every library's order of summation. Which expert gets it is chance: the floor of all is
    /// that of the worst token that enters the layer's experts, where the fixture has the float64 run to tell.
    #[must_use]
    pub fn inherited_floor(&self, point: &Point) -> Option<f64> {
        let (layer, ..) = split(&point.point)?;
        self.worst_tokens.get(&(layer.to_owned(), point.call)).copied()
    }

    /// For each recorded row of a tensor inside an expert that has `rows` of them, its place among the expert's tokens in the
    /// tokens' own order; nothing where that is not known.
    #[must_use]
    pub fn order(&self, point: &Point, rows: usize) -> Option<&[usize]> {
        let (layer, number, _) = split(&point.point)?;
        let ranks = self.ranks.get(&(format!("{layer}.experts.{number}"), point.call))?;
        (ranks.len() == rows).then_some(ranks)
    }

    /// The candidate's rows in this recording's order; nothing where one of the two does not tell its own.
    pub(crate) fn in_this_order(&self, point: &Point, candidate: &Self, values: &Data) -> Option<Data> {
        let rows = point.shape.first().copied().filter(|rows| *rows > 0)?;
        let (ours, theirs) = (self.order(point, rows)?, candidate.order(point, rows)?);
        let width = values.len() / rows;
        let mut row_of_rank = vec![0; rows];
        for (row, rank) in theirs.iter().enumerate() {
            row_of_rank[*rank] = row;
        }
        let order = || ours.iter().map(|rank| row_of_rank[*rank] * width);
        Some(match values {
            Data::F32(values) => Data::F32(in_order(values, order(), width)),
            Data::F64(values) => Data::F64(in_order(values, order(), width)),
            Data::I64(values) => Data::I64(in_order(values, order(), width)),
            Data::Bool(values) => Data::Bool(in_order(values, order(), width)),
        })
    }
}

/// The rows that begin at `starts`, one after the other.
fn in_order<T: Copy>(values: &[T], starts: impl Iterator<Item = usize>, width: usize) -> Vec<T> {
    starts.flat_map(|start| values[start..start + width].iter().copied()).collect()
}

/// The bits of floats; nothing of other values.
fn bits(data: &Data) -> Option<Vec<u64>> {
    match data {
        Data::F32(values) => Some(values.iter().map(|value| u64::from(value.to_bits())).collect()),
        Data::F64(values) => Some(values.iter().map(|value| value.to_bits()).collect()),
        Data::I64(_) | Data::Bool(_) => None,
    }
}

/// For each row, its token's place among the tokens of all rows, each place once; nothing when a row is no token's.
fn ranks(rows: &[u64], tokens: &[u64], width: usize) -> Option<Vec<usize>> {
    let mut places: HashMap<&[u64], Vec<usize>> = HashMap::new();
    for (token, row) in tokens.chunks_exact(width).enumerate().rev() {
        places.entry(row).or_default().push(token);
    }
    // Equal tokens are taken in turn: whichever is which, their rows are equal.
    let order: Option<Vec<usize>> = rows.chunks_exact(width).map(|row| places.get_mut(row)?.pop()).collect();
    let order = order?;
    let mut sorted = order.clone();
    sorted.sort_unstable();
    Some(order.iter().map(|token| sorted.partition_point(|t| t < token)).collect())
}

fn pooled_floors(
    points: &[Point],
    mode: Mode,
    floor: impl Fn(&Point, Mode) -> Option<NoiseFloor>,
) -> HashMap<Place, f64> {
    let mut sums: HashMap<_, (f64, f64)> = HashMap::new();
    for point in points {
        let Some((layer, _, inside)) = split(&point.point) else { continue };
        let Some(measured) = floor(point, mode) else { continue };
        let sum = sums.entry((mode, layer.to_owned(), inside.to_owned(), point.call, point.kind)).or_default();
        let count = point.numel() as f64;
        sum.0 += count * measured.rms.powi(2);
        sum.1 += count * measured.ref_rms.powi(2);
    }
    let relative = |(error, reference): (f64, f64)| if reference > 0.0 { (error / reference).sqrt() } else { 0.0 };
    sums.into_iter().map(|(key, sum)| (key, relative(sum))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_by_their_bits_and_equal_tokens_are_taken_in_turn() {
        let ranks = |rows: &[f32]| {
            let tokens = Data::F32(vec![1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 1.0, 1.5]);
            super::ranks(&bits(&Data::F32(rows.to_vec()))?, &bits(&tokens)?, 2)
        };
        assert_eq!(ranks(&[3.0, 3.5, 1.0, 1.5, 1.0, 1.5]), Some(vec![1, 0, 2]));
        assert_eq!(ranks(&[9.0, 9.0]), None);
        assert_eq!(ranks(&[2.0, 2.5, 2.0, 2.5]), None, "a token that is there once is there once");
    }

    #[test]
    fn a_path_is_split_at_the_experts_number() {
        assert_eq!(split("a.mlp.experts.12.up_proj"), Some(("a.mlp", "12", "up_proj")));
        assert_eq!(split("a.mlp.experts.3"), Some(("a.mlp", "3", "")));
        assert_eq!(split("a.mlp.gate"), None);
    }
}
