//! Cosines and sines of positions, and what the tokens there see.

use mlx_rs::{Array, Dtype};

use crate::error::Result;

/// Cosines and sines of a run of positions, both \[B, T, head_dim\], float32.
#[derive(Debug, Clone)]
pub struct Positions {
    ids: Array,
    cos: Array,
    sin: Array,
    /// Made once for all layers, \[B, 1, T, head_dim\] in the dtype of the activations.
    by_head: Option<ByHead>,
    /// Which places the tokens see, where it is not all before them.
    mask: Option<Array>,
}

/// Cosines and sines, and sines of which the first half is negated.
#[derive(Debug, Clone)]
struct ByHead {
    cos: Array,
    sin: Array,
    turning: Array,
}

impl Positions {
    /// Of ids \[B, T\], with their cosines and sines.
    pub fn new(ids: Array, cos: Array, sin: Array) -> Self {
        Self { ids, cos, sin, by_head: None, mask: None }
    }

    /// The cosines, \[B, T, d\], float32.
    pub fn cos(&self) -> &Array {
        &self.cos
    }

    /// With what each token sees, \[B, 1, T, places\], true or false; none: all before it and itself.
    #[must_use]
    pub fn seeing(self, mask: Option<Array>) -> Self {
        Self { mask, ..self }
    }

    /// With tables made for activations of `dtype`.
    ///
    /// # Errors
    /// MLX's.
    pub fn of_dtype(self, dtype: Dtype) -> Result<Self> {
        let table = |t: &Array| -> Result<Array> { Ok(t.as_dtype(dtype)?.expand_dims(1)?) };
        let half = self.sin.dim(2) / 2;
        let signs: Vec<f32> = (0..2 * half).map(|at| if at < half { -1.0 } else { 1.0 }).collect();
        let turning = table(&self.sin.multiply(Array::from_slice(&signs, &[2 * half]))?)?;
        let by_head = Some(ByHead { cos: table(&self.cos)?, sin: table(&self.sin)?, turning });
        Ok(Self { by_head, ..self })
    }

    /// Which places the tokens see, where it is not all before them.
    pub fn mask(&self) -> Option<&Array> {
        self.mask.as_ref()
    }

    /// The position ids, \[B, T\].
    pub fn ids(&self) -> &Array {
        &self.ids
    }

    /// The tables as they are, \[B, T, d\], float32.
    pub fn tables(&self) -> (&Array, &Array) {
        (&self.cos, &self.sin)
    }

    /// Cosines and sines for heads, \[B, 1, T, d\] in `dtype`.
    ///
    /// # Errors
    /// MLX's.
    pub fn cos_sin(&self, dtype: Dtype) -> Result<(Array, Array)> {
        if let Some(tables) = self.by_head.as_ref().filter(|tables| tables.cos.dtype() == dtype) {
            return Ok((tables.cos.clone(), tables.sin.clone()));
        }
        let table = |t: &Array| -> Result<Array> { Ok(t.as_dtype(dtype)?.expand_dims(1)?) };
        Ok((table(&self.cos)?, table(&self.sin)?))
    }

    /// Cosines, and sines of which the first half is negated, where they were made for `dtype`.
    pub fn turning(&self, dtype: Dtype) -> Option<(&Array, &Array)> {
        let tables = self.by_head.as_ref().filter(|tables| tables.cos.dtype() == dtype)?;
        Some((&tables.cos, &tables.turning))
    }
}
