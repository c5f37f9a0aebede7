//! SAM ViT-B, the high-resolution encoder (`ImageEncoderViT` of the release's `deepencoder.py`).
//!
//! ```text
//! pixels [N, S, S, 3] ─ patch_embed ─ + pos_embed → [N, g, g, width]            g = S / 16
//!   blocks: x + attn(norm1(x)), in windows of 14×14 or over the whole image; x + mlp(norm2(x))
//!   neck: 1×1 conv, LayerNorm2d, 3×3 conv, LayerNorm2d → [N, g, g, 256]
//!   net_2, net_3: 3×3 convs of stride 2            → [N, g/4, g/4, 1024]
//! ```
//! Everything is channels-last here; PyTorch keeps channels first up to `patch_embed` and from `neck` on.

use mlx_rs::{Array, Dtype};

use crate::{
    activation::Activation,
    config::{Layout, SamConfig},
    conv::{Conv2d, ConvShape},
    error::{Error, Result},
    fault::{GraphFault, Planted},
    kernels::residual,
    layers::{LayerNorm, Linear, Param, one},
    resample::{Bicubic, Kept, bicubic_table},
    sam_attention::{Attention, Windows},
    tap::{Module, Operation, Site, Taps, TorchLayout},
    views::{Views, side_by_side},
    weights::Scope,
};

/// The encoder: pixels \[N, S, S, 3\] → features \[N, S/64, S/64, 1024\] (rounded up).
pub struct SamEncoder {
    site: Site,
    patch_embed: PatchEmbed,
    pos_embed: Param,
    blocks: Vec<Block>,
    neck: Neck,
    net_2: Conv2d,
    net_3: Conv2d,
    /// The position table as resampled for a grid.
    tables: Kept<(i32, Bicubic, Dtype)>,
    planted: Planted,
}

impl SamEncoder {
    /// Loads the encoder's weights.
    pub fn load(scope: &Scope, config: &SamConfig, layout: Layout) -> Self {
        let (grid, [middle, output]) = (config.grid(), config.downsample_channels);
        let down = |input, output| ConvShape { input, output, kernel: 3, stride: 2, padding: 1, bias: false };
        Self {
            site: scope.site().with_layouts(TorchLayout::Nchw, TorchLayout::Nchw),
            patch_embed: PatchEmbed::load(&scope.child("patch_embed"), config),
            pos_embed: scope.param("pos_embed", &[1, grid, grid, config.width]),
            blocks: (0..config.layers)
                .map(|i| Block::load(&scope.child(format!("blocks.{i}")), config, i, layout))
                .collect(),
            neck: Neck::load(&scope.child("neck"), config),
            net_2: Conv2d::load(&scope.child("net_2"), down(config.neck_channels, middle)),
            net_3: Conv2d::load(&scope.child("net_3"), down(middle, output)),
            tables: Kept::default(),
            planted: scope.planted(),
        }
    }

    /// Encodes a batch of square images.
    ///
    /// # Errors
    /// When the images are not square, not of three channels, or smaller than a patch.
    pub fn forward(&self, pixels: &Array, taps: &Taps) -> Result<Array> {
        self.forward_with(pixels, self.resampling(), taps)
    }

    /// With the position table resampled in a given way.
    fn forward_with(&self, pixels: &Array, resampling: Bicubic, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[pixels], || {
            let features = self.encode(std::slice::from_ref(pixels), resampling, taps)?;
            features.into_iter().next().ok_or_else(|| Error::input(self.site.path(), "features", "none"))
        })
    }

    /// Encodes batches of different sizes together: the features of each.
    ///
    /// # Errors
    /// As [`SamEncoder::forward`].
    pub(crate) fn forward_all(&self, pixels: &[Array]) -> Result<Vec<Array>> {
        self.encode(pixels, self.resampling(), &Taps::none())
    }

    fn encode(&self, pixels: &[Array], resampling: Bicubic, taps: &Taps) -> Result<Vec<Array>> {
        let patches = pixels.iter().map(|pixels| self.patches(pixels, resampling, taps));
        let (views, mut x) = Views::join(&patches.collect::<Result<Vec<_>>>()?)?;
        for block in &self.blocks {
            x = block.forward(&x, &views, taps)?;
        }
        let features = views.apart(&x)?.into_iter().map(|x| {
            let x = self.neck.forward(&x, taps)?;
            self.net_3.forward(&self.net_2.forward(&x, taps)?, taps)
        });
        features.collect()
    }

    /// Patches with their positions' table added: \[N, S, S, 3\] → \[N, g, g, width\].
    fn patches(&self, pixels: &Array, resampling: Bicubic, taps: &Taps) -> Result<Array> {
        let [_, height, width, 3] = *pixels.shape() else {
            return Err(Error::input(self.site.path(), "pixels [N, S, S, 3]", format!("{:?}", pixels.shape())));
        };
        if height != width {
            return Err(Error::input(self.site.path(), "square images", format!("{height}×{width}")));
        }
        let x = self.patch_embed.forward(pixels, taps)?;
        // The table for the grid of x, [1, g, g, width] (`get_abs_pos_sam`).
        let table = self.tables.get_or((x.dim(1), resampling, x.dtype()), || {
            bicubic_table(self.pos_embed.stored(), x.dim(1), resampling, self.planted, x.dtype())
        })?;
        Ok(x.add(table)?)
    }

    fn resampling(&self) -> Bicubic {
        match self.planted {
            p if p.has(GraphFault::SamTableWithoutAntialias) => Bicubic::Plain,
            p if p.has(GraphFault::SamTableAlignsCorners) => Bicubic::AlignCorners,
            p if p.has(GraphFault::SamTableHalfAPixelOff) => Bicubic::WholePixels,
            _ => Bicubic::Antialias,
        }
    }
}

