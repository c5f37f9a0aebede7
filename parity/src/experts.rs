//! Taps inside routed experts: the port keeps the tokens' own order, a recording that of its program.

use mlx_rs::Array;
use mlxport_compare::Experts;
use mlxport_fixtures::Point;

use crate::error::Result;

/// Puts the port's rows in the recording's order. A tap that is not an expert's stays as it is; so does one whose rows
/// cannot be told apart or are not as many (the comparison then says so).
///
/// # Errors
/// MLX's.
pub fn in_recorded_order(experts: &Experts, point: &Point, candidate: &Array) -> Result<Array> {
    let rows = if candidate.ndim() == 2 { candidate.dim(0) as usize } else { 0 };
    match experts.order(point, rows) {
        Some(ranks) if rows > 0 => {
            let ranks: Vec<i32> = ranks.iter().map(|rank| *rank as i32).collect();
            Ok(candidate.take_axis(Array::from_slice(&ranks, &[ranks.len() as i32]), 0)?)
        }
        _ => Ok(candidate.clone()),
    }
}
