//! How steps are computed: chosen from outside, never by the model.

/// Who computes. [`Plain`] is the released arithmetic, one kernel after another; [`Tuned`] is what makes a model fast.
pub trait Steps {
    /// Whether work that PyTorch does one after the other is done together: views side by side, joined matrices, experts gathered.
    fn together(&self) -> bool;
}

/// The released arithmetic.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

/// What users run.
#[derive(Debug, Clone, Copy)]
pub struct Tuned;

impl Steps for Plain {
    fn together(&self) -> bool {
        false
    }
}

impl Steps for Tuned {
    fn together(&self) -> bool {
        true
    }
}
