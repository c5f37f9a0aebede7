//! `--device`: where a model runs.

use mlxport_model::runtime::DeviceKind;

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
    pub fn kind(self) -> DeviceKind {
        match self {
            Self::Cpu => DeviceKind::Cpu,
            Self::Gpu => DeviceKind::Gpu,
        }
    }
}
