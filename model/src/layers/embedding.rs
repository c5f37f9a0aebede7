//! Rows by number.

use mlx_rs::{Array, Dtype};

use crate::{
    backend::Matrix,
    contract::{Module, Pass, Site, one},
    error::{Error, Result},
    loading::Scope,
};

/// Rows by number (`nn.Embedding`): ids \[…\] → \[…, width\].
pub struct Embedding {
    site: Site,
    weight: Matrix,
}

impl Embedding {
    /// Loads `weight` \[rows, width\].
    pub fn load(scope: &Scope, rows: i32, width: i32) -> Self {
        Self { site: scope.site(), weight: scope.matrix(&[rows, width]) }
    }

    /// The rows of `ids`, in `dtype`; only these are widened.
    ///
    /// # Errors
    /// MLX's. Ids must be below the number of rows: MLX does not check.
    pub fn forward(&self, ids: &Array, dtype: Dtype, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[ids], || self.rows(ids, dtype))
    }

    fn rows(&self, ids: &Array, dtype: Dtype) -> Result<Array> {
        self.weight.take(ids, dtype)
    }
}

impl Module for Embedding {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        let ids = one(&self.site, inputs)?;
        let rows = self.weight.rows();
        let flat = ids.as_dtype(Dtype::Int32)?.contiguous()?;
        // MLX reads past the table's end without a word.
        match flat.try_as_slice::<i32>()?.iter().find(|&&id| !(0..rows).contains(&id)) {
            Some(id) => Err(Error::input(self.site.path(), format!("ids below {rows}"), format!("{id}"))),
            None => self.forward(ids, Dtype::Float32, pass),
        }
    }
}
