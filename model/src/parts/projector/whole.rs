//! The projectors that a whole model can have, with taps.

use mlx_rs::{Array, ops, ops::indexing::TryIndexOp};

use super::{
    alone::{fours, squares},
    config::{LAYER_NORM_EPS, ProjectorConfig, ProjectorType, Widths},
    unfold::Columns,
};
use crate::{
    contract::{Module, Operation, Pass, Site, TorchLayout, one},
    error::Result,
    layers::{Activation, LayerNorm, Linear},
    loading::{Layout, Scope},
};

/// \[N, T, input_dim\] → \[N, T′, n_embed\].
pub struct MlpProjector {
    site: Site,
    columns: Columns,
    pooling: Option<Linear>,
    /// Edge of the squares of tokens that become one.
    ratio: Option<i32>,
    parts: Option<Parts>,
    layers: Layers,
}

/// High and low features, each with its own projection.
struct Parts {
    high: Linear,
    low: Linear,
    /// Features before the cut.
    width: i32,
}

/// What the builder calls `layers`.
enum Layers {
    One(Linear),
    Many(Sequence),
}

/// Modules one behind the other (`nn.Sequential`; without any, `nn.Identity`).
struct Sequence {
    site: Site,
    steps: Vec<Step>,
}

enum Step {
    Linear(Linear),
    Norm(LayerNorm),
    Activation(Activation),
}

impl MlpProjector {
    /// Loads the projector's weights. In the layout `split` the columns behind an unfold stand as channels-last memory has them.
    pub fn load(scope: &Scope, config: &ProjectorConfig, layout: Layout) -> Self {
        let columns = if layout == Layout::Split { Columns::ChannelsLast } else { Columns::ChannelsFirst };
        let width = config.width();
        let pooled = || Linear::load(&scope.child("token_pooling_layer"), 4 * width, width, true);
        let ratio = config.downsample_ratio.filter(|_| config.projector_type.downsamples());
        Self {
            site: scope.site(),
            columns,
            pooling: config.token_pooling.then(|| pooled().with_input(in_torch(columns, 2))),
            ratio,
            parts: Parts::load(scope, config),
            layers: Layers::load(&scope.child("layers"), config, in_torch(columns, ratio.unwrap_or(1))),
        }
    }

    /// Applies it.
    ///
    /// # Errors
    /// When the last axis is not `input_dim`, or tokens that are to be squared are no square.
    pub fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || self.apply(x, pass))
    }

    fn apply(&self, x: &Array, pass: &Pass) -> Result<Array> {
        let mut x = x.clone();
        if let Some(pooling) = &self.pooling {
            x = pooling.forward(&fours(&x, self.columns)?, pass)?;
        }
        if let Some(ratio) = self.ratio {
            x = squares(&x, ratio, self.columns)?;
        }
        if let Some(Parts { high, low, width }) = &self.parts {
            let high = high.forward(&x.try_index((.., .., ..*width))?, pass)?;
            let low = low.forward(&x.try_index((.., .., *width..))?, pass)?;
            x = ops::concatenate(&[high, low], -1)?;
        }
        match &self.layers {
            Layers::One(linear) => linear.forward(&x, pass),
            Layers::Many(sequence) => sequence.forward(&x, pass),
        }
    }
}

/// How PyTorch has what an unfold of `edge` × `edge` elements made here.
fn in_torch(columns: Columns, edge: i32) -> TorchLayout {
    match columns {
        Columns::ChannelsLast if edge > 1 => TorchLayout::Columns(edge * edge),
        _ => TorchLayout::Same,
    }
}

impl Parts {
    fn load(scope: &Scope, config: &ProjectorConfig) -> Option<Self> {
        let Some(Widths::Two([width, rest])) = config.input_dim else { return None };
        let high = config.high_width();
        Some(Self {
            high: Linear::load(&scope.child("high_up_proj"), width, high, true),
            low: Linear::load(&scope.child("low_up_proj"), rest, config.output() - high, true),
            width,
        })
    }
}

