//! Every projector that the release's builder knows (`MlpProjector` of `deepencoder.py`), by its config.
//!
//! ```text
//! x ─ token_pooling? ─ conv fusion of high and low? ─ by projector_type: split and project, or 4-to-1 concat ─ layers
//! ```
//!
//! Each runs alone here, on weights by name; [`super`] has those that a whole model can have, with taps.

use std::{cell::RefCell, collections::BTreeMap};

use super::{
    config::{LAYER_NORM_EPS, ProjectorConfig, ProjectorType, Widths},
    unfold::{Columns, Unfold},
};
use crate::{
    backend::{functions::gelu, kernels},
    contract::Operation,
    error::{Error, Result},
};
use mlx_rs::{Array, ops, ops::indexing::TryIndexOp};

/// A projector with its weights, by the checkpoint's names (`layers.0.weight`, `high_up_proj.bias`, …).
#[derive(Debug)]
pub struct Projector {
    config: ProjectorConfig,
    columns: Columns,
    weights: BTreeMap<String, Array>,
    used: RefCell<BTreeMap<String, Operation>>,
}

impl Projector {
    /// A projector whose unfolded columns stand as `columns` says, in its weights too.
    #[must_use]
    pub fn new(config: ProjectorConfig, weights: BTreeMap<String, Array>, columns: Columns) -> Self {
        Self { config, columns, weights, used: RefCell::default() }
    }

    /// The weights whose columns (or, of a norm, whose elements) follow an unfold: their names, and the edge of its kernel.
    #[must_use]
    pub fn unfolded(config: &ProjectorConfig) -> Vec<(&'static str, i32)> {
        let ratio = config.downsample_ratio.unwrap_or(1);
        let mut all: Vec<(&str, i32)> = match config.projector_type {
            ProjectorType::DownsampleMlpGelu => vec![("layers.0.weight", ratio)],
            ProjectorType::NormlayerDownsampleMlpGelu => {
                vec![("layers.0.weight", ratio), ("layers.0.bias", ratio), ("layers.1.weight", ratio)]
            }
            _ => Vec::new(),
        };
        if config.token_pooling {
            all.push(("token_pooling_layer.weight", 2));
        }
        all
    }

