//! The experts that the recording's routers chose, for runs that must take the same.
//!
//! In bfloat16 a token in some thirty is so close between two experts that rounding decides, in PyTorch as here, and after another
//! choice nothing that the token meets can be compared. So a bfloat16 run is judged twice: its routers' own choices, near ties
//! excused, and everything after them given the recorded choices, as PyTorch's bfloat16 floors were measured.

use std::collections::HashMap;

use mlx_rs::{Array, ops::indexing::TryIndexOp};
use mlxport_fixtures::{Data, Fixture, Kind};

use crate::{error::Result, floors::Basis, host};

/// Recorded choices, handed out token by token.
#[derive(Debug, Clone, Default)]
pub struct Routing {
    /// By router: \[tokens, k\], int32.
    chosen: HashMap<String, Array>,
    /// How many tokens of each have been handed out.
    given: HashMap<String, i32>,
}

impl Routing {
    /// The choices of a recording; none for a float32 run, which is held to its own.
    ///
    /// # Errors
    /// When the fixture cannot be read.
    pub fn read(fixture: &Fixture, basis: Basis) -> Result<Self> {
        let mut routing = Self::default();
        if basis.is_exact() {
            return Ok(routing);
        }
        let whole = |p: &&mlxport_fixtures::Point| p.sets && p.sampling.is_none() && p.shape.len() == 2;
        for point in fixture.points().iter().filter(|p| p.kind == Kind::Out && p.call == 0).filter(whole) {
            let recorded = fixture.recorded(point)?;
            if matches!(recorded.data, Data::I64(_)) {
                routing.chosen.insert(point.point.clone(), host::array(&recorded, mlx_rs::Dtype::Float32)?);
            }
        }
        Ok(routing)
    }

    /// What the router at `path` must take for its next `tokens` tokens; nothing where the recording has no so many.
    ///
    /// # Errors
    /// MLX's.
    pub fn next(&mut self, path: &str, tokens: i32) -> Result<Option<Array>> {
        let Some(chosen) = self.chosen.get(path) else { return Ok(None) };
        let given = self.given.entry(path.to_owned()).or_default();
        let (start, end) = (*given, *given + tokens);
        *given = end;
        if end > chosen.dim(0) {
            return Ok(None);
        }
        Ok(Some(chosen.try_index(start..end)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_handed_out_once_each_and_no_more_than_there_are() -> Result<()> {
        let chosen = Array::from_slice(&[1, 2, 3, 4, 5, 6], &[3, 2]);
        let mut routing = Routing { chosen: HashMap::from([("a".to_owned(), chosen)]), given: HashMap::new() };
        assert!(routing.next("b", 1)?.is_none());
        let values = |array: Option<Array>| host::integers(&array.expect("some"));
        assert_eq!(values(routing.next("a", 2)?)?, [1, 2, 3, 4]);
        assert_eq!(values(routing.next("a", 1)?)?, [5, 6]);
        assert!(routing.next("a", 1)?.is_none());
        Ok(())
    }
}
