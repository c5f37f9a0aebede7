//! A module: a part of the model that has a PyTorch path and runs alone.

use std::collections::BTreeMap;

use mlx_rs::Array;

use super::{Operation, Pass, Site};
use crate::error::{Error, Result};

/// A part of the model that can be found by its PyTorch path and run on its own.
pub trait Module {
    /// Where it is.
    fn site(&self) -> &Site;

    /// Runs it on `inputs`, given as PyTorch gave them (order and layout), and returns what PyTorch returned.
    /// Taps inside it are shown as in a whole pass.
    ///
    /// # Errors
    /// When the inputs do not fit.
    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array>;

    /// The modules inside it, in PyTorch's order.
    fn children(&self) -> Vec<&dyn Module> {
        Vec::new()
    }

    /// The bare operations of its own, without those of the modules inside it.
    fn operations(&self) -> Vec<Operation> {
        Vec::new()
    }

    /// The bare operations that a value meets on its way through, for the runtime's floor.
    fn chain(&self) -> Vec<Operation> {
        let mut all = self.operations();
        self.children().into_iter().for_each(|child| all.extend(child.chain()));
        all
    }
}

/// The only input of a module with one.
///
/// # Errors
/// When there is none.
pub fn one<'a>(site: &Site, inputs: &'a [Array]) -> Result<&'a Array> {
    match inputs {
        [x, ..] => Ok(x),
        [] => Err(Error::input(site.path(), "an input", "none")),
    }
}

/// `modules` and all that are inside them, by PyTorch path.
pub fn by_path<'a>(modules: impl IntoIterator<Item = &'a dyn Module>) -> BTreeMap<&'a str, &'a dyn Module> {
    fn add<'a>(module: &'a dyn Module, all: &mut BTreeMap<&'a str, &'a dyn Module>) {
        all.insert(module.site().path(), module);
        module.children().into_iter().for_each(|child| add(child, all));
    }
    let mut all = BTreeMap::new();
    modules.into_iter().for_each(|module| add(module, &mut all));
    all
}
