//! What decides which faults can be planted in a model, and which of them a recording can show.

use mlxport_model::{Prompt, architectures::Config, loading::Layout};

/// Sizes of the model and of what it is fed.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) config: Config,
    /// Patches per side of every view, tiles first.
    pub(super) sam_grids: Vec<i32>,
    /// Tiles across and down; none without tiles.
    pub(super) tiles: Option<(i32, i32)>,
}

impl Facts {
    pub(super) fn read(config: Config, prompt: &Prompt) -> Self {
        let patch = config.vision_config.width.sam.patch_size.max(1);
        let views = prompt.image.iter().flat_map(|image| image.tiles.iter().chain([&image.global]));
        let sam_grids = views.map(|view| view.dim(1) / patch).collect();
        let tiles = prompt.image.as_ref().filter(|image| image.tiles.is_some());
        let tiles = tiles.map(|image| (image.grid.across, image.grid.down));
        Self { config, sam_grids, tiles }
    }

    /// Patches per side after SAM's two convolutions of stride 2.
    pub(super) fn clip_grids(&self) -> Vec<i32> {
        let halved = |edge: i32| (edge - 1) / 2 + 1;
        self.sam_grids.iter().map(|&grid| halved(halved(grid))).collect()
    }

    pub(super) fn sam_table_is_resampled(&self) -> bool {
        self.sam_grids.iter().any(|&grid| grid != self.config.vision_config.width.sam.grid())
    }

    pub(super) fn clip_table_is_resampled(&self) -> bool {
        let positions = self.config.vision_config.width.clip.num_positions();
        self.clip_grids().iter().any(|&grid| grid * grid + 1 != positions)
    }

    /// The first block with windows (or without, for `false`).
    pub(super) fn sam_block(&self, windowed: bool) -> Option<i32> {
        let sam = &self.config.vision_config.width.sam;
        (0..sam.layers).find(|&block| sam.window(block).is_some() == windowed)
    }

    /// Windows per side and whether they need padding, the most of any view; none without windowed blocks.
    pub(super) fn windows(&self) -> Option<(i32, bool)> {
        let size = self.config.vision_config.width.sam.window(self.sam_block(true)?)?;
        let count = self.sam_grids.iter().map(|&grid| (grid + size - 1) / size).max()?;
        Some((count, self.sam_grids.iter().any(|&grid| grid % size != 0)))
    }

    /// The first decoder layer with experts.
    pub(super) fn moe_layer(&self) -> Option<i32> {
        let language = &self.config.language_config;
        (0..language.num_hidden_layers).find(|&layer| language.is_moe_layer(layer))
    }

    /// The first decoder layer without.
    pub(super) fn dense_layer(&self) -> Option<i32> {
        let language = &self.config.language_config;
        (0..language.num_hidden_layers).find(|&layer| !language.is_moe_layer(layer))
    }

    pub(super) fn is_split(&self) -> bool {
        self.config.layout() == Layout::Split
    }

    pub(super) fn has_groups(&self) -> bool {
        self.config.language_config.num_attention_heads != self.config.language_config.num_key_value_heads
    }
}
