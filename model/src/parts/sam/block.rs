//! One transformer block: attention in windows or over the whole image, and an MLP.

use mlx_rs::Array;

use super::{
    attention::{Attention, Windows},
    config::SamConfig,
};
use crate::{
    backend::kernels::residual,
    contract::{Module, Operation, Pass, Site, one},
    error::Result,
    fault::{GraphFault, Planted},
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
    planted: Planted,
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
            planted: scope.planted(),
        }
    }

    pub(super) fn forward(&self, x: &Array, views: &Views, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || {
            let normed = self.norm1.forward(x, pass)?;
            let attended = match self.window {
                Some(size) => self.within_windows(&normed, size, views, pass)?,
                None => views.each(&normed, |view| self.attn.forward(view, pass))?,
            };
            let from = if self.planted.has(GraphFault::SamResidualFromNorm) { &normed } else { x };
            let x = residual(self.planted, from, &attended)?;
            residual(self.planted, &x, &self.mlp.forward(&self.norm2.forward(&x, pass)?, pass)?)
        })
    }

    /// Windows are of one size, whatever they were cut from.
    fn within_windows(&self, x: &Array, size: i32, views: &Views, pass: &Pass) -> Result<Array> {
        let cut = views
            .apart(x)?
            .iter()
            .map(|view| Windows::partition(view, size, self.planted))
            .collect::<Result<Vec<_>>>()?;
        let (windows, cuts): (Vec<Array>, Vec<Windows>) = cut.into_iter().unzip();
        let attended = side_by_side(&windows, |windows| self.attn.forward(windows, pass))?;
        let joined = cuts.into_iter().zip(&attended).map(|(cut, windows)| cut.join(windows));
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
        let function = if scope.planted().has(GraphFault::SamQuickGelu) {
            Operation::QuickGelu
        } else if scope.planted().has(GraphFault::SamTanhGelu) {
            Operation::GeluTanh
        } else {
            Operation::Gelu
        };
        Self {
            site: scope.site(),
            lin1: Linear::load(&scope.child("lin1"), width, inner, true),
            act: Activation::new(&scope.child("act"), function),
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
