//! Other steps than the released ones: planted faults and correct variants, as data that wraps any [`Steps`].
//!
//! A fault is a list of [`StepEdit`]s: where, and what is done to the steps there. A correct variant is the same, everywhere.

mod assembly;
mod decoder;
mod experts;
mod undone;
mod variants;
mod vision;

use mlx_rs::{Array, ops};
use mlxport_model::{
    Result,
    backend::resample::{Bicubic, LinearMode},
    contract::{At, Operation, Step, Steps},
};

pub use assembly::*;
pub use decoder::*;
pub use experts::*;
pub use undone::undone;
pub use variants::VARIANTS;
pub use vision::*;

/// Which modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Modules {
    /// How their paths begin.
    pub begins: &'static str,
    /// How they end.
    pub ends: &'static str,
    /// Which of a module's steps of a kind; empty: each.
    pub name: &'static str,
}

impl Modules {
    /// One module.
    #[must_use]
    pub const fn is(path: &'static str) -> Self {
        Self { begins: path, ends: path, name: "" }
    }

    /// Those below `begins` whose paths end so.
    #[must_use]
    pub const fn below(begins: &'static str, ends: &'static str) -> Self {
        Self { begins, ends, name: "" }
    }

    /// Only steps of this name.
    #[must_use]
    pub const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    fn holds(self, at: At) -> bool {
        // A path that is both beginning and end is the whole path.
        let is_whole = self.begins != self.ends || at.path == self.begins;
        let is_there =
            at.path.starts_with(self.begins) && at.path.ends_with(self.ends) && (is_whole || self.begins.is_empty());
        is_there && (self.name.is_empty() || self.name == at.name)
    }
}

/// What is done to a step there; steps that an edit is not about pass as they are.
#[derive(Debug, Clone, Copy)]
pub enum Edit {
    /// Another activation.
    Function(Operation),
    /// Square tables by another filter.
    Bicubic(Bicubic),
    /// Rows by another filter.
    Linear(LinearMode),
    /// Anything else: computes the step by the steps underneath, with other operands, another result, or not at all.
    By(fn(&dyn Steps, At, Step) -> Result<Array>),
}

/// One change: where, and what.
#[derive(Debug, Clone, Copy)]
pub struct StepEdit {
    /// Where.
    pub at: Modules,
    /// What.
    pub edit: Edit,
}

impl StepEdit {
    /// At a place.
    #[must_use]
    pub const fn new(at: Modules, edit: Edit) -> Self {
        Self { at, edit }
    }

    /// Everywhere.
    #[must_use]
    pub const fn everywhere(edit: fn(&dyn Steps, At, Step) -> Result<Array>) -> Self {
        Self { at: Modules { begins: "", ends: "", name: "" }, edit: Edit::By(edit) }
    }
}

/// Steps with edits.
pub struct Edited<'a> {
    inner: &'a dyn Steps,
    edits: &'a [StepEdit],
}

impl<'a> Edited<'a> {
    /// `inner`, changed by the first of `edits` that holds at a step's place.
    #[must_use]
    pub fn new(inner: &'a dyn Steps, edits: &'a [StepEdit]) -> Self {
        Self { inner, edits }
    }
}

impl Steps for Edited<'_> {
    fn run(&self, at: At, step: Step) -> Result<Array> {
        let mut edits = self.edits.iter().filter(|edit| edit.at.holds(at));
        match edits.next() {
            // Others may hold at the same place, for steps that the first is not about.
            Some(edit) => {
                let rest = Rest { inner: self.inner, edits: edits.collect() };
                edit.edit.apply(&rest, at, step)
            }
            None => self.inner.run(at, step),
        }
    }

    fn together(&self) -> bool {
        self.inner.together()
    }

    fn keeps(&self) -> bool {
        self.edits.is_empty() && self.inner.keeps()
    }
}

/// The edits that are left at one place.
struct Rest<'a> {
    inner: &'a dyn Steps,
    edits: Vec<&'a StepEdit>,
}

impl Steps for Rest<'_> {
    fn run(&self, at: At, step: Step) -> Result<Array> {
        match self.edits.split_first() {
            Some((edit, rest)) => edit.edit.apply(&Rest { inner: self.inner, edits: rest.to_vec() }, at, step),
            None => self.inner.run(at, step),
        }
    }

    fn together(&self) -> bool {
        self.inner.together()
    }
}

impl Edit {
    fn apply(self, inner: &dyn Steps, at: At, step: Step) -> Result<Array> {
        let changed = match (self, step) {
            (Self::By(f), step) => return f(inner, at, step),
            (Self::Function(function), Step::Activate { x, .. }) => Step::Activate { x, function },
            (Self::Function(function), Step::Gate { both, .. }) => Step::Gate { both, function },
            (Self::Bicubic(mode), Step::Resample { table, size, dtype, .. }) => {
                Step::Resample { table, size, mode, dtype }
            }
            (Self::Linear(mode), Step::ResampleRows { rows, size, dtype, .. }) => {
                Step::ResampleRows { rows, size, mode, dtype }
            }
            (_, step) => step,
        };
        inner.run(at, changed)
    }
}

/// Rows of an axis by number.
pub(crate) fn taken(x: &Array, axis: i32, indices: impl Iterator<Item = i32>) -> Result<Array> {
    let indices: Vec<i32> = indices.collect();
    Ok(x.take_axis(Array::from_slice(&indices, &[indices.len() as i32]), axis)?)
}

/// Zeros like `x`, made of it: what depends on it is still there.
fn emptied(x: &Array) -> Result<Array> {
    Ok(ops::zeros_like(x)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_module_or_those_below_it() {
        let at = |path| At { path, name: "mlp" };
        assert!(Modules::is("model").holds(at("model")) && !Modules::is("model").holds(at("model.model")));
        let below = Modules::below("model.layers.", ".mlp");
        assert!(below.holds(at("model.layers.3.mlp")) && !below.holds(at("model.layers.3.mlp.gate")));
        assert!(
            below.named("mlp").holds(at("model.layers.3.mlp")) && !below.named("x").holds(at("model.layers.3.mlp"))
        );
        assert!(StepEdit::everywhere(|inner, at, step| inner.run(at, step)).at.holds(at("anything")));
    }
}
