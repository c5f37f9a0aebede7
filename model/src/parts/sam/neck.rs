//! From the transformer's width to the neck's channels.

use mlx_rs::Array;

use super::config::SamConfig;
use crate::{
    contract::{Module, Pass, Site, TorchLayout, one},
    error::Result,
    layers::{Conv2d, ConvShape, LayerNorm},
    loading::{Class, Scope},
};

/// 1×1 conv, norm, 3×3 conv, norm; the checkpoint numbers them (`neck.0` to `neck.3`).
pub struct Neck {
    site: Site,
    conv_0: Conv2d,
    norm_1: LayerNorm,
    conv_2: Conv2d,
    norm_3: LayerNorm,
}

impl Neck {
    pub(super) fn load(scope: &Scope, config: &SamConfig) -> Self {
        let channels = config.neck_channels;
        let conv = |name: &str, input, kernel, padding| {
            let shape = ConvShape { input, output: channels, kernel, stride: 1, padding, bias: false };
            Conv2d::load(&scope.child(name), shape)
        };
        let norm = |name: &str| LayerNorm::load_2d(&scope.child(name), channels, config.layer_norm_eps);
        // The release turns the axes before it, transformers within.
        let input = if scope.class() == Class::Release { TorchLayout::Nchw } else { TorchLayout::Same };
        Self {
            site: scope.site().with_layouts(input, TorchLayout::Nchw),
            conv_0: conv("0", config.width, 1, 0),
            norm_1: norm("1"),
            conv_2: conv("2", channels, 3, 1),
            norm_3: norm("3"),
        }
    }

    pub(super) fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || {
            let x = self.norm_1.forward(&self.conv_0.forward(x, pass)?, pass)?;
            self.norm_3.forward(&self.conv_2.forward(&x, pass)?, pass)
        })
    }
}

impl Module for Neck {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        self.site.isolated(inputs, |x| self.forward(one(&self.site, x)?, pass))
    }

    fn children(&self) -> Vec<&dyn Module> {
        vec![&self.conv_0, &self.norm_1, &self.conv_2, &self.norm_3]
    }
}
