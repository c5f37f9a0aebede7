//! The projector builder's config (`projector_config`).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::loading::config::LARGEST_WIDTH;

/// What `nn.LayerNorm` adds to the variance where nothing is said.
pub(crate) const LAYER_NORM_EPS: f32 = 1e-5;

/// The builder's config (`projector_config`); fields that a type does not have are absent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ProjectorConfig {
    /// Which of the eight; `linear` in the release.
    pub projector_type: ProjectorType,
    /// Width of the input: in a whole model CLIP width + SAM output channels. Two where high and low features stand side by side.
    #[serde(default)]
    pub input_dim: Option<Widths>,
    /// Width of the output: in a whole model the decoder's.
    #[serde(default)]
    pub n_embed: Option<i32>,
    /// Linear layers.
    #[serde(default = "one")]
    pub depth: i32,
    /// Hidden width ÷ `n_embed`.
    #[serde(default = "one")]
    pub mlp_ratio: i32,
    /// Edge of the squares of tokens that become one.
    #[serde(default)]
    pub downsample_ratio: Option<i32>,
    /// The high features' share of the output's width.
    #[serde(default)]
    pub channel_div: Option<f64>,
    /// Whether squares of four tokens are pooled first.
    #[serde(default)]
    pub token_pooling: bool,
    /// Whether high and low features are fused first: not in a whole model.
    #[serde(default)]
    pub conv_fusion_high_low_features: bool,
    /// Fields that mean nothing here: the config class's name, and what nobody knows.
    #[serde(flatten)]
    pub others: BTreeMap<String, serde_json::Value>,
}

fn one() -> i32 {
    1
}

impl ProjectorConfig {
    /// Features per token that go in; 0 where nothing is said.
    pub fn width(&self) -> i32 {
        match self.input_dim {
            Some(Widths::One(width)) => width,
            Some(Widths::Two([high, low])) => high.saturating_add(low),
            None => 0,
        }
    }

    /// Features per token that come out; 0 where nothing is said.
    pub fn output(&self) -> i32 {
        self.n_embed.unwrap_or(0)
    }

    /// Of the output's width, the part that the first features are projected to (`int(n_embed * channel_div)`).
    pub fn high_width(&self) -> i32 {
        (f64::from(self.output()) * self.channel_div.unwrap_or(0.5)) as i32
    }

    /// Fields of `config.json` by which a view has other than (side ÷ 64)² tokens: empty for the release.
    #[must_use]
    pub fn changes_token_count(&self) -> Vec<String> {
        let ratio = self.downsample_ratio.unwrap_or(1);
        let by_ratio = (self.projector_type.downsamples() && ratio != 1)
            .then(|| format!("projector_config.downsample_ratio = {ratio}: {ratio} × {ratio} tokens become one"));
        let by_pooling =
            self.token_pooling.then(|| "projector_config.token_pooling = true: 2 × 2 tokens become one".to_owned());
        by_ratio.into_iter().chain(by_pooling).collect()
    }
}

/// One width or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Widths {
    /// Of all features.
    One(i32),
    /// Of the high and of the low ones.
    Two([i32; 2]),
}

/// The builder's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProjectorType {
    /// Nothing.
    Identity,
    /// One linear layer.
    Linear,
    /// Linear layers with GELU between.
    MlpGelu,
    /// LayerNorm, then as `downsample_mlp_gelu`.
    NormlayerDownsampleMlpGelu,
    /// Squares of tokens side by side, then an MLP.
    DownsampleMlpGelu,
    /// High and low features, each projected to half the width.
    LowHighHybridSplitMlpGelu,
    /// The same, cut from one tensor at a given width.
    HybridSplitFeatureMlpGelu,
    /// High and low features, each through its own layers.
    LowHighSplitMlpGelu,
}

impl ProjectorType {
    /// Whether squares of tokens become one.
    pub fn downsamples(self) -> bool {
        matches!(self, Self::DownsampleMlpGelu | Self::NormlayerDownsampleMlpGelu)
    }
}

impl ProjectorConfig {
    /// What this projector cannot be between `features` and a decoder of width `hidden`.
    pub fn violations(&self, features: i32, hidden: i32) -> Vec<String> {
        use ProjectorType::{HybridSplitFeatureMlpGelu, Identity, LowHighHybridSplitMlpGelu, LowHighSplitMlpGelu};
        let kind = self.projector_type;
        let is_split = kind == HybridSplitFeatureMlpGelu;
        let ratio = self.downsample_ratio.unwrap_or(1);
        let within = |value: i32, largest: i32| (1..=largest).contains(&value);
        let squares = i64::from(ratio).pow(2).saturating_mul(i64::from(self.width()));
        let rules = [
            (
                !matches!(kind, LowHighHybridSplitMlpGelu | LowHighSplitMlpGelu) && !self.conv_fusion_high_low_features,
                format!(
                    "{kind:?}, conv_fusion {}: takes two inputs, the whole model gives one",
                    self.conv_fusion_high_low_features
                ),
            ),
            (
                matches!(self.input_dim, Some(Widths::Two(_))) == is_split && self.width() == features,
                format!("input_dim = {}: expected CLIP width + SAM channels = {features}", shown(self.input_dim)),
            ),
            (
                self.n_embed.is_some() && (kind == Identity || self.output() == hidden),
                format!("n_embed = {}: expected hidden_size = {hidden}", shown(self.n_embed)),
            ),
            (kind != Identity || features == hidden, format!("identity: expected {features} features = hidden_size")),
            (within(self.depth, 1 << 10), format!("depth = {}: expected 1 to 1024", self.depth)),
            (within(self.mlp_ratio, 1 << 6), format!("mlp_ratio = {}: expected 1 to 64", self.mlp_ratio)),
            (
                within(ratio, 1 << 10)
                    && squares <= i64::from(LARGEST_WIDTH) * 4
                    && (self.downsample_ratio.is_some() || !kind.downsamples()),
                format!("downsample_ratio = {:?}: expected a small number of tokens", self.downsample_ratio),
            ),
            (
                !is_split || (1..self.output()).contains(&self.high_width()),
                format!("channel_div = {:?}: expected a share of n_embed", self.channel_div),
            ),
            (!(is_split && self.token_pooling), "token_pooling needs one input_dim".to_owned()),
        ];
        rules.into_iter().filter_map(|(holds, text)| (!holds).then(|| format!("projector_config: {text}"))).collect()
    }
}

/// A field's value, or that it is not there.
fn shown(value: Option<impl std::fmt::Debug>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| format!("{value:?}"))
}
