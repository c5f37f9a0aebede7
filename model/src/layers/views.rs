//! Views of different sizes (a page's tiles and the whole of it) that go through an encoder together: what looks at one place at a time is
//! computed once for the places of all, what looks around is computed for each.
//!
//! A single view keeps its shape, so what is shown to a listener is what PyTorch has. Rows of a product do not depend on how many there are:
//! together or one after the other, the numbers are those of the same sums.

use mlx_rs::{Array, ops, ops::indexing::TryIndexOp};

use crate::error::Result;

/// The axes of each view, all but the last.
#[derive(Debug, Clone)]
pub(crate) struct Views(Vec<Vec<i32>>);

impl Views {
    /// Puts views \[…, C\] together: one as it is, several as \[places, C\].
    pub(crate) fn join(views: &[Array]) -> Result<(Self, Array)> {
        let shapes = Self(views.iter().map(axes).collect());
        let joined = shapes.together(views)?;
        Ok((shapes, joined))
    }

    /// A single view of the shape of `x`.
    pub(crate) fn single(x: &Array) -> Self {
        Self(vec![axes(x)])
    }

    /// Each view of `x`, which lies as [`Views::join`] left it; the last axis may have another length by now.
    pub(crate) fn apart(&self, x: &Array) -> Result<Vec<Array>> {
        if self.0.len() == 1 {
            return Ok(vec![x.clone()]);
        }
        let parts = cut(x, self.0.iter().map(|axes| axes.iter().product()))?;
        let shaped =
            parts.iter().zip(&self.0).map(|(part, axes)| Ok(part.reshape(&[axes, &[x.dim(-1)][..]].concat())?));
        shaped.collect()
    }

    /// `f` of each view of `x`, put together again.
    pub(crate) fn each(&self, x: &Array, f: impl FnMut(&Array) -> Result<Array>) -> Result<Array> {
        self.together(&self.apart(x)?.iter().map(f).collect::<Result<Vec<_>>>()?)
    }

    /// The inverse of [`Views::apart`].
    pub(crate) fn together(&self, views: &[Array]) -> Result<Array> {
        match views {
            [one] => Ok(one.clone()),
            _ => {
                let rows = views.iter().map(|view| view.reshape(&[-1, view.dim(-1)]));
                Ok(ops::concatenate(&rows.collect::<std::result::Result<Vec<_>, _>>()?, 0)?)
            }
        }
    }
}

/// Runs `f` once on arrays that differ in their first axis only, and cuts what it returns as they were.
pub(crate) fn side_by_side(parts: &[Array], f: impl FnOnce(&Array) -> Result<Array>) -> Result<Vec<Array>> {
    if let [one] = parts {
        return Ok(vec![f(one)?]);
    }
    cut(&f(&ops::concatenate(parts, 0)?)?, parts.iter().map(|part| part.dim(0)))
}

/// All axes but the last.
fn axes(view: &Array) -> Vec<i32> {
    view.shape().split_last().map_or(&[][..], |(_, axes)| axes).to_vec()
}

/// Parts of so many rows, one after the other.
fn cut(x: &Array, counts: impl Iterator<Item = i32>) -> Result<Vec<Array>> {
    let mut start = 0;
    let parts = counts.map(|count| {
        start += count;
        Ok(x.try_index(start - count..start)?)
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{self, DeviceKind};

    fn counted(shape: &[i32]) -> Array {
        Array::from_slice(&(0..shape.iter().product()).map(|at| at as f32).collect::<Vec<_>>(), shape)
    }

    #[test]
    fn what_is_put_together_comes_apart_as_it_was() -> Result<()> {
        runtime::use_device(DeviceKind::Cpu)?;
        let given = [counted(&[1, 3, 3, 2]), counted(&[4, 2, 2, 2])];
        let (views, joined) = Views::join(&given)?;
        assert_eq!(joined.shape(), [25, 2]);
        for (got, want) in views.apart(&joined)?.iter().zip(&given) {
            assert_eq!(got.shape(), want.shape());
            assert_eq!(got.contiguous()?.try_as_slice::<f32>()?, want.try_as_slice::<f32>()?);
        }
        let wider = views.each(&joined, |view| Ok(ops::concatenate(&[view, view], -1)?))?;
        assert_eq!(wider.shape(), [25, 4]);
        assert_eq!(views.apart(&wider)?[1].shape(), [4, 2, 2, 4]);

        let (one, same) = Views::join(&given[..1])?;
        assert_eq!(same.shape(), given[0].shape());
        assert_eq!(one.apart(&same)?[0].shape(), given[0].shape());
        Ok(())
    }

    #[test]
    fn side_by_side_is_one_after_the_other() -> Result<()> {
        runtime::use_device(DeviceKind::Cpu)?;
        let given = [counted(&[2, 3]), counted(&[5, 3])];
        let doubled = side_by_side(&given, |x| Ok(x.add(x)?))?;
        for (got, one) in doubled.iter().zip(&given) {
            assert_eq!(got.contiguous()?.try_as_slice::<f32>()?, one.add(one)?.try_as_slice::<f32>()?);
        }
        Ok(())
    }
}
