//! Faults that can be planted, to show that the checks catch them, and other ways to compute the same, to show that they do
//! not cry wolf.
//!
//! Each fault is a mistake that a real port of this model made or could make. A model is loaded without any; only
//! `mlxport parity --mutate` and the tests ask for one.

use mlx_rs::Array;

use crate::{architectures::Config, error::Result};

/// One mistake.
#[derive(Debug, Clone)]
pub enum Fault {
    /// A wrong number in the config, after it was read and found good.
    Config(fn(&mut Config)),
    /// Wrong weights.
    Weights(Vec<WeightFault>),
    /// A wrong step in the computation.
    Graph(GraphFault),
}

/// One tensor of the files that is read wrongly.
#[derive(Debug, Clone)]
pub struct WeightFault {
    /// Its key in the converted files.
    pub key: String,
    /// What is done to it.
    pub edit: Edit,
}

/// What is done to a tensor. The result must have the tensor's shape.
#[derive(Debug, Clone)]
pub enum Edit {
    /// It is changed.
    Map(fn(&Array) -> Result<Array>),
    /// Another key's tensor is read in its place.
    Take(String),
}

/// What a model was loaded with; nothing, for the model as released.
#[derive(Debug, Clone, Copy, Default)]
pub struct Planted {
    graph: Option<GraphFault>,
    variant: Option<Variant>,
}

impl Planted {
    /// What `fault` and `variant` mean for the computation.
    #[must_use]
    pub fn new(fault: Option<&Fault>, variant: Option<Variant>) -> Self {
        let graph = if let Some(Fault::Graph(graph)) = fault { Some(*graph) } else { None };
        Self { graph, variant }
    }

    /// Whether this fault is planted.
    #[must_use]
    pub fn has(self, fault: GraphFault) -> bool {
        self.graph == Some(fault)
    }

    /// Whether nothing is planted.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.graph.is_none() && self.variant.is_none()
    }

    /// The variant that is asked for.
    #[must_use]
    pub fn variant(self) -> Option<Variant> {
        self.variant
    }

    /// Whether this variant is asked for.
    #[must_use]
    pub fn by(self, variant: Variant) -> bool {
        self.variant == Some(variant)
    }
}

/// Another correct way to compute the same: other kernels, another order of sums, another split of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// softmax(QKᵀ)V as two products and a softmax, not MLX's one kernel.
    AttentionByProducts,
    /// Attention head by head.
    AttentionByHead,
    /// Norms from means and squares, not MLX's kernels.
    NormsByMoments,
    /// Linear layers as two products over half the depth each.
    SplitProducts,
    /// Linear layers with the weight laid out anew, the other way round.
    TransposedWeights,
    /// Convolutions as sums of one product per place of the kernel.
    ConvByProducts,
    /// Sigmoids as 1 / (1 + exp(-x)).
    SigmoidByExp,
    /// The exact GELU through erf of the other half.
    GeluByComplement,
    /// Rotation as a product with the matrix that turns halves.
    RopeByProduct,
    /// Position tables resampled rows first, then columns.
    TablesRowsFirst,
    /// The prompt in chunks of seven tokens, through the cache.
    PrefillInChunks,
    /// The prompt in two halves, through the cache.
    PrefillInHalves,
    /// The prompt token by token, through the cache.
    PrefillByToken,
    /// Tiles encoded one at a time.
    TilesOneByOne,
    /// Windows attended to one at a time.
    WindowsOneByOne,
    /// The router's softmax from exponentials.
    RouterByExp,
    /// Experts' results summed from the last to the first.
    ExpertsBackwards,
    /// Projections of one input as one product, experts gathered from their stack: as on a GPU, where no one listens.
    Fused,
    /// Residuals as x/2 + y/2, doubled.
    ResidualsByHalves,
}

/// A wrong step in the computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it; the catalogue of mutants describes each for people")]
pub enum GraphFault {
    SamTableWithoutAntialias,
    SamTableAlignsCorners,
    SamTableHalfAPixelOff,
    SamRelativePositionsMissing,
    SamRelativePositionsReversed,
    SamRelativePositionsScaled,
    SamRelativeTableAlignsCorners,
    SamRelativeTableHalfAPixelOff,
    SamQuickGelu,
    SamTanhGelu,
    WindowPaddingFirst,
    WindowsJoinedTransposed,
    SamResidualFromNorm,
    Norm2dPerImage,
    StridePadsAfter,
    ClipTableWithoutAntialias,
    ClipTableAlignsCorners,
    ClipTableHalfAPixelOff,
    ClipTableScrambled,
    ClipExactGelu,
    ClipTanhGelu,
    ClassTokenLast,
    SamFeaturesTransposed,
    PreNormMissing,
    ClipScaleByWidth,
    ClipPositionsMissing,
    ProjectorSamFirst,
    ClassRowKept,
    TilesInColumnOrder,
    NewlineFirst,
    NewlineMissing,
    SeparatorMissing,
    SeparatorFirst,
    GlobalFirst,
    ImageRowsOffByOne,
    MaskMissing,
    MaskSeesNext,
    MaskHidesFirst,
    RopeInterleaved,
    RopeReversed,
    RopeOnKeysOnly,
    PositionsFromOne,
    HeadGroupsTiled,
    AttentionUnscaled,
    GeluForSilu,
    RouterInBf16,
    SoftmaxAfterTopK,
    GatesOnInput,
    SharedExpertsMissing,
    ExpertsUnweighted,
    TopKSkipsBest,
    DecoderResidualFromNorm,
    FinalNormMissing,
    StaleCache,
    CachePositionsRestart,
}
