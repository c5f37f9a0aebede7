//! The MLX underneath: which version, which device.

use std::ffi::CStr;

use mlx_rs::{Array, Device, DeviceType};

use crate::error::{Error, Result};

/// Where the model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum DeviceKind {
    /// The processor.
    Cpu,
    /// The accelerator: Metal on a Mac, CUDA where setup brought it.
    Gpu,
}

/// Makes `kind` MLX's default device and tries it.
///
/// # Errors
/// When this MLX has no such device.
pub fn use_device(kind: DeviceKind) -> Result<()> {
    let device = match kind {
        DeviceKind::Cpu => Device::cpu(),
        DeviceKind::Gpu => Device::gpu(),
    };
    let one_and_one = || Array::from_f32(1.0).add(Array::from_f32(1.0));
    // MLX's C interface ends the process on an error until mlx-rs has installed its handler, with the first operation.
    one_and_one()?;
    Device::set_default(&device);
    let found = match Device::try_default()?.get_type()? {
        DeviceType::Cpu => DeviceKind::Cpu,
        DeviceType::Gpu => DeviceKind::Gpu,
    };
    if found != kind {
        return Err(Error::input("device", format!("{kind:?}"), "this MLX was built without it"));
    }
    one_and_one()?.eval()?;
    Ok(())
}

/// Whether the default device is a GPU.
pub fn is_gpu() -> bool {
    matches!(Device::try_default().map(|device| device.get_type()), Ok(Ok(DeviceType::Gpu)))
}

/// MLX's own version, as the loaded library says it.
#[allow(unsafe_code, reason = "mlx-rs does not wrap mlx_version")]
pub fn mlx_version() -> String {
    // SAFETY: the string is created, filled, read and freed here; `mlx_string_data` is NUL-terminated while it lives.
    unsafe {
        let mut text = mlx_sys::mlx_string_new();
        let version = if mlx_sys::mlx_version(&mut text) == 0 {
            CStr::from_ptr(mlx_sys::mlx_string_data(text)).to_string_lossy().into_owned()
        } else {
            "unknown".to_owned()
        };
        mlx_sys::mlx_string_free(text);
        version
    }
}