    /// The whole projector. `x`: \[N, T, input_dim\]; \[2, N, T, input_dim\] for the types that take high and low features apart,
    /// \[N, 2, T, input_dim\] for those fused. Returns \[N, T′, n_embed\].
    ///
    /// # Errors
    /// When a weight is missing or input, weights and config do not fit.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        let mut x = x.clone();
        if self.config.token_pooling {
            x = self.linear("token_pooling_layer", &fours(&x, self.columns)?)?;
        }
        if self.config.conv_fusion_high_low_features {
            self.expect(x.ndim() == 4 && x.dim(1) == 2, "[N, 2, T, input_dim]", &x)?;
            let high = self.linear("fusion_layer", &x.try_index((.., 0))?)?;
            x = high.add(x.try_index((.., 1))?)?;
        }
        match self.config.projector_type {
            ProjectorType::Identity => Ok(x),
            ProjectorType::Linear => self.linear("layers", &x),
            ProjectorType::MlpGelu => self.perceptron("layers", 0, self.config.depth, x),
            ProjectorType::DownsampleMlpGelu => {
                self.perceptron("layers", 0, self.config.depth.max(2), self.squares(&x)?)
            }
            ProjectorType::NormlayerDownsampleMlpGelu => {
                let x = self.norm("layers.0", &self.squares(&x)?)?;
                self.perceptron("layers", 1, self.config.depth.max(2), x)
            }
            ProjectorType::LowHighHybridSplitMlpGelu => {
                let (high, low) = self.apart(&x)?;
                self.joined(&high, &low)
            }
            ProjectorType::HybridSplitFeatureMlpGelu => {
                let Some(Widths::Two([width, _])) = self.config.input_dim else {
                    return Err(Error::input(
                        "projector",
                        "input_dim: two widths",
                        format!("{:?}", self.config.input_dim),
                    ));
                };
                self.expect((0..=x.dim(-1)).contains(&width), "features at least as wide as the high ones", &x)?;
                let (high, low) = (x.try_index((.., .., ..width))?, x.try_index((.., .., width..))?);
                self.joined(&high, &low)
            }
            ProjectorType::LowHighSplitMlpGelu => {
                let (high, low) = self.apart(&x)?;
                let each = [self.activated("high_layers", high)?, self.activated("low_layers", low)?];
                Ok(ops::concatenate(&each, -1)?)
            }
        }
    }

    /// The products and activations of the last [`Self::forward`], for their floors.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        self.used.borrow().values().copied().collect()
    }

    /// Weights that no step of [`Self::forward`] used.
    #[must_use]
    pub fn unused(&self) -> Vec<&str> {
        let used = self.used.borrow();
        let layer = |name: &str| name.rsplit_once('.').map_or(name.to_owned(), |(layer, _)| layer.to_owned());
        // Sequential lists built twice from the same modules: the checkpoint holds them under both names.
        let shared = self.config.projector_type == ProjectorType::LowHighSplitMlpGelu;
        let known = |name: &str| used.contains_key(&layer(name)) || shared && name.starts_with("layers.");
        self.weights.keys().map(String::as_str).filter(|name| !known(name)).collect()
    }

    /// High and low features projected and set side by side, then GELU and linear layers.
    fn joined(&self, high: &Array, low: &Array) -> Result<Array> {
        let each = [self.linear("high_up_proj", high)?, self.linear("low_up_proj", low)?];
        self.activated("layers", ops::concatenate(&each, -1)?)
    }

    fn apart(&self, x: &Array) -> Result<(Array, Array)> {
        self.expect(x.ndim() == 4 && x.dim(0) == 2, "[2, N, T, input_dim]", x)?;
        Ok((x.try_index(0)?, x.try_index(1)?))
    }

    /// GELU and a linear layer, `depth` − 1 times.
    fn activated(&self, name: &str, x: Array) -> Result<Array> {
        (1..self.config.depth).try_fold(x, |x, i| self.linear(&format!("{name}.{}", 2 * i - 1), &self.gelu(&x)?))
    }

    /// `count` linear layers with GELU between, the first at place `first`.
    fn perceptron(&self, name: &str, first: i32, count: i32, x: Array) -> Result<Array> {
        let x = self.linear(&format!("{name}.{first}"), &x)?;
        (1..count).try_fold(x, |x, i| self.linear(&format!("{name}.{}", first + 2 * i), &self.gelu(&x)?))
    }

    fn squares(&self, x: &Array) -> Result<Array> {
        let ratio = self.config.downsample_ratio.filter(|ratio| *ratio > 0);
        let ratio = ratio.ok_or_else(|| Error::input("projector", "a positive downsample_ratio", "none"))?;
        squares(x, ratio, self.columns)
    }

    fn weight(&self, name: &str) -> Result<&Array> {
        self.weights.get(name).ok_or_else(|| Error::input("projector", format!("a weight {name}"), "none"))
    }

    fn linear(&self, name: &str, x: &Array) -> Result<Array> {
        let (weight, bias) = (self.weight(&format!("{name}.weight"))?, self.weight(&format!("{name}.bias"))?);
        self.expect(
            weight.ndim() == 2 && weight.dim(1) == x.dim(-1),
            &format!("{name}: as many columns as features"),
            x,
        )?;
        self.expect(bias.shape() == [weight.dim(0)], &format!("{name}: a bias per row"), bias)?;
        self.note(name, Operation::Product { depth: weight.dim(1) });
        Ok(ops::matmul(x, weight.t())?.add(bias)?)
    }

    fn norm(&self, name: &str, x: &Array) -> Result<Array> {
        let (weight, bias) = (self.weight(&format!("{name}.weight"))?, self.weight(&format!("{name}.bias"))?);
        let fits = weight.shape() == [x.dim(-1)] && bias.shape() == [x.dim(-1)];
        self.expect(fits, &format!("{name}: as many weights as features"), x)?;
        self.note(name, Operation::LayerNorm { width: x.dim(-1) });
        let kernel_area = self.config.downsample_ratio.map_or(1, |ratio| ratio * ratio);
        kernels::layer_norm_in_groups(x, weight, bias, LAYER_NORM_EPS, kernel_area)
    }

    fn gelu(&self, x: &Array) -> Result<Array> {
        self.note("gelu", Operation::Gelu);
        gelu(x)
    }

    fn note(&self, name: &str, operation: Operation) {
        self.used.borrow_mut().insert(name.to_owned(), operation);
    }

    fn expect(&self, fits: bool, expected: &str, x: &Array) -> Result<()> {
        let found = || format!("{:?} of {:?}", x.shape(), self.config.projector_type);
        if fits { Ok(()) } else { Err(Error::input("projector", expected, found())) }
    }
}

/// Squares of tokens side by side, \[N, side², C\] → \[N, ⌈side ÷ ratio⌉², C·ratio²\]; where the side is no multiple, zeros at the bottom and
/// the right.
pub(crate) fn squares(x: &Array, ratio: i32, columns: Columns) -> Result<Array> {
    let edge = square_edge(x)?;
    let x = x.reshape(&[x.dim(0), edge, edge, x.dim(2)])?;
    let missing = (0, (ratio - edge % ratio) % ratio);
    let x = ops::pad(x, &[(0, 0), missing, missing, (0, 0)][..], None, None)?;
    Unfold::tiles(ratio).patches(&x, columns)
}

/// Squares of four tokens side by side; an odd row or column is left out.
pub(crate) fn fours(x: &Array, columns: Columns) -> Result<Array> {
    let edge = square_edge(x)?;
    Unfold::tiles(2).patches(&x.reshape(&[x.dim(0), edge, edge, x.dim(2)])?, columns)
}

/// The side of a square of tokens \[N, side², C\].
pub(crate) fn square_edge(x: &Array) -> Result<i32> {
    let tokens = if x.ndim() == 3 { x.dim(1) } else { 0 };
    let edge = f64::from(tokens).sqrt() as i32;
    if edge > 0 && edge * edge == tokens {
        Ok(edge)
    } else {
        Err(Error::input("projector", "[N, side², C]", format!("{:?}", x.shape())))
    }
}
