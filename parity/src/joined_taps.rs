//! One pass in several parts, shown as one: the taps of every part are kept, joined, and shown when all are there.
//!
//! Only a [`Driver`](crate::driver::Driver) runs in parts: tiles one at a time, a prompt in chunks through the cache.

use std::collections::HashMap;

use mlx_rs::{Array, ops};

use mlxport_model::{
    Pass, Result,
    contract::{Kind, Listener},
};

/// Keeps the taps of several parts.
pub struct JoinedTaps<'a, 'b> {
    outer: &'a Pass<'b>,
    /// In the order in which they were first seen.
    order: Vec<(String, Kind)>,
    parts: HashMap<(String, Kind), Vec<Array>>,
}

/// Along which axis the parts of a tap are joined; none: every part shows the same.
pub type Axis = fn(path: &str, kind: Kind, part: &Array) -> Option<i32>;

impl<'a, 'b> JoinedTaps<'a, 'b> {
    /// Keeps what `outer` wants.
    pub fn new(outer: &'a Pass<'b>) -> Self {
        Self { outer, order: Vec::new(), parts: HashMap::new() }
    }

    /// Runs every part and joins what they return along `axis`; the taps are joined as `axis_of` says and shown.
    pub fn run(
        mut self,
        parts: impl Iterator<Item = Array>,
        (axis, axis_of): (i32, Axis),
        mut f: impl FnMut(&Array, &Pass) -> Result<Array>,
    ) -> Result<Array> {
        let mut outputs = Vec::new();
        for part in parts {
            outputs.push({
                let outer = self.outer;
                f(&part, &outer.for_another(&mut self))?
            });
        }
        for (path, kind) in std::mem::take(&mut self.order) {
            let Some(parts) = self.parts.remove(&(path.clone(), kind)) else { continue };
            self.outer.show(&path, kind, || match axis_of(&path, kind, &parts[0]) {
                Some(axis) => Ok(ops::concatenate(&parts, axis)?),
                None => Ok(parts[0].clone()),
            })?;
        }
        Ok(ops::concatenate(&outputs, axis)?)
    }
}

impl Listener for JoinedTaps<'_, '_> {
    fn tap(&mut self, path: &str, kind: Kind, value: Array) -> Result<()> {
        let parts = self.parts.entry((path.to_owned(), kind)).or_default();
        if parts.is_empty() {
            self.order.push((path.to_owned(), kind));
        }
        // Now, while the part's own graph is small: the parts of a long prompt would pile up into one.
        value.eval()?;
        if matches!(kind, Kind::Scores | Kind::Groups) {
            // Who says which experts are taken (`routes`) asks what this part's router saw.
            self.outer.show(path, kind, || Ok(value.clone()))?;
        }
        parts.push(value);
        Ok(())
    }

    fn routes(&mut self, path: &str, own: &Array) -> Result<Option<Array>> {
        self.outer.routes(path, own)
    }

    fn wants(&self, path: &str) -> bool {
        self.outer.listening(path)
    }
}

/// Images are apart along the first axis; position tables, position ids and their cosines are the same for all.
pub fn axis_of_images(path: &str, kind: Kind, part: &Array) -> Option<i32> {
    let is_table = path.ends_with(".position_embedding");
    let is_of_positions =
        (kind == Kind::Input(1) && part.ndim() == 2) || (kind == Kind::Output && path.ends_with(".rotary_emb"));
    (!is_table && !is_of_positions).then_some(0)
}

/// Tokens lie along the first axis of a router's choices and of experts' rows, before the heads' width where there are heads,
/// and along the second axis elsewhere.
pub fn axis_of_tokens(_path: &str, kind: Kind, part: &Array) -> Option<i32> {
    Some(match (part.ndim(), kind) {
        (2, Kind::Input(1)) | (3, _) => 1,
        (2, _) => 0,
        _ => 2,
    })
}
