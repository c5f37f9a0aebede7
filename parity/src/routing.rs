//! The experts that the recording's routers chose, for runs that must take the same.
//!
//! After another choice nothing that the token meets can be compared. In float32 that is as it should be: a wrong choice is a fault, and
//! what follows inherits it. Only where two experts are so close that rounding decides (a near tie, excused) the token is given
//! the recorded experts, so that one tie does not hide what comes after it. In bfloat16 a token in some thirty is such a tie, in
//! PyTorch as here. So a bfloat16 run is judged twice: its routers' own choices, near ties excused, and everything after them given the
//! recorded choices, as PyTorch's bfloat16 floors were measured; a run on packed weights likewise.

use std::{collections::HashMap, rc::Rc};

use mlx_rs::{Array, ops::indexing::TryIndexOp};
use mlxport_fixtures::{Data, Fixture, Kind};

use crate::{
    error::Result,
    host,
    ties::{Scores, needed_errors},
};

/// Recorded choices, handed out token by token.
#[derive(Debug, Clone, Default)]
pub struct Routing {
    /// By router: \[tokens, k\], int32. Every run hands out the same.
    chosen: Rc<HashMap<String, Array>>,
    /// How many tokens of each have been handed out.
    given: HashMap<String, i32>,
}

impl Routing {
    /// The choices of a recording.
    ///
    /// # Errors
    /// When the fixture cannot be read.
    pub fn read(fixture: &Fixture) -> Result<Self> {
        let mut chosen = HashMap::new();
        let whole = |p: &&mlxport_fixtures::Point| p.sets && p.sampling.is_none() && p.shape.len() == 2;
        for point in fixture.points().iter().filter(|p| p.kind == Kind::Out && p.call == 0).filter(whole) {
            let recorded = fixture.recorded(point)?;
            if matches!(recorded.data, Data::I64(_)) {
                chosen.insert(point.point.clone(), host::array(&recorded, mlx_rs::Dtype::Float32)?);
            }
        }
        Ok(Self { chosen: Rc::new(chosen), given: HashMap::new() })
    }

    /// Whether there are choices of the router at `path`.
    pub fn knows(&self, path: &str) -> bool {
        self.chosen.contains_key(path)
    }

    /// What the router at `path` chose in the recording for its next `tokens` tokens; nothing where the recording has no so many.
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

/// `own` (\[tokens, k\]) with the recorded experts, `given`, in the rows that differ by a near tie: a logit error of at most `tolerance`
/// explains them. None where there is no such row.
///
/// # Errors
/// MLX's.
pub fn near_ties_replayed(given: &Array, own: &Array, scores: &Scores, tolerance: f64) -> Result<Option<Array>> {
    if given.shape() != own.shape() || scores.experts.dim(0) != own.dim(0) || own.ndim() != 2 {
        return Ok(None);
    }
    let k = own.dim(1) as usize;
    let (recorded, mut taken) = (host::integers(given)?, host::integers(own)?);
    let needed = needed_errors(scores, k, &recorded, &taken)?;
    let (mut any, rows) = (false, taken.chunks_exact_mut(k).zip(recorded.chunks_exact(k)).zip(needed));
    for ((row, recorded), needed) in rows {
        let differs = recorded.iter().any(|expert| !row.contains(expert));
        if differs && (0.0..=tolerance).contains(&needed) {
            row.copy_from_slice(recorded);
            any = true;
        }
    }
    let taken: Vec<i32> = taken.into_iter().filter_map(|expert| i32::try_from(expert).ok()).collect();
    Ok((any && taken.len() == own.size()).then(|| Array::from_slice(&taken, own.shape())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_handed_out_once_each_and_no_more_than_there_are() -> Result<()> {
        let chosen = Array::from_slice(&[1, 2, 3, 4, 5, 6], &[3, 2]);
        let chosen = Rc::new(HashMap::from([("a".to_owned(), chosen)]));
        let mut routing = Routing { chosen, given: HashMap::new() };
        assert!(routing.next("b", 1)?.is_none());
        let values = |array: Option<Array>| host::integers(&array.expect("some"));
        assert_eq!(values(routing.next("a", 2)?)?, [1, 2, 3, 4]);
        assert_eq!(values(routing.next("a", 1)?)?, [5, 6]);
        assert!(routing.next("a", 1)?.is_none());
        Ok(())
    }

    #[test]
    fn only_near_ties_take_the_recorded_experts() -> Result<()> {
        // Logits 0, −1e-6, −1; then the same for a token that simply chose wrongly; then one that chose the same.
        let row = [1.0, 1.0 - 1e-6, 0.367_879_45];
        let scores = Scores { experts: Array::from_slice(&[row, row, row].concat(), &[3, 3]), groups: None };
        let given = Array::from_slice(&[1, 2, 0], &[3, 1]);
        let own = Array::from_slice(&[0, 0, 0], &[3, 1]);
        let taken = near_ties_replayed(&given, &own, &scores, 1e-5)?.expect("one row");
        assert_eq!(host::integers(&taken)?, [1, 0, 0]);
        assert!(near_ties_replayed(&given, &own, &scores, 1e-7)?.is_none(), "within no tolerance");
        assert!(near_ties_replayed(&own, &own, &scores, 1e-5)?.is_none(), "nothing differs");
        Ok(())
    }
}
