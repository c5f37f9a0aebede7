//! What makes a model fast: the released arithmetic with steps that look at one element at a time as one kernel on a GPU.

use mlx_rs::Array;

use super::plain::{Plain, halves};
use crate::{
    backend::{fused, runtime},
    contract::{At, Operation, Step, Steps},
    error::Result,
};

/// What users run.
#[derive(Debug, Clone, Copy)]
pub struct Tuned;

impl Steps for Tuned {
    fn run(&self, at: At, step: Step) -> Result<Array> {
        if !runtime::is_gpu() {
            return Plain.run(at, step);
        }
        match step {
            Step::Activate { x, function: Operation::Gelu } => fused::gelu(x),
            Step::Activate { x, function: Operation::QuickGelu } => fused::quick_gelu(x),
            Step::Gate { both, function: Operation::Silu } => {
                let (gate, up) = halves(both)?;
                fused::gated(&gate, &up)
            }
            Step::Rotate { x, positions, .. } => match positions.turning(x.dtype()) {
                Some((cos, turning)) if x.dim(2) == 1 => fused::rotated(x, cos, turning),
                _ => Plain.run(at, step),
            },
            Step::Combine { outputs, weights, shared } => fused::summed(outputs, weights, shared),
            _ => Plain.run(at, step),
        }
    }

    fn together(&self) -> bool {
        true
    }

    fn keeps(&self) -> bool {
        true
    }
}