impl Layers {
    /// `unfolded` is how PyTorch has what an unfold made, if there was one.
    fn load(scope: &Scope, config: &ProjectorConfig, unfolded: TorchLayout) -> Self {
        let (width, out, depth) = (config.width(), config.output(), config.depth);
        let linear = |at: i32, input: i32, output: i32| Linear::load(&scope.child(at.to_string()), input, output, true);
        let gelu = |at: i32| Step::Activation(Activation::new(&scope.child(at.to_string()), Operation::Gelu));
        let mut steps = Vec::new();
        match config.projector_type {
            ProjectorType::Linear => return Self::One(Linear::load(scope, width, out, true)),
            ProjectorType::MlpGelu => {
                steps.push(Step::Linear(linear(0, width, out)));
                steps.extend((1..depth).flat_map(|i| [gelu(2 * i - 1), Step::Linear(linear(2 * i, out, out))]));
            }
            ProjectorType::DownsampleMlpGelu | ProjectorType::NormlayerDownsampleMlpGelu => {
                let ratio = config.downsample_ratio.unwrap_or(1);
                let (hidden, input) = (out * config.mlp_ratio, width * ratio * ratio);
                let normed = config.projector_type == ProjectorType::NormlayerDownsampleMlpGelu;
                let first = i32::from(normed);
                if normed {
                    let norm = LayerNorm::load(&scope.child("0"), input, LAYER_NORM_EPS);
                    steps.push(Step::Norm(norm.behind_unfold(ratio * ratio, unfolded)));
                }
                steps.push(Step::Linear(linear(first, input, hidden).with_input(unfolded)));
                let last = depth.max(2) - 1;
                steps.extend((1..=last).flat_map(|i| {
                    let output = if i == last { out } else { hidden };
                    [gelu(first + 2 * i - 1), Step::Linear(linear(first + 2 * i, hidden, output))]
                }));
            }
            ProjectorType::HybridSplitFeatureMlpGelu => {
                steps.extend((1..depth).flat_map(|i| [gelu(2 * i - 2), Step::Linear(linear(2 * i - 1, out, out))]));
            }
            // The config's checks have refused those that take two inputs.
            ProjectorType::Identity | ProjectorType::LowHighHybridSplitMlpGelu | ProjectorType::LowHighSplitMlpGelu => {
            }
        }
        Self::Many(Sequence { site: scope.site().with_layouts(unfolded, TorchLayout::Same), steps })
    }
}

impl Step {
    fn module(&self) -> &dyn Module {
        match self {
            Self::Linear(linear) => linear,
            Self::Norm(norm) => norm,
            Self::Activation(activation) => activation,
        }
    }
}

impl Sequence {
    fn forward(&self, x: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[x], || {
            self.steps.iter().try_fold(x.clone(), |x, step| match step {
                Step::Linear(linear) => linear.forward(&x, pass),
                Step::Norm(norm) => norm.forward(&x, pass),
                Step::Activation(activation) => activation.forward(&x, pass),
            })
        })
    }
}

impl Module for Sequence {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        self.site.isolated(inputs, |x| self.forward(one(&self.site, x)?, pass))
    }

    fn children(&self) -> Vec<&dyn Module> {
        self.steps.iter().map(Step::module).collect()
    }
}

impl Module for MlpProjector {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        self.forward(one(&self.site, inputs)?, pass)
    }

    fn children(&self) -> Vec<&dyn Module> {
        let mut all: Vec<&dyn Module> = Vec::new();
        all.extend(self.pooling.iter().map(|pooling| pooling as &dyn Module));
        all.extend(self.parts.iter().flat_map(|parts| [&parts.high as &dyn Module, &parts.low]));
        all.push(match &self.layers {
            Layers::One(linear) => linear,
            Layers::Many(sequence) => sequence,
        });
        all
    }
}
