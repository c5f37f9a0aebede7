//! Tensors between MLX and this program's memory.

use mlx_rs::{Array, Dtype};
use mlxport_fixtures::{Data, Tensor};

use crate::error::{Error, Result};

/// The values of an array as float32, row-major; evaluates it.
///
/// # Errors
/// MLX's.
pub fn floats(array: &Array) -> Result<Vec<f32>> {
    if array.size() == 0 {
        return Ok(Vec::new());
    }
    let array = array.as_dtype(Dtype::Float32)?.contiguous()?;
    Ok(array.try_as_slice::<f32>()?.to_vec())
}

/// The values of an integer array, row-major; evaluates it.
///
/// # Errors
/// MLX's.
pub fn integers(array: &Array) -> Result<Vec<i64>> {
    if array.size() == 0 {
        return Ok(Vec::new());
    }
    let array = array.as_dtype(Dtype::Int64)?.contiguous()?;
    Ok(array.try_as_slice::<i64>()?.to_vec())
}

/// A recorded tensor as an MLX array: floats in `dtype`, integers as int32, flags as bool.
///
/// # Errors
/// When an integer does not fit int32.
pub fn array(tensor: &Tensor, dtype: Dtype) -> Result<Array> {
    let shape: Vec<i32> = tensor.shape.iter().map(|&d| d as i32).collect();
    Ok(match &tensor.data {
        Data::F32(values) => Array::from_slice(values, &shape).as_dtype(dtype)?,
        Data::F64(values) => {
            let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            Array::from_slice(&values, &shape).as_dtype(dtype)?
        }
        Data::I64(values) => {
            let narrow: std::result::Result<Vec<i32>, _> = values.iter().map(|&v| i32::try_from(v)).collect();
            let narrow = narrow.map_err(|_| Error::Mismatch("a recorded integer does not fit int32".into()))?;
            Array::from_slice(&narrow, &shape)
        }
        Data::Bool(values) => Array::from_slice(values, &shape),
    })
}
