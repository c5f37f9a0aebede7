//! One transformer block: attention in windows or over the whole image, and an MLP.

use mlx_rs::Array;

use super::{attention::Attention, config::SamConfig};
use crate::{
    contract::{Module, Operation, Pass, Site, Step, one},
    error::Result,
    layers::{Activation, LayerNorm, Linear, Views, side_by_side},
    loading::{Layout, Scope},
};

/// One transformer block (`Block`): \[N, g, g, width\] → the same.
pub struct Block {
    site: Site,
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    mlp: MlpBlock,
    window: Option<i32>,
}

impl Block {
    pub(super) fn load(scope: &Scope, config: &SamConfig, index: i32, layout: Layout) -> Self {
        let norm = |name: &str| LayerNorm::load(&scope.child(name), config.width, config.layer_norm_eps);
        let window = config.window(index);
        let table_edge = window.unwrap_or(config.grid());
        Self {
            site: scope.site(),
            norm1: norm("norm1"),
            attn: Attention::load(&scope.child("attn"), config, table_edge, layout),
            norm2: norm("norm2"),
            mlp: MlpBlock::load(&scope.child("mlp"), config),
            window,
        }
    }

    pub(super) fn forward(&self, x: &Array, views: &Views, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || {
            let normed = self.norm1.forward(x, pass)?;
            let attended = match self.window {
                Some(size) => self.within_windows(&normed, size, views, pass)?,
                None => views.each(&normed, |view| self.attn.forward(view, pass))?,
            };
            let add = |name: &'static str, x: &Array, y: &Array, normed: &Array| {
                self.site.step_named(pass, name, Step::Add { x, y, normed: Some(normed) })
            };
            let x = add("attention", x, &attended, &normed)?;
            let normed = self.norm2.forward(&x, pass)?;
            add("mlp", &x, &self.mlp.forward(&normed, pass)?, &normed)
        })
    }

    /// Windows are of one size, whatever they were cut from.
    fn within_windows(&self, x: &Array, size: i32, views: &Views, pass: &Pass) -> Result<Array> {
        let images = views.apart(x)?;
        let cut = images.iter().map(|x| self.site.step(pass, Step::Cut { x, size }));
        let attended = side_by_side(&cut.collect::<Result<Vec<_>>>()?, |windows| self.attn.forward(windows, pass))?;
        let joined = images.iter().zip(&attended).map(|(x, windows)| {
            let image = [x.dim(0), x.dim(1), x.dim(2)];
            self.site.step(pass, Step::Mend { windows, image })
        });
        views.together(&joined.collect::<Result<Vec<_>>>()?)
    }
}

impl Module for Block {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        let x = one(&self.site, inputs)?;
        self.forward(x, &Views::single(x), pass)
    }

    fn children(&self) -> Vec<&dyn Module> {
        vec![&self.norm1, &self.attn, &self.norm2, &self.mlp]
    }
}

/// lin2(gelu(lin1(x))) (`MLPBlock`), exact GELU.
pub struct MlpBlock {
    site: Site,
    lin1: Linear,
    act: Activation,
    lin2: Linear,
}

impl MlpBlock {
    fn load(scope: &Scope, config: &SamConfig) -> Self {
        let (width, inner) = (config.width, config.mlp_dim());
        Self {
            site: scope.site(),
            lin1: Linear::load(&scope.child("lin1"), width, inner, true),
            act: Activation::new(&scope.child("act"), Operation::Gelu),
            lin2: Linear::load(&scope.child("lin2"), inner, width, true),
        }
    }

    fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || self.lin2.forward(&self.act.forward(&self.lin1.forward(x, pass)?, pass)?, pass))
    }
}

impl Module for MlpBlock {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        self.forward(one(&self.site, inputs)?, pass)
    }

    fn children(&self) -> Vec<&dyn Module> {
        vec![&self.lin1, &self.act, &self.lin2]
    }
}
