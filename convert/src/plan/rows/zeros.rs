//! A target that a loader demands and some releases do not have: zeros in its place, where the recipe says so.

use super::*;

impl<'a> Planner<'a> {
    /// Makes the target of zeros where the row says so and its key is missing; whether it did. They take the dtype of the first tensor planned.
    pub(super) fn zeros(
        &mut self,
        row: &Row,
        action: &Action,
        numbers: &Numbers<'a>,
        shapes: &[Option<Vec<u64>>],
    ) -> bool {
        let key = row.sources[0].0.key(numbers);
        let missing = !self.tensors.contains_key(&key) && !self.unreadable.covers(&key);
        let (Some(_), true, [Some(shape)]) = (&row.zeros_if_missing, missing, shapes) else { return false };
        self.claimed.insert(key, row.number);
        let shape = match action.op {
            Op::ConvOihwToOhwi => [0, 2, 3, 1].iter().filter_map(|&axis: &usize| shape.get(axis).copied()).collect(),
            Op::Transpose => shape.iter().rev().copied().collect(),
            _ => shape.clone(),
        };
        let dtype = self.outputs.first().map_or(Dtype::BF16, |output| output.dtype);
        for target in &action.targets {
            self.make(OutputTensor {
                name: target.key(numbers),
                dtype,
                shape: shape.clone(),
                sources: Vec::new(),
                op: "zeros".to_owned(),
                row: row.number,
                assembly: Assembly::sequence(Vec::new()),
                making: Making::Zeros,
            });
        }
        true
    }
}
