//! Attention over image tokens and queries (`DeepseekOcr2VisionAttention`).

use mlx_rs::{Array, Dtype};

use super::config::{LARGE_BANK, Qwen2Config, SMALL_BANK};
use crate::{
    backend::Positions,
    contract::{Mask, Module, Operation, Pass, Site, Step, one},
    error::{Error, Result},
    layers::{Linear, RotaryEmbedding},
    loading::Scope,
};

/// Attention of an encoder's layer: \[N, T, dim\] → the same.
pub struct Attention {
    site: Site,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    rotary_emb: RotaryEmbedding,
    heads: i32,
    kv_heads: i32,
    head_dim: i32,
}

impl Attention {
    pub(super) fn load(scope: &Scope, config: &Qwen2Config) -> Self {
        let (dim, head_dim) = (config.dim, config.head_dim());
        let project = |name: &str, heads: i32| Linear::load(&scope.child(name), dim, heads * head_dim, true);
        Self {
            site: scope.site(),
            q_proj: project("q_proj", config.heads),
            k_proj: project("k_proj", config.kv_heads),
            v_proj: project("v_proj", config.kv_heads),
            o_proj: Linear::load(&scope.child("o_proj"), dim, dim, false),
            rotary_emb: RotaryEmbedding::new(scope.child("rotary_emb").site(), head_dim, config.rope_theta),
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim,
        }
    }

    /// `seen`: what each token sees, as [`seen`] makes it.
    pub(super) fn forward(&self, x: &Array, positions: &Positions, seen: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x, positions.ids()], || {
            let (batch, tokens) = (x.dim(0), x.dim(1));
            let by_head = |y: Array, heads: i32| -> Result<Array> {
                Ok(y.reshape(&[batch, tokens, heads, self.head_dim])?.transpose_axes(&[0, 2, 1, 3])?)
            };
            let q = by_head(self.q_proj.forward(x, pass)?, self.heads)?;
            let k = by_head(self.k_proj.forward(x, pass)?, self.kv_heads)?;
            let v = by_head(self.v_proj.forward(x, pass)?, self.kv_heads)?;
            let rotate = |x: &Array, queries: i32| self.site.step(pass, Step::Rotate { x, positions, queries });
            let (q, k) = (rotate(&q, self.heads)?, rotate(&k, 0)?);
            let scale = (self.head_dim as f32).sqrt().recip();
            let mask = Mask::Bias(seen);
            let out = self.site.step(pass, Step::Attend { q: &q, k: &k, v: &v, scale, mask })?;
            let out = out.transpose_axes(&[0, 2, 1, 3])?.reshape(&[batch, tokens, self.heads * self.head_dim])?;
            self.o_proj.forward(&out, pass)
        })
    }

    /// Positions and what is seen, of a module given hidden states and position ids.
    pub(super) fn given(&self, site: &Site, inputs: &[Array]) -> Result<(Positions, Array)> {
        match inputs {
            [x, ids, ..] => Ok((self.rotary_emb.positions(ids)?, seen(x.dim(1), image_tokens(x.dim(1))?)?)),
            _ => Err(Error::input(site.path(), "hidden states and position ids", format!("{} inputs", inputs.len()))),
        }
    }
}

/// Of `tokens`, those that are image tokens: the bank behind them follows from their number.
///
/// # Errors
/// When no bank fits.
pub(super) fn image_tokens(tokens: i32) -> Result<i32> {
    let bank = if tokens <= 2 * SMALL_BANK { SMALL_BANK } else { LARGE_BANK };
    let images = tokens - bank;
    if images < 1 || (bank == LARGE_BANK) != (images > SMALL_BANK) {
        return Err(Error::input(
            "qwen2_model",
            "image tokens and the queries of their bank",
            format!("{tokens} tokens"),
        ));
    }
    Ok(images)
}

/// True where a token (row) sees another (column), \[1, 1, tokens, tokens\]: image tokens see each other, queries all before them and themselves.
///
/// # Errors
/// MLX's.
pub(super) fn seen(tokens: i32, images: i32) -> Result<Array> {
    let sees = |row: i32, column: i32| if row < images { column < images } else { column <= row };
    let all: Vec<bool> = (0..tokens).flat_map(|row| (0..tokens).map(move |column| sees(row, column))).collect();
    debug_assert_eq!(all.len(), (tokens * tokens) as usize);
    Ok(Array::from_slice(&all, &[1, 1, tokens, tokens]).as_dtype(Dtype::Bool)?)
}

impl Module for Attention {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        let (positions, seen) = self.given(&self.site, inputs)?;
        self.forward(one(&self.site, inputs)?, &positions, &seen, pass)
    }

    fn children(&self) -> Vec<&dyn Module> {
        vec![&self.q_proj, &self.k_proj, &self.v_proj, &self.o_proj]
    }

    fn operations(&self) -> Vec<Operation> {
        vec![Operation::Attention { head_dim: self.head_dim }, Operation::Rope { head_dim: self.head_dim }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::runtime::{self, DeviceKind};

    #[test]
    fn the_number_of_tokens_tells_the_bank() -> Result<()> {
        for (images, bank) in [(1, 144), (100, 144), (144, 144), (145, 256), (256, 256), (400, 256)] {
            assert_eq!(image_tokens(images + bank)?, images);
        }
        assert!(image_tokens(144).is_err() && image_tokens(350).is_err());
        Ok(())
    }

    #[test]
    fn image_tokens_see_no_query_and_queries_none_after_them() -> Result<()> {
        runtime::use_device(DeviceKind::Cpu)?;
        let seen = seen(4, 2)?;
        let rows: Vec<&[bool]> = seen.try_as_slice::<bool>()?.chunks(4).collect();
        assert_eq!(rows[0], [true, true, false, false]);
        assert_eq!(rows[1], rows[0]);
        assert_eq!(rows[2], [true, true, true, false]);
        assert_eq!(rows[3], [true; 4]);
        Ok(())
    }
}
