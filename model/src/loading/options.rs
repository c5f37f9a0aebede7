//! How a model is loaded.

use mlx_rs::Dtype;

use super::edits::Edits;
use crate::backend::runtime::DeviceKind;

/// How a model is loaded.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// The dtype of activations: `Float32` or `Bfloat16`. Weights keep theirs and are widened when used.
    pub dtype: Dtype,
    /// Whether what every token meets (all but the routed experts) is widened once and stays so: twice the memory of that part.
    pub keeps_widened: bool,
    /// What is read otherwise than it is stored.
    pub edits: Edits,
    /// Whether weights of one input are laid side by side in memory, so that one product can serve all. None: on a GPU, where all are read.
    pub joins: Option<bool>,
    /// PyTorch paths of the modules that will be run; only their weights are read. None: all.
    pub only: Option<Vec<String>>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { dtype: Dtype::Float32, keeps_widened: false, edits: Edits::default(), joins: None, only: None }
    }
}

impl LoadOptions {
    /// What text is made in, where nothing is said: bfloat16 as released on a GPU, float32 on a CPU, which has a BLAS for that and none for bfloat16
    /// (one prompt's products there: 205 and 6 GFLOP/s).
    #[must_use]
    pub fn usual(device: DeviceKind) -> Self {
        match device {
            DeviceKind::Cpu => Self::float32(),
            DeviceKind::Gpu => Self::bfloat16(),
        }
    }

    /// Text in float32. Weights that every token uses are widened once: otherwise each token would wait for that.
    #[must_use]
    pub fn float32() -> Self {
        Self { keeps_widened: true, ..Self::default() }
    }

    /// As released: activations in bfloat16.
    #[must_use]
    pub fn bfloat16() -> Self {
        Self { dtype: Dtype::Bfloat16, ..Self::default() }
    }
}