impl Module for SamEncoder {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], taps: &Taps) -> Result<Array> {
        self.site.isolated(inputs, |x| self.forward(one(&self.site, x)?, taps))
    }

    fn children(&self) -> Vec<&dyn Module> {
        let mut all: Vec<&dyn Module> = vec![&self.patch_embed];
        all.extend(self.blocks.iter().map(|b| b as &dyn Module));
        all.extend([&self.neck as &dyn Module, &self.net_2, &self.net_3]);
        all
    }

    fn alternatives(&self, inputs: &[Array]) -> Result<Vec<(String, Array)>> {
        self.resampling()
            .others(|mode| self.site.isolated(inputs, |x| self.forward_with(one(&self.site, x)?, mode, &Taps::none())))
    }
}

/// Patches to vectors (`PatchEmbed`): \[N, S, S, 3\] → \[N, g, g, width\].
pub struct PatchEmbed {
    site: Site,
    proj: Conv2d,
}

impl PatchEmbed {
    fn load(scope: &Scope, config: &SamConfig) -> Self {
        let (kernel, output) = (config.patch_size, config.width);
        let shape = ConvShape { input: 3, output, kernel, stride: kernel, padding: 0, bias: true };
        Self {
            site: scope.site().with_layouts(TorchLayout::Nchw, TorchLayout::Same),
            proj: Conv2d::load(&scope.child("proj"), shape),
        }
    }

    fn forward(&self, pixels: &Array, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[pixels], || self.proj.forward(pixels, taps))
    }
}

impl Module for PatchEmbed {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], taps: &Taps) -> Result<Array> {
        self.site.isolated(inputs, |x| self.forward(one(&self.site, x)?, taps))
    }

    fn children(&self) -> Vec<&dyn Module> {
        vec![&self.proj]
    }
}

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
    fn load(scope: &Scope, config: &SamConfig, index: i32, layout: Layout) -> Self {
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

    fn forward(&self, x: &Array, views: &Views, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[x], || {
            let normed = self.norm1.forward(x, taps)?;
            let attended = match self.window {
                Some(size) => self.within_windows(&normed, size, views, taps)?,
                None => views.each(&normed, |view| self.attn.forward(view, taps))?,
            };
            let from = if self.planted.has(GraphFault::SamResidualFromNorm) { &normed } else { x };
            let x = residual(self.planted, from, &attended)?;
            residual(self.planted, &x, &self.mlp.forward(&self.norm2.forward(&x, taps)?, taps)?)
        })
    }

    /// Windows are of one size, whatever they were cut from.
    fn within_windows(&self, x: &Array, size: i32, views: &Views, taps: &Taps) -> Result<Array> {
        let cut = views
            .apart(x)?
            .iter()
            .map(|view| Windows::partition(view, size, self.planted))
            .collect::<Result<Vec<_>>>()?;
        let (windows, cuts): (Vec<Array>, Vec<Windows>) = cut.into_iter().unzip();
        let attended = side_by_side(&windows, |windows| self.attn.forward(windows, taps))?;
        let joined = cuts.into_iter().zip(&attended).map(|(cut, windows)| cut.join(windows));
        views.together(&joined.collect::<Result<Vec<_>>>()?)
    }
}

impl Module for Block {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], taps: &Taps) -> Result<Array> {
        let x = one(&self.site, inputs)?;
        self.forward(x, &Views::single(x), taps)
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

    fn forward(&self, x: &Array, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[x], || self.lin2.forward(&self.act.forward(&self.lin1.forward(x, taps)?, taps)?, taps))
    }
}

impl Module for MlpBlock {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], taps: &Taps) -> Result<Array> {
        self.forward(one(&self.site, inputs)?, taps)
    }

    fn children(&self) -> Vec<&dyn Module> {
        vec![&self.lin1, &self.act, &self.lin2]
    }
}

/// 1×1 conv, norm, 3×3 conv, norm; the checkpoint numbers them (`neck.0` to `neck.3`).
pub struct Neck {
    site: Site,
    conv_0: Conv2d,
    norm_1: LayerNorm,
    conv_2: Conv2d,
    norm_3: LayerNorm,
}

impl Neck {
    fn load(scope: &Scope, config: &SamConfig) -> Self {
        let channels = config.neck_channels;
        let conv = |name: &str, input, kernel, padding| {
            let shape = ConvShape { input, output: channels, kernel, stride: 1, padding, bias: false };
            Conv2d::load(&scope.child(name), shape)
        };
        let norm = |name: &str| LayerNorm::load_2d(&scope.child(name), channels, config.layer_norm_eps);
        Self {
            site: scope.site().with_layouts(TorchLayout::Nchw, TorchLayout::Nchw),
            conv_0: conv("0", config.width, 1, 0),
            norm_1: norm("1"),
            conv_2: conv("2", channels, 3, 1),
            norm_3: norm("3"),
        }
    }

    fn forward(&self, x: &Array, taps: &Taps) -> Result<Array> {
        self.site.run(taps, &[x], || {
            let x = self.norm_1.forward(&self.conv_0.forward(x, taps)?, taps)?;
            self.norm_3.forward(&self.conv_2.forward(&x, taps)?, taps)
        })
    }
}

impl Module for Neck {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], taps: &Taps) -> Result<Array> {
        self.site.isolated(inputs, |x| self.forward(one(&self.site, x)?, taps))
    }

    fn children(&self) -> Vec<&dyn Module> {
        vec![&self.conv_0, &self.norm_1, &self.conv_2, &self.norm_3]
    }
}
