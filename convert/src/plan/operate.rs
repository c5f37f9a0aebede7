//! What each operation makes of its sources: the target shapes, and the views their elements are read through.

use crate::recipe::expr::{Dims, Expr};
use crate::recipe::{Lay, Op};
use crate::transforms::{Assembly, View};

use super::outputs::PlannedSource;
use super::rearrange::{self, Made, Misfit};

/// Shape and assembly of each of the operation's `targets`. Ranks have been checked with the recipe.
pub(super) fn results(op: &Op, targets: usize, sources: &[PlannedSource], dims: &Dims) -> Result<Vec<Made>, Misfit> {
    let first = &sources[0];
    let shape = &first.shape;
    let wholes = || sources.iter().map(PlannedSource::view).collect::<Vec<_>>();
    let one = |shape: Vec<u64>, view: View| Ok(vec![(shape, Assembly::of(view))]);
    match op {
        Op::Copy | Op::Drop { .. } => Ok(vec![(shape.clone(), Assembly::of(first.view())); targets]),
        Op::Add { number } => Ok(vec![(shape.clone(), Assembly::of(first.view()).plus(*number))]),
        Op::ConvOihwToOhwi => one(vec![shape[0], shape[2], shape[3], shape[1]], first.view().conv_ohwi()),
        Op::Transpose => one(vec![shape[1], shape[0]], first.view().permuted(&[1, 0])),
        Op::Permute { view, lay } => rearrange::permute(first, view.as_deref(), lay, dims),
        Op::Split { view, axis, sizes, lays } => {
            rearrange::split(first, view.as_deref(), *axis, sizes.as_deref(), lays, dims)
        }
        Op::PermuteUnfold { kernel_height, kernel_width } => {
            let area = kernel_area(kernel_height, kernel_width, dims)
                .filter(|&area| area > 0 && shape[1].is_multiple_of(area));
            let area = area.ok_or_else(|| {
                let expected = format!("columns in multiples of {kernel_height} x {kernel_width}");
                (expected, shape[1].to_string())
            })?;
            one(shape.clone(), first.view().unfold_columns(area))
        }
        Op::SplitQkv => rearrange::split(first, None, 0, None, &[Lay::default(), Lay::default(), Lay::default()], dims),
        Op::Stack { .. } => {
            let mut stacked = vec![sources.len() as u64];
            stacked.extend(shape);
            Ok(vec![(stacked, Assembly::sequence(wholes()))])
        }
        Op::Concat { axis } => {
            let joined = concat_shape(sources, *axis)?;
            Ok(vec![(joined, Assembly::concat(wholes(), shape, *axis))])
        }
    }
}

fn kernel_area(height: &Expr, width: &Expr, dims: &Dims) -> Option<u64> {
    let side = |expr: &Expr| u64::try_from(expr.eval(dims, None).ok()?).ok();
    side(height)?.checked_mul(side(width)?)
}

/// The shape of sources joined along `axis`; they must agree in every other.
fn concat_shape(sources: &[PlannedSource], axis: usize) -> Result<Vec<u64>, Misfit> {
    let mut joined = sources[0].shape.clone();
    for source in &sources[1..] {
        let agree = source.shape.len() == joined.len()
            && (0..joined.len()).all(|at| at == axis || source.shape[at] == joined[at]);
        if !agree {
            let expected = format!("{joined:?} but for axis {axis}");
            return Err((expected, format!("{:?}", source.shape)));
        }
        joined[axis] += source.shape[axis];
    }
    Ok(joined)
}
