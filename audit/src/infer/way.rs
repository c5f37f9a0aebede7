//! A way to make a target of the release, and whether it holds.

use mlxport_convert::checkpoint::{Checkpoint, TensorSource};
use mlxport_convert::error::ConvertError;
use mlxport_convert::transforms::{Assembly, View};

use super::layout::Layout;
use crate::expect::Piece;
use crate::names;
use crate::target::{Format, Target};
use crate::verify::{Pair, windows};

/// How a target is made of the release.
#[derive(Debug, Clone, PartialEq)]
pub enum Way {
    /// Of elements of one tensor, with a number added.
    One { key: String, layout: Layout, plus: i32 },
    /// Of whole tensors, one for each step of the first axis.
    Stack { keys: Vec<String> },
    /// Of whole tensors joined along an axis.
    Concat { keys: Vec<String>, axis: usize },
}

impl Way {
    /// The release's keys.
    pub fn keys(&self) -> &[String] {
        match self {
            Self::One { key, .. } => std::slice::from_ref(key),
            Self::Stack { keys } | Self::Concat { keys, .. } => keys,
        }
    }

    /// What is added to the values of one tensor; `None` where several are joined.
    pub fn plus(&self) -> Option<i32> {
        match self {
            Self::One { plus, .. } => Some(*plus),
            _ => None,
        }
    }
}

/// A whole tensor as an assembly.
pub fn whole(release: &Checkpoint, key: &str) -> Assembly {
    let info = &release.tensors()[key];
    Assembly::of(View::stored(key, info.dtype, &info.shape, &info.strides))
}

/// Whether a layout of a release's tensor is the whole target.
///
/// # Errors
/// Where a file cannot be read.
pub fn holds(pair: &Pair<'_>, target: &Target, layout: &Layout, key: &str) -> Result<bool, ConvertError> {
    let Some(info) = pair.release.tensors().get(key) else { return Ok(false) };
    let reach = layout.start + layout.axes.iter().flatten().map(|step| (step.len - 1) * step.stride).sum::<u64>();
    if reach >= info.shape.iter().product() {
        return Ok(false);
    }
    let axes = layout.axes.iter().flatten().copied().collect();
    let view = View { key: key.to_owned(), dtype: info.dtype, start: layout.start, axes };
    let piece = piece(Assembly::of(view), target, key);
    pair.holds(target, &piece, 0.0)
}

/// All of a target, made so.
pub fn piece(assembly: Assembly, target: &Target, key: &str) -> Piece {
    Piece { first: 0, len: target.len(), assembly, raw: None, sources: vec![key.to_owned()], expert: None }
}

/// How much two keys are alike: their words, and above all the same numbers.
pub fn score(target: &str, key: &str) -> i64 {
    let same = names::indices(target) == names::indices(key);
    names::overlap(target, key) + if same { 1000 } else { 0 }
}

/// Whether all values of a target are one number, so that content says nothing of where it comes from.
///
/// # Errors
/// Where a file cannot be read.
pub fn is_constant(pair: &Pair<'_>, target: &Target) -> Result<bool, ConvertError> {
    let mut first: Option<Vec<u8>> = None;
    let Format::Plain(dtype) = target.format else { return Ok(false) };
    for (at, count) in windows(target.len(), 1 << 16) {
        let parts = target.read(pair.mlx, at, count)?;
        for value in parts[0].chunks(dtype.bitsize() / 8) {
            match &first {
                None => first = Some(value.to_vec()),
                Some(first) if first != value => return Ok(false),
                Some(_) => {}
            }
        }
    }
    Ok(true)
}
