//! Rotary positions (`LlamaRotaryEmbedding`, `apply_rotary_pos_emb` of transformers 4.46.3).
//!
//! The release computes angles, cosines and sines in float32 whatever the model's dtype, and an angle of hundreds of radians
//! keeps only the rounding it was given. So the tables are made on the host in the same float32 steps; the cosines and sines
//! of those angles are exact to the last bit.

use mlx_rs::{Array, Dtype, ops, ops::indexing::TryIndexOp};

use crate::{
    backend::{fused, runtime},
    contract::{Kind, Module, Operation, Pass, Site, one},
    error::{Error, Result},
    fault::{GraphFault, Planted, Variant},
};

/// The frequencies of one attention module.
pub struct RotaryEmbedding {
    site: Site,
    inverse_frequencies: Vec<f32>,
    planted: Planted,
}

impl RotaryEmbedding {
    /// Frequencies `base^(-2i/head_dim)`.
    pub fn new(site: Site, head_dim: i32, base: f64, planted: Planted) -> Self {
        let frequency = |i: i32| {
            let exponent = (2 * i) as f32 / head_dim as f32;
            1.0 / (base.powf(f64::from(exponent)) as f32)
        };
        Self { site, inverse_frequencies: (0..head_dim / 2).map(frequency).collect(), planted }
    }

    /// Tables for position ids \[B, T\], read from the device.
    ///
    /// # Errors
    /// MLX's.
    pub fn positions(&self, ids: &Array) -> Result<Positions> {
        let list = ids.as_dtype(Dtype::Int32)?.contiguous()?;
        Ok(self.tables(list.try_as_slice::<i32>()?, ids))
    }

    /// Tables for position ids \[sequences, T\] that the host knows: the device is not waited for.
    pub fn positions_of_each(&self, list: &[i32], sequences: i32) -> Positions {
        let tokens = list.len() as i32 / sequences.max(1);
        self.tables(list, &Array::from_slice(list, &[sequences, tokens]))
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
        Positions { ids: ids.clone(), cos, sin, by_head: None, mask: None, planted: self.planted }
    }

    /// Shows the taps of PyTorch's module, which is given the values only for their dtype.
    pub(crate) fn show(&self, values: &Array, positions: &Positions, pass: &Pass) -> Result<()> {
        let path = self.site.path();
        pass.show(path, Kind::Input(0), || Ok(values.clone()))?;
        pass.show(path, Kind::Input(1), || Ok(positions.ids.clone()))?;
        pass.show(path, Kind::Output, || Ok(positions.cos.clone()))
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
            [_, ids, ..] => Ok(self.positions(ids)?.cos),
            _ => Err(Error::input(self.site.path(), "values and position ids", "1 input")),
        }
    }

    fn operations(&self) -> Vec<Operation> {
        vec![Operation::Rope { head_dim: 2 * self.inverse_frequencies.len() as i32 }]
    }
}

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
    planted: Planted,
}

/// Cosines and sines, and sines of which the first half is negated.
#[derive(Debug, Clone)]
struct ByHead {
    cos: Array,
    sin: Array,
    turning: Array,
}

impl Positions {
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

    /// Rotates x \[B, heads, T, head_dim\]: x·cos + (−x₂, x₁)·sin, halves apart (not interleaved).
    ///
    /// # Errors
    /// When the tokens do not fit.
    pub fn rotate(&self, x: &Array) -> Result<Array> {
        if self.planted.has(GraphFault::RopeInterleaved) {
            return self.rotate_neighbours(x);
        }
        let table = |t: &Array| -> Result<Array> { Ok(t.as_dtype(x.dtype())?.expand_dims(1)?) };
        let (cos, sin) = match self.by_head.as_ref().filter(|tables| tables.cos.dtype() == x.dtype()) {
            Some(tables) if self.planted.is_empty() && x.dim(2) == 1 && runtime::is_gpu() => {
                return fused::rotated(x, &tables.cos, &tables.turning);
            }
            Some(tables) => (tables.cos.clone(), tables.sin.clone()),
            None => (table(&self.cos)?, table(&self.sin)?),
        };
        let half = x.dim(3) / 2;
        let (first, second) = (x.try_index((.., .., .., ..half))?, x.try_index((.., .., .., half..))?);
        let reversed = self.planted.has(GraphFault::RopeReversed);
        let turned = if self.planted.by(Variant::RopeByProduct) {
            ops::matmul(x, turning(half, x.dtype())?)?
        } else {
            ops::concatenate(&if reversed { [second, first.negative()?] } else { [second.negative()?, first] }, 3)?
        };
        Ok(x.multiply(cos)?.add(turned.multiply(sin)?)?)
    }

    /// A planted fault's: neighbours are pairs, not halves.
    fn rotate_neighbours(&self, x: &Array) -> Result<Array> {
        let (shape, half) = (x.shape().to_vec(), x.dim(3) / 2);
        let pairs = x.reshape(&[shape[0], shape[1], shape[2], half, 2])?;
        let (first, second) = (pairs.try_index((.., .., .., .., 0))?, pairs.try_index((.., .., .., .., 1))?);
        let table = |t: &Array| t.try_index((.., .., ..half))?.as_dtype(x.dtype())?.expand_dims(1);
        let (cos, sin) = (table(&self.cos)?, table(&self.sin)?);
        let one = first.multiply(&cos)?.subtract(second.multiply(&sin)?)?;
        let two = second.multiply(&cos)?.add(first.multiply(&sin)?)?;
        Ok(ops::stack(&[one, two], 4)?.reshape(&shape)?)
    }
}

/// The matrix \[2·half, 2·half\] by which (x₁, x₂) becomes (−x₂, x₁).
fn turning(half: i32, dtype: Dtype) -> Result<Array> {
    let width = 2 * half;
    let entry = |(from, to): (i32, i32)| match to - from {
        d if d == half => 1.0,
        d if d == -half => -1.0,
        _ => 0.0_f32,
    };
    let values: Vec<f32> = (0..width).flat_map(|from| (0..width).map(move |to| (from, to))).map(entry).collect();
    Ok(Array::from_slice(&values, &[width, width]).as_dtype(dtype)?)
}
