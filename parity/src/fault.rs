//! A planted fault: what is done to a model before it is judged.

use mlxport_model::loading::{ConfigEdit, Edits, WeightEdit};

use crate::steps::StepEdit;

/// One mistake.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Wrong numbers in the config.
    Config(Vec<ConfigEdit>),
    /// Wrong weights.
    Weights(Vec<WeightEdit>),
    /// Wrong steps in the computation.
    Steps(Vec<StepEdit>),
}

impl Fault {
    /// What is read otherwise than it is stored.
    #[must_use]
    pub fn edits(&self) -> Edits {
        match self.clone() {
            Self::Config(config) => Edits { config, ..Edits::default() },
            Self::Weights(weights) => Edits { weights, ..Edits::default() },
            Self::Steps(_) => Edits::default(),
        }
    }

    /// What is computed otherwise.
    #[must_use]
    pub fn steps(&self) -> &[StepEdit] {
        if let Self::Steps(edits) = self { edits } else { &[] }
    }
}
