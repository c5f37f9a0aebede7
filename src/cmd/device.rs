//! `--device`: where a model runs.

use mlxport_model::runtime::Place;

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Device {
    /// The processor
    Cpu,
    /// The accelerator: Metal on a Mac, CUDA where setup brought it
    Gpu,
}

impl Device {
    /// As the model takes it.
    pub fn place(self) -> Place {
        match self {
            Self::Cpu => Place::Cpu,
            Self::Gpu => Place::Gpu,
        }
    }
}
