//! Taps inside routed experts: which token each row is, and what a handful of rows can tell.
//!
//! PyTorch hands an expert its tokens in the order of an unstable `argsort`, so the order of rows is the recording machine's;
//! the port keeps the tokens' own order. The recording says which row is which: a row of `experts.N.in` is, bit for bit, a
//! row of `gate.in`.

use std::collections::HashMap;

use mlx_rs::Array;
use mlxport_fixtures::{Data, Fixture, Kind, Point};
use mlxport_verdict::{Mode, Precision, Reference, compare};

use crate::{error::Result, floors};

/// What the fixture says of the experts of all layers.
#[derive(Debug, Default)]
pub struct Experts {
    /// By the expert's path and call: for each recorded row, its place among the expert's tokens in token order.
    ranks: HashMap<(String, u32), Vec<i32>>,
    /// By mode, layer, tensor inside the expert and call: the relative floor over the rows of all experts.
    floors: HashMap<Place, f64>,
    /// By layer and call: what float32 PyTorch is off from float64 at the worst token that enters the experts.
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

impl Experts {
    /// Reads the order of rows and pools the floors.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn read(fixture: &Fixture, precision: Precision) -> Result<Self> {
        let modes = [Mode::Cumulative, Mode::Isolated];
        let floors = modes.into_iter().flat_map(|mode| pooled_floors(fixture.points(), precision, mode)).collect();
        let mut experts = Self { floors, ..Self::default() };
        for gate in fixture.points().iter().filter(|p| p.kind == Kind::In(0)) {
            let Some(layer) = gate.point.strip_suffix(".gate") else { continue };
            let Data::F32(tokens) = fixture.recorded(gate)?.data else { continue };
            experts.note_worst_token(fixture, layer, gate, &tokens)?;
            experts.note_order(fixture, layer, gate, &tokens)?;
        }
        Ok(experts)
    }

    /// Puts the port's rows in the recording's order. A tap that is not an expert's stays as it is; so does one whose rows
    /// cannot be told apart or are not as many (the comparison then says so).
    ///
    /// # Errors
    /// MLX's.
    pub fn in_recorded_order(&self, point: &Point, candidate: &Array) -> Result<Array> {
        let Some((layer, number, _)) = split(&point.point) else { return Ok(candidate.clone()) };
        let ranks = self.ranks.get(&(format!("{layer}.experts.{number}"), point.call));
        match ranks.filter(|ranks| candidate.ndim() == 2 && ranks.len() == candidate.dim(0) as usize) {
            Some(ranks) => Ok(candidate.take_axis(Array::from_slice(ranks, &[ranks.len() as i32]), 0)?),
            None => Ok(candidate.clone()),
        }
    }

    /// Which token each row of the layer's experts is.
    fn note_order(&mut self, fixture: &Fixture, layer: &str, gate: &Point, tokens: &[f32]) -> Result<()> {
        for point in fixture.points().iter().filter(|p| p.kind == Kind::In(0) && p.call == gate.call) {
            let Some((_, _, "")) = split(&point.point).filter(|(of, ..)| *of == layer) else { continue };
            let Data::F32(rows) = fixture.recorded(point)?.data else { continue };
            let width = point.shape.last().copied().unwrap_or(1).max(1);
            if let Some(ranks) = ranks(&rows, tokens, width) {
                self.ranks.insert((point.point.clone(), point.call), ranks);
            }
        }
        Ok(())
    }

    fn note_worst_token(&mut self, fixture: &Fixture, layer: &str, gate: &Point, tokens: &[f32]) -> Result<()> {
        let Some(Data::F64(truth)) = fixture.truth(gate)?.map(|truth| truth.data) else { return Ok(()) };
        if let Ok(metrics) = compare(&gate.shape, Reference::F64(&truth), tokens) {
            self.worst_tokens.insert((layer.to_owned(), gate.call), metrics.worst_row.rel_l2);
        }
        Ok(())
    }

    /// In a whole pass, an expert inherits the error of the tokens it is given, and a token that arrives ill-conditioned is
    /// off by another amount with every library's order of summation. Which expert gets it is chance: the floor of all is
    /// that of the worst token that enters the layer's experts, where the fixture has the float64 run to tell.
    pub fn inherited_floor(&self, point: &Point) -> Option<f64> {
        let (layer, ..) = split(&point.point)?;
        self.worst_tokens.get(&(layer.to_owned(), point.call)).copied()
    }

    /// The floor at this place over the rows of all experts of the layer: one expert's few rows are too few to measure one.
    pub fn pooled_floor(&self, point: &Point, mode: Mode) -> Option<f64> {
        let (layer, _, inside) = split(&point.point)?;
        self.floors.get(&(mode, layer.to_owned(), inside.to_owned(), point.call, point.kind)).copied()
    }
}

/// For each row, its token's place among the tokens of all rows; nothing when a row is no token's.
fn ranks(rows: &[f32], tokens: &[f32], width: usize) -> Option<Vec<i32>> {
    let bits = |row: &[f32]| row.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
    let mut places: HashMap<Vec<u32>, Vec<usize>> = HashMap::new();
    for (token, row) in tokens.chunks_exact(width).enumerate().rev() {
        places.entry(bits(row)).or_default().push(token);
    }
    // Equal tokens are taken in turn: whichever is which, their rows are equal.
    let order: Option<Vec<usize>> = rows.chunks_exact(width).map(|row| places.get_mut(&bits(row))?.pop()).collect();
    let order = order?;
    let mut sorted = order.clone();
    sorted.sort_unstable();
    Some(order.iter().map(|token| sorted.partition_point(|t| t < token) as i32).collect())
}

fn pooled_floors(points: &[Point], precision: Precision, mode: Mode) -> HashMap<Place, f64> {
    let mut sums: HashMap<_, (f64, f64)> = HashMap::new();
    for point in points {
        let Some((layer, _, inside)) = split(&point.point) else { continue };
        let Some(measured) = floors::recorded(point, precision, mode) else { continue };
        let sum = sums.entry((mode, layer.to_owned(), inside.to_owned(), point.call, point.kind)).or_default();
        let count = point.numel() as f64;
        sum.0 += count * measured.rms.powi(2);
        sum.1 += count * measured.ref_rms.powi(2);
    }
    let floor = |(error, reference): (f64, f64)| if reference > 0.0 { (error / reference).sqrt() } else { 0.0 };
    sums.into_iter().map(|(key, sum)| (key, floor(sum))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_by_their_bits_and_equal_tokens_are_taken_in_turn() {
        let tokens = [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 1.0, 1.5];
        assert_eq!(ranks(&[3.0, 3.5, 1.0, 1.5, 1.0, 1.5], &tokens, 2), Some(vec![1, 0, 2]));
        assert_eq!(ranks(&[9.0, 9.0], &tokens, 2), None);
    }

    #[test]
    fn a_path_is_split_at_the_experts_number() {
        assert_eq!(split("a.mlp.experts.12.up_proj"), Some(("a.mlp", "12", "up_proj")));
        assert_eq!(split("a.mlp.experts.3"), Some(("a.mlp", "3", "")));
        assert_eq!(split("a.mlp.gate"), None);
    }
}
