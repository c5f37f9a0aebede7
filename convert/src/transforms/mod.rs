//! Transforms: how an output tensor is gathered from its sources, in pieces of any size.
//!
//! Every operation but one is a rearrangement, so an output tensor is a sequence of [`View`]s (strided windows on source tensors) laid one
//! after another, `interleave` times over. [`Assembly::read`] produces any range of output elements straight from the source: no
//! whole tensor is ever held, and a stack of experts is read expert by expert into its place.

mod assembly;
pub mod cast;
mod gather;
mod view;

pub use assembly::Assembly;
pub use gather::Scratch;
pub use view::{Axis, View};
