//! The encoder as a whole, and what makes patches of pixels.

use mlx_rs::{Array, Dtype};

use super::{block::Block, config::SamConfig, neck::Neck};
use crate::{
    backend::{
        Param,
        resample::{Bicubic, Kept},
    },
    contract::{Module, Pass, Site, Step, TorchLayout, one},
    error::{Error, Result},
    layers::{Conv2d, ConvShape, Views},
    loading::{Class, Layout, Scope},
};

/// The encoder: pixels \[N, S, S, 3\] → features \[N, S/64, S/64, 1024\] (rounded up).
pub struct SamEncoder {
    site: Site,
    patch_embed: PatchEmbed,
    pos_embed: Param,
    blocks: Vec<Block>,
    neck: Neck,
    downsample: Downsample,
    /// The position table as resampled for a grid.
    tables: Kept<(i32, Dtype)>,
}

impl SamEncoder {
    /// Loads the encoder's weights.
    pub fn load(scope: &Scope, config: &SamConfig, layout: Layout) -> Self {
        let grid = config.grid();
        Self {
            site: scope.site().with_layouts(TorchLayout::Nchw, TorchLayout::Nchw),
            patch_embed: PatchEmbed::load(&scope.child("patch_embed"), config),
            pos_embed: scope.param("pos_embed", &[1, grid, grid, config.width]),
            blocks: (0..config.layers)
                .map(|i| Block::load(&scope.child(format!("blocks.{i}")), config, i, layout))
                .collect(),
            neck: Neck::load(&scope.child("neck"), config),
            downsample: Downsample::load(scope, config),
            tables: Kept::default(),
        }
    }

    /// Encodes a batch of square images.
    ///
    /// # Errors
    /// When the images are not square, not of three channels, or smaller than a patch.
    pub fn forward(&self, pixels: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[pixels], || {
            let features = self.encode(std::slice::from_ref(pixels), pass)?;
            features.into_iter().next().ok_or_else(|| Error::input(self.site.path(), "features", "none"))
        })
    }

    /// Encodes batches of different sizes together: the features of each.
    ///
    /// # Errors
    /// As [`SamEncoder::forward`].
    pub fn forward_all(&self, pixels: &[Array], pass: &Pass) -> Result<Vec<Array>> {
        match pixels {
            [one] => Ok(vec![self.forward(one, pass)?]),
            _ => self.encode(pixels, pass),
        }
    }

    fn encode(&self, pixels: &[Array], pass: &Pass) -> Result<Vec<Array>> {
        let patches = pixels.iter().map(|pixels| self.patches(pixels, pass));
        let (views, mut x) = Views::join(&patches.collect::<Result<Vec<_>>>()?)?;
        for block in &self.blocks {
            x = block.forward(&x, &views, pass)?;
        }
        let features = views.apart(&x)?.into_iter().map(|x| {
            let x = self.neck.forward(&x, pass)?;
            self.downsample.forward(&x, pass)
        });
        features.collect()
    }

    /// Patches with their positions' table added: \[N, S, S, 3\] → \[N, g, g, width\].
    fn patches(&self, pixels: &Array, pass: &Pass) -> Result<Array> {
        let [_, height, width, 3] = *pixels.shape() else {
            return Err(Error::input(self.site.path(), "pixels [N, S, S, 3]", format!("{:?}", pixels.shape())));
        };
        if height != width {
            return Err(Error::input(self.site.path(), "square images", format!("{height}×{width}")));
        }
        let x = self.patch_embed.forward(pixels, pass)?;
        // The table for the grid of x, [1, g, g, width] (`get_abs_pos_sam`).
        let (size, dtype) = (x.dim(1), x.dtype());
        let table = self.tables.get_or(pass.keeps(), (size, dtype), || {
            let table = self.pos_embed.stored();
            self.site.step(pass, Step::Resample { table, size, mode: Bicubic::Antialias, dtype })
        })?;
        self.site.step_named(pass, "positions", Step::Add { x: &x, y: &table, normed: None })
    }
}

impl Module for SamEncoder {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        self.site.isolated(inputs, |x| self.forward(one(&self.site, x)?, pass))
    }

    fn children(&self) -> Vec<&dyn Module> {
        let mut all: Vec<&dyn Module> = vec![&self.patch_embed];
        all.extend(self.blocks.iter().map(|b| b as &dyn Module));
        all.push(&self.neck);
        all.extend(self.downsample.as_listed());
        all
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

    fn forward(&self, pixels: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[pixels], || self.proj.forward(pixels, pass))
    }
}

impl Module for PatchEmbed {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        self.site.isolated(inputs, |x| self.forward(one(&self.site, x)?, pass))
    }

    fn children(&self) -> Vec<&dyn Module> {
        vec![&self.proj]
    }
}

/// Two convolutions of stride 2, which transformers has in a module of their own (`proj`): \[N, g, g, neck\] → \[N, g/4, g/4, channels\]
/// (rounded up).
pub struct Downsample {
    site: Site,
    net_2: Conv2d,
    net_3: Conv2d,
    is_module: bool,
}

impl Downsample {
    fn load(scope: &Scope, config: &SamConfig) -> Self {
        let [middle, output] = config.downsample_channels;
        let down = |input, output| ConvShape { input, output, kernel: 3, stride: 2, padding: 1, bias: false };
        Self {
            site: scope.child("proj").site().with_layouts(TorchLayout::Nchw, TorchLayout::Nchw),
            net_2: Conv2d::load(&scope.child("net_2"), down(config.neck_channels, middle)),
            net_3: Conv2d::load(&scope.child("net_3"), down(middle, output)),
            is_module: scope.class() == Class::Transformers,
        }
    }

    fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || self.net_3.forward(&self.net_2.forward(x, pass)?, pass))
    }

    /// As the encoder's modules list it: itself, or its convolutions.
    fn as_listed(&self) -> Vec<&dyn Module> {
        if self.is_module { vec![self] } else { self.children() }
    }
}

impl Module for Downsample {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        self.site.isolated(inputs, |x| self.forward(one(&self.site, x)?, pass))
    }

    fn children(&self) -> Vec<&dyn Module> {
        vec![&self.net_2, &self.net_3]
    }
}
