//! Faults of the computation: a wrong step, with the right weights.

use mlxport_model::{fault::GraphFault, parts::deepseek_v2::ScoringFunc};

use crate::driver::Driver;

use super::{catalogue::Mutant, facts::Facts};

const NOT_RESAMPLED: &str = "every view has the table's own grid: nothing is resampled";

/// SAM and CLIP.
pub(super) fn vision(facts: &Facts) -> Vec<Mutant> {
    let mut all = sam(facts);
    all.extend(clip(facts));
    all
}

fn sam(facts: &Facts) -> Vec<Mutant> {
    let block = |windowed| facts.sam_block(windowed).unwrap_or(0);
    let in_block = |number: i32| format!("model.sam_model.blocks.{number}");
    let attention = |number: i32| format!("{}.attn", in_block(number));
    let (fixed, blocks) = (!facts.sam_table_is_resampled(), in_block(0));
    let (windows, padded) = facts.windows().unwrap_or((0, false));
    let no_windows = facts.windows().is_none();
    let fault = |name, planted_in: String, fault| Mutant::graph(name, planted_in, fault);
    let table =
        |name, planted| fault(name, blocks.clone(), planted).between("model.sam_model").unless(fixed, NOT_RESAMPLED);
    let relative = |name, planted| {
        fault(name, attention(block(false)), planted)
            .impossible_if(facts.sam_block(false).is_none(), "every block has windows")
            .unless(fixed, NOT_RESAMPLED)
    };
    vec![
        table("SAM's position table without antialias", GraphFault::SamTableWithoutAntialias),
        table("SAM's position table with aligned corners", GraphFault::SamTableAlignsCorners),
        table("SAM's position table half a pixel off", GraphFault::SamTableHalfAPixelOff),
        fault("relative positions missing", attention(0), GraphFault::SamRelativePositionsMissing),
        fault("relative positions with key minus query", attention(0), GraphFault::SamRelativePositionsReversed),
        fault("relative positions from scaled queries", attention(0), GraphFault::SamRelativePositionsScaled),
        relative("relative positions resized with aligned corners", GraphFault::SamRelativeTableAlignsCorners),
        relative("relative positions resized half a pixel off", GraphFault::SamRelativeTableHalfAPixelOff),
        fault("quick_gelu for SAM's exact GELU", "model.sam_model.blocks.0.mlp".into(), GraphFault::SamQuickGelu),
        fault("tanh GELU for SAM's exact GELU", "model.sam_model.blocks.0.mlp".into(), GraphFault::SamTanhGelu),
        fault("windows padded at the top left", in_block(block(true)), GraphFault::WindowPaddingFirst)
            .impossible_if(no_windows, "no block has windows")
            .unless(!padded, "the windows need no padding"),
        fault("windows joined column by column", in_block(block(true)), GraphFault::WindowsJoinedTransposed)
            .impossible_if(no_windows, "no block has windows")
            .unless(windows < 2, "one window holds the whole view"),
        fault("SAM's residual taken after the norm", blocks.clone(), GraphFault::SamResidualFromNorm),
        fault("LayerNorm2d over the image", "model.sam_model.neck.1".into(), GraphFault::Norm2dPerImage),
        fault("strided convolutions padded at the end", "model.sam_model.net_2".into(), GraphFault::StridePadsAfter),
    ]
}

fn clip(facts: &Facts) -> Vec<Mutant> {
    let fixed = !facts.clip_table_is_resampled();
    let (embeddings, layer) = ("model.vision_model.embeddings", "model.vision_model.transformer.layers.0");
    let fault = |name, planted_in: &str, fault| Mutant::graph(name, planted_in, fault);
    vec![
        fault("CLIP's position table without antialias", embeddings, GraphFault::ClipTableWithoutAntialias)
            .unless(fixed, NOT_RESAMPLED),
        fault("CLIP's position table with aligned corners", embeddings, GraphFault::ClipTableAlignsCorners)
            .unless(fixed, NOT_RESAMPLED),
        fault("CLIP's position table half a pixel off", embeddings, GraphFault::ClipTableHalfAPixelOff)
            .unless(fixed, NOT_RESAMPLED),
        fault("CLIP's position table resampled as if channels came first", embeddings, GraphFault::ClipTableScrambled)
            .unless(fixed, NOT_RESAMPLED),
        fault("CLIP's positions missing", embeddings, GraphFault::ClipPositionsMissing),
        fault("the class token last", embeddings, GraphFault::ClassTokenLast),
        fault("SAM's features read column by column", embeddings, GraphFault::SamFeaturesTransposed)
            .unless(facts.clip_grids().iter().all(|&grid| grid == 1), "one feature per view"),
        fault("CLIP's first norm left out", "model.vision_model.pre_layrnorm", GraphFault::PreNormMissing)
            .between("model.vision_model"),
        fault("exact GELU for CLIP's quick_gelu", &format!("{layer}.mlp"), GraphFault::ClipExactGelu),
        fault("tanh GELU for CLIP's quick_gelu", &format!("{layer}.mlp"), GraphFault::ClipTanhGelu),
        fault("scores scaled by the model's width", &format!("{layer}.self_attn"), GraphFault::ClipScaleByWidth)
            .unless(facts.config.vision_config.width.clip.heads == 1, "one head is as wide as the model"),
    ]
}

