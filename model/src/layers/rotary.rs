//! Rotary positions (`LlamaRotaryEmbedding`, `apply_rotary_pos_emb` of transformers 4.46.3).
//!
//! The release computes angles, cosines and sines in float32 whatever the model's dtype, and an angle of hundreds of radians
//! keeps only the rounding it was given. So the tables are made on the host in the same float32 steps; the cosines and sines
//! of those angles are exact to the last bit.

use mlx_rs::{Array, Dtype};

use crate::{
    backend::Positions,
    contract::{Kind, Module, Operation, Pass, Site, one},
    error::{Error, Result},
};

/// The frequencies of one attention module.
pub struct RotaryEmbedding {
    site: Site,
    inverse_frequencies: Vec<f32>,
}

impl RotaryEmbedding {
    /// Frequencies `base^(-2i/head_dim)`.
    pub fn new(site: Site, head_dim: i32, base: f64) -> Self {
        let frequency = |i: i32| {
            let exponent = (2 * i) as f32 / head_dim as f32;
            1.0 / (base.powf(f64::from(exponent)) as f32)
        };
        Self { site, inverse_frequencies: (0..head_dim / 2).map(frequency).collect() }
    }

    /// Tables for position ids \[B, T\], read from the device, or as the host made them.
    ///
    /// # Errors
    /// MLX's.
    pub fn positions(&self, ids: &Array) -> Result<Positions> {
        // What the host has made is read as it is: another operation would run on the device first.
        let list = if ids.dtype() == Dtype::Int32 { ids.clone() } else { ids.as_dtype(Dtype::Int32)?.contiguous()? };
        Ok(self.tables(list.contiguous()?.try_as_slice::<i32>()?, ids))
    }

    fn tables(&self, list: &[i32], ids: &Array) -> Positions {
        let mut values = Vec::with_capacity(list.len() * self.inverse_frequencies.len() * 2);
        let mut table = |f: fn(f64) -> f64| {
            values.clear();
            for &position in list {
                let start = values.len();
                let angles = self.inverse_frequencies.iter().map(|frequency| frequency * position as f32);
                values.extend(angles.map(|angle| f(f64::from(angle)) as f32));
                // Both halves turn by the same angles.
                values.extend_from_within(start..);
            }
            Array::from_slice(&values, &[ids.dim(0), ids.dim(1), 2 * self.inverse_frequencies.len() as i32])
        };
        let (cos, sin) = (table(f64::cos), table(f64::sin));
        Positions::new(ids.clone(), cos, sin)
    }

    /// Shows the taps of PyTorch's module, which is given the values only for their dtype.
    pub(crate) fn show(&self, values: &Array, positions: &Positions, pass: &Pass) -> Result<()> {
        let path = self.site.path();
        pass.show(path, Kind::Input(0), || Ok(values.clone()))?;
        pass.show(path, Kind::Input(1), || Ok(positions.ids().clone()))?;
        pass.show(path, Kind::Output, || Ok(positions.cos().clone()))
    }
}

impl Module for RotaryEmbedding {
    fn site(&self) -> &Site {
        &self.site
    }

    /// Cosines \[1, T, head_dim\] for (values, position ids): PyTorch returns the sines, too; the recordings keep the first.
    fn call(&self, inputs: &[Array], _pass: &Pass) -> Result<Array> {
        let _values = one(&self.site, inputs)?;
        match inputs {
            [_, ids, ..] => Ok(self.positions(ids)?.cos().clone()),
            _ => Err(Error::input(self.site.path(), "values and position ids", "1 input")),
        }
    }

    fn operations(&self) -> Vec<Operation> {
        vec![Operation::Rope { head_dim: 2 * self.inverse_frequencies.len() as i32 }]
    }
}
