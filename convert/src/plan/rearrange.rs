//! `permute` and `split`: a source read in some shape, cut along an axis, its axes put in order, written under a result's shape.
//!
//! Nothing is moved for it: every result is one strided [`View`] on the stored tensor.

use crate::dtype::element_count;
use crate::recipe::Lay;
use crate::recipe::expr::{Dims, Expr};
use crate::transforms::{Assembly, View};

use super::outputs::PlannedSource;

/// A target's shape and how its elements are read.
pub(super) type Made = (Vec<u64>, Assembly);
/// What an operation expected and what it found.
pub(super) type Misfit = (String, String);

/// One target: all of the source.
pub(super) fn permute(
    source: &PlannedSource,
    view: Option<&[Expr]>,
    lay: &Lay,
    dims: &Dims,
) -> Result<Vec<Made>, Misfit> {
    Ok(vec![laid(viewed(source, view, dims)?, lay, dims)?])
}

/// A target for each part along `axis` of the view: of these sizes, or as many equal ones as there are `lays`.
pub(super) fn split(
    source: &PlannedSource,
    view: Option<&[Expr]>,
    axis: usize,
    sizes: Option<&[Expr]>,
    lays: &[Lay],
    dims: &Dims,
) -> Result<Vec<Made>, Misfit> {
    let whole = viewed(source, view, dims)?;
    let len = whole.axes[axis].len;
    let sizes = match sizes {
        Some(sizes) => shape_of(sizes, dims)?,
        None if len.is_multiple_of(lays.len() as u64) => vec![len / lays.len() as u64; lays.len()],
        None => return Err((format!("axis {axis} in multiples of {}", lays.len()), len.to_string())),
    };
    let sum = sizes.iter().try_fold(0_u64, |sum, &size| sum.checked_add(size));
    if sum != Some(len) {
        return Err((format!("sizes {sizes:?} that make up axis {axis}"), len.to_string()));
    }
    let mut from = 0;
    let mut parts = Vec::new();
    for (&size, lay) in sizes.iter().zip(lays) {
        parts.push(laid(whole.clone().narrowed(axis, from, size), lay, dims)?);
        from += size;
    }
    Ok(parts)
}

/// The source in the shape it is to be read in.
fn viewed(source: &PlannedSource, view: Option<&[Expr]>, dims: &Dims) -> Result<View, Misfit> {
    let Some(exprs) = view else {
        return Ok(source.view());
    };
    let shape = shape_of(exprs, dims)?;
    source
        .view()
        .reshaped(&shape)
        .ok_or_else(|| (format!("a tensor to read as {shape:?}"), format!("{:?}", source.shape)))
}

/// The part with its axes in order, and the shape it is written with.
fn laid(part: View, lay: &Lay, dims: &Dims) -> Result<Made, Misfit> {
    let view = match &lay.order {
        Some(order) => part.permuted(order),
        None => part,
    };
    let own: Vec<u64> = view.axes.iter().map(|axis| axis.len).collect();
    let shape = match &lay.result {
        Some(exprs) => shape_of(exprs, dims)?,
        None => own.clone(),
    };
    if element_count(&shape) != Some(view.len()) {
        return Err((format!("elements for a result of {shape:?}"), format!("{own:?}")));
    }
    Ok((shape, Assembly::of(view)))
}

/// The numbers that the expressions stand for.
fn shape_of(exprs: &[Expr], dims: &Dims) -> Result<Vec<u64>, Misfit> {
    let size = |expr: &Expr| {
        let value = expr.eval(dims, None).map_err(|error| (format!("a size for {expr}"), error.to_string()))?;
        let fits = (0..=i128::from(u32::MAX)).contains(&value);
        if fits { Ok(value as u64) } else { Err((format!("a size for {expr}"), value.to_string())) }
    };
    exprs.iter().map(size).collect()
}