/// Between the encoders and the decoder.
pub(super) fn assembly(facts: &Facts) -> Vec<Mutant> {
    let no_tiles = facts.tiles.is_none();
    let one_line = facts.tiles.is_none_or(|(across, down)| across == 1 || down == 1);
    let (projector, rows) = ("model.projector", "model.layers.0.input_layernorm");
    let fault = |name, planted_in: &str, fault| {
        Mutant::graph(name, planted_in, fault).impossible_if(facts.sam_grids.is_empty(), "the prompt has no picture")
    };
    vec![
        fault("SAM's features before CLIP's", projector, GraphFault::ProjectorSamFirst),
        fault("the class row kept, the last row dropped", projector, GraphFault::ClassRowKept),
        fault("tiles in column order", rows, GraphFault::TilesInColumnOrder)
            .unless(no_tiles, "no tiles")
            .unless(one_line, "tiles in one line have one order"),
        fault("newline at the start of a row", rows, GraphFault::NewlineFirst),
        fault("newline rows empty", rows, GraphFault::NewlineMissing),
        fault("separator row empty", rows, GraphFault::SeparatorMissing),
        fault("separator before the global view", rows, GraphFault::SeparatorFirst),
        fault("the global view before the tiles", rows, GraphFault::GlobalFirst).unless(no_tiles, "no tiles"),
        fault("image rows off by one", rows, GraphFault::ImageRowsOffByOne),
    ]
}

/// The decoder.
pub(super) fn decoder(facts: &Facts) -> Vec<Mutant> {
    let attention = "model.layers.0.self_attn";
    let fault = |name, planted_in: &str, fault| Mutant::graph(name, planted_in, fault);
    let dense = facts.dense_layer().map_or_else(|| experts(facts), |layer| format!("model.layers.{layer}.mlp"));
    let first = if facts.dense_layer() == Some(0) { dense } else { "model.layers.0.mlp".into() };
    let mut all = vec![
        fault("no causal mask", attention, GraphFault::MaskMissing),
        fault("mask off by one: the next token is seen", attention, GraphFault::MaskSeesNext),
        fault("mask hides the first token", attention, GraphFault::MaskHidesFirst),
        fault("rotation pairs neighbours", attention, GraphFault::RopeInterleaved),
        fault("rotation the other way round", attention, GraphFault::RopeReversed),
        fault("queries not rotated", attention, GraphFault::RopeOnKeysOnly),
        fault("positions from one", "model.layers.0", GraphFault::PositionsFromOne),
        fault("key heads tiled, not repeated", attention, GraphFault::HeadGroupsTiled).unless(
            !facts.has_groups() || facts.config.language_config.num_key_value_heads == 1,
            "each key head has one query head, or all",
        ),
        fault("scores not scaled", attention, GraphFault::AttentionUnscaled),
        fault("the decoder's residual taken after the norm", "model.layers.0", GraphFault::DecoderResidualFromNorm),
        fault("GELU for SiLU", &first, GraphFault::GeluForSilu),
        fault("the last norm left out", "model.norm", GraphFault::FinalNormMissing),
        fault("a stale cache: the last token's place keeps the one before", attention, GraphFault::StaleCache)
            .with(Driver::InChunks(7)),
        fault("positions start anew in every chunk", "model.layers.0", GraphFault::CachePositionsRestart)
            .with(Driver::InChunks(7)),
    ];
    all.extend(routing(facts));
    all
}

fn experts(facts: &Facts) -> String {
    format!("model.layers.{}.mlp", facts.moe_layer().unwrap_or(0))
}

fn routing(facts: &Facts) -> Vec<Mutant> {
    let language = &facts.config.language_config;
    let chosen = language.num_experts_per_tok.unwrap_or(1);
    let all_chosen = Some(chosen) == language.n_routed_experts;
    let renormalized = language.norm_topk_prob && chosen > 1 && language.scoring_func == ScoringFunc::Softmax;
    let fault = |name, fault| {
        Mutant::graph(name, experts(facts), fault).impossible_if(facts.moe_layer().is_none(), "no layer has experts")
    };
    vec![
        fault("the router in bfloat16", GraphFault::RouterInBf16),
        fault("softmax after the choice", GraphFault::SoftmaxAfterTopK)
            .rounds_if(renormalized, "softmax over the chosen is the softmax over all, renormalized")
            .rounds_if(all_chosen, "every expert is chosen"),
        fault("weights on the experts' input", GraphFault::GatesOnInput),
        fault("experts not weighted", GraphFault::ExpertsUnweighted),
        fault("the best expert passed over", GraphFault::TopKSkipsBest)
            .impossible_if(all_chosen, "every expert is chosen"),
        fault("shared experts left out", GraphFault::SharedExpertsMissing)
            .impossible_if(language.n_shared_experts.unwrap_or(0) == 0, "no shared experts"),
    ]
}
