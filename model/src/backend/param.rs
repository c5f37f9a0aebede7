//! A weight as stored.
//!
//! Weights stay in the dtype they were stored in and are widened when used, so that a float32 run of a bfloat16 release
//! holds one widened layer at a time.

use std::cell::OnceCell;

use mlx_rs::{Array, Dtype};

use crate::error::Result;

/// A weight as stored, widened to the dtype of what it meets.
#[derive(Debug, Clone)]
pub struct Param {
    stored: Array,
    /// The stored weight with its last two axes exchanged: a view, kept because making one costs the host as much as a product.
    turned: OnceCell<Array>,
}

impl Param {
    /// Wraps a stored tensor.
    pub fn new(stored: Array) -> Self {
        Self { stored, turned: OnceCell::new() }
    }

    /// The weight in `dtype`.
    ///
    /// # Errors
    /// MLX's.
    pub fn to(&self, dtype: Dtype) -> Result<Array> {
        Ok(if self.stored.dtype() == dtype { self.stored.clone() } else { self.stored.as_dtype(dtype)? })
    }

    /// The weight in `dtype`, its last two axes exchanged: \[…, out, in\] → \[…, in, out\].
    ///
    /// # Errors
    /// MLX's.
    pub fn turned(&self, dtype: Dtype) -> Result<Array> {
        if self.stored.dtype() != dtype {
            return Ok(self.to(dtype)?.swap_axes(-1, -2)?);
        }
        if let Some(turned) = self.turned.get() {
            return Ok(turned.clone());
        }
        let turned = self.stored.swap_axes(-1, -2)?;
        Ok(self.turned.get_or_init(|| turned).clone())
    }

    /// The weight as stored.
    pub fn stored(&self) -> &Array {
        &self.stored
    }
}
