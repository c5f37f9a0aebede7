//! Faults of the computation: a wrong step, with the right weights.

use mlxport_model::{
    backend::resample::{Bicubic, LinearMode},
    contract::{Operation, Scoring},
    parts::{deepseek_v2::LanguageConfig, qwen2_encoder::Qwen2Config},
};

use super::{catalogue::Mutant, model_shape::ModelShape};
use crate::{
    driver::Driver,
    steps::{self, Edit, Modules},
};

const SAM: Modules = Modules::below("model.sam_model", "");
const SAM_ATTENTION: Modules = Modules::below("model.sam_model.blocks.", ".attn");
const SAM_ACTIVATION: Modules = Modules::below("model.sam_model.blocks.", ".act");
const EMBEDDINGS: Modules = Modules::is("model.vision_model.embeddings");
const CLIP: Modules = Modules::below("model.vision_model.transformer.", "");
const MODEL: Modules = Modules::is("model");
const LAYERS: Modules = Modules::below("model.layers.", "");
const ATTENTION: Modules = Modules::below("model.layers.", ".self_attn");
const EXPERTS: Modules = Modules::below("model.layers.", ".mlp");

const NO_CLIP: &str = "there is no CLIP";
const NOT_RESAMPLED: &str = "every view has the table's own grid: nothing is resampled";

/// SAM and CLIP.
pub(super) fn vision(facts: &ModelShape) -> Vec<Mutant> {
    let mut all = if facts.sam.is_some() { sam(facts) } else { Vec::new() };
    all.extend(facts.clip.iter().flat_map(|clip_config| clip(facts, clip_config.heads)));
    all.extend(facts.encoder.iter().flat_map(encoder));
    all
}

fn sam(facts: &ModelShape) -> Vec<Mutant> {
    let block = |windowed| facts.sam_block(windowed).unwrap_or(0);
    let in_block = |number: i32| format!("model.sam_model.blocks.{number}");
    let attention = |number: i32| format!("{}.attn", in_block(number));
    let (fixed, blocks) = (!facts.sam_table_is_resampled(), in_block(0));
    let (windows, padded) = facts.windows().unwrap_or((0, false));
    let no_windows = facts.windows().is_none();
    let fault = |name, planted_in: String, at, edit| Mutant::steps(name, planted_in, at, edit);
    let table = |name, mode| {
        fault(name, blocks.clone(), Modules::is("model.sam_model"), Edit::Bicubic(mode))
            .between("model.sam_model")
            .unless(fixed, NOT_RESAMPLED)
    };
    let relative = |name, mode| {
        fault(name, attention(block(false)), SAM_ATTENTION, Edit::Linear(mode))
            .impossible_if(facts.sam_block(false).is_none(), "every block has windows")
            .unless(fixed, NOT_RESAMPLED)
    };
    vec![
        table("SAM's position table without antialias", Bicubic::Plain),
        table("SAM's position table with aligned corners", Bicubic::AlignCorners),
        table("SAM's position table half a pixel off", Bicubic::WholePixels),
        fault("relative positions missing", attention(0), SAM_ATTENTION, Edit::By(steps::distances_missing)),
        fault(
            "relative positions with key minus query",
            attention(0),
            SAM_ATTENTION,
            Edit::By(steps::distances_reversed),
        ),
        fault("relative positions from scaled queries", attention(0), SAM_ATTENTION, Edit::By(steps::distances_scaled)),
        relative("relative positions resized with aligned corners", LinearMode::AlignCorners),
        relative("relative positions resized half a pixel off", LinearMode::WholePixels),
        fault(
            "quick_gelu for SAM's exact GELU",
            "model.sam_model.blocks.0.mlp".into(),
            SAM_ACTIVATION,
            Edit::Function(Operation::QuickGelu),
        ),
        fault(
            "tanh GELU for SAM's exact GELU",
            "model.sam_model.blocks.0.mlp".into(),
            SAM_ACTIVATION,
            Edit::Function(Operation::GeluTanh),
        ),
        fault("windows padded at the top left", in_block(block(true)), SAM, Edit::By(steps::windows_padded_first))
            .impossible_if(no_windows, "no block has windows")
            .unless(!padded, "the windows need no padding"),
        fault(
            "windows joined column by column",
            in_block(block(true)),
            SAM,
            Edit::By(steps::windows_mended_transposed),
        )
        .impossible_if(no_windows, "no block has windows")
        .unless(windows < 2, "one window holds the whole view"),
        fault(
            "SAM's residual taken after the norm",
            blocks.clone(),
            SAM.named("attention"),
            Edit::By(steps::residual_from_norm),
        ),
        fault(
            "LayerNorm2d over the image",
            "model.sam_model.neck.1".into(),
            Modules::below("model.sam_model.neck.", ""),
            Edit::By(steps::norm_per_image),
        ),
        fault(
            "strided convolutions padded at the end",
            "model.sam_model.net_2".into(),
            SAM,
            Edit::By(steps::padded_after),
        ),
    ]
}

fn clip(facts: &ModelShape, heads: i32) -> Vec<Mutant> {
    let fixed = !facts.clip_table_is_resampled();
    let (embeddings, layer) = ("model.vision_model.embeddings", "model.vision_model.transformer.layers.0");
    let fault = |name, planted_in: &str, at, edit| Mutant::steps(name, planted_in, at, edit);
    vec![
        fault("CLIP's position table without antialias", embeddings, EMBEDDINGS, Edit::Bicubic(Bicubic::Plain))
            .unless(fixed, NOT_RESAMPLED)
            .rounds_if(facts.clip_takes_the_mean(), "a table of 2 × 2 for one place: either way takes its mean"),
        fault(
            "CLIP's position table with aligned corners",
            embeddings,
            EMBEDDINGS,
            Edit::Bicubic(Bicubic::AlignCorners),
        )
        .unless(fixed, NOT_RESAMPLED),
        fault("CLIP's position table half a pixel off", embeddings, EMBEDDINGS, Edit::Bicubic(Bicubic::WholePixels))
            .unless(fixed, NOT_RESAMPLED),
        fault(
            "CLIP's position table resampled as if channels came first",
            embeddings,
            EMBEDDINGS,
            Edit::By(steps::table_scrambled),
        )
        .unless(fixed, NOT_RESAMPLED),
        fault("CLIP's positions missing", embeddings, EMBEDDINGS, Edit::By(steps::addition_missing)),
        fault("the class token last", embeddings, EMBEDDINGS, Edit::By(steps::joined_backwards)),
        fault("SAM's features read column by column", embeddings, EMBEDDINGS, Edit::By(steps::flattened_by_columns))
            .unless(facts.clip_grids().iter().all(|&grid| grid == 1), "one feature per view"),
        fault(
            "CLIP's first norm left out",
            "model.vision_model.pre_layrnorm",
            Modules::is("model.vision_model.pre_layrnorm"),
            Edit::By(steps::norm_missing),
        ),
        fault("exact GELU for CLIP's quick_gelu", &format!("{layer}.mlp"), CLIP, Edit::Function(Operation::Gelu)),
        fault("tanh GELU for CLIP's quick_gelu", &format!("{layer}.mlp"), CLIP, Edit::Function(Operation::GeluTanh)),
        fault(
            "scores scaled by the model's width",
            &format!("{layer}.self_attn"),
            CLIP,
            Edit::By(steps::scaled_by_width),
        )
        .unless(heads == 1, "one head is as wide as the model"),
    ]
}

/// The encoder of image tokens and queries.
fn encoder(config: &Qwen2Config) -> Vec<Mutant> {
    let (tower, layer) = ("model.qwen2_model", "model.qwen2_model.model.model.layers.0");
    let attention = format!("{layer}.self_attn");
    let fault = |name, planted_in: &str, at, edit| Mutant::steps(name, planted_in, at, edit);
    let (each, one) = (Modules::below("model.qwen2_model.model.", ".self_attn"), Modules::is(tower));
    vec![
        fault("queries before the image tokens", tower, one.named("queries"), Edit::By(steps::joined_backwards)),
        fault("image tokens come out, not queries", tower, one, Edit::By(steps::taken_from_first)),
        fault("image tokens see queries, and queries all", &attention, each, Edit::By(steps::mask_missing)),
        fault("image tokens see only those before them", &attention, each, Edit::By(steps::mask_causal)),
        fault("the encoder's rotation pairs neighbours", &attention, each, Edit::By(steps::rotated_neighbours))
            .unless(config.head_dim() == 2, "a head has one pair"),
        fault("the encoder's queries not rotated", &attention, each, Edit::By(steps::queries_not_rotated)),
        fault("the encoder's key heads tiled, not repeated", &attention, each, Edit::By(steps::key_heads_tiled))
            .unless(
                config.kv_heads == config.heads || config.kv_heads == 1,
                "each key head has one query head, or all",
            ),
        fault("the encoder's scores not scaled", &attention, each, Edit::By(steps::scores_unscaled)),
        fault(
            "the encoder's positions from one",
            "model.qwen2_model.model.model.rotary_emb",
            Modules::is("model.qwen2_model.model.model"),
            Edit::By(steps::numbered_from_one),
        )
        .between("model.qwen2_model.model.model"),
        fault(
            "the encoder's residual taken after the norm",
            layer,
            Modules::is("model.qwen2_model.model.model.layers.0").named("attention"),
            Edit::By(steps::residual_from_norm),
        ),
        fault(
            "GELU for the encoder's SiLU",
            &format!("{layer}.mlp"),
            Modules::below("model.qwen2_model.model.", ".act_fn"),
            Edit::Function(Operation::Gelu),
        ),
    ]
}

/// Between the encoders and the decoder.
pub(super) fn assembly(facts: &ModelShape) -> Vec<Mutant> {
    let no_tiles = facts.tiles.is_none();
    let one_line = facts.tiles.is_none_or(|(across, down)| across == 1 || down == 1);
    let (features, rows) = (facts.junction.encoded, facts.junction.point);
    let fault = |name, planted_in: &str, at, edit| {
        Mutant::steps(name, planted_in, at, edit).impossible_if(facts.sam_grids.is_empty(), "the prompt has no picture")
    };
    vec![
        fault("SAM's features before CLIP's", features, MODEL.named("features"), Edit::By(steps::joined_backwards))
            .impossible_if(facts.clip.is_none(), NO_CLIP),
        fault("the class row kept, the last row dropped", features, MODEL, Edit::By(steps::taken_from_first))
            .impossible_if(facts.clip.is_none(), NO_CLIP),
        fault("tiles in column order", rows, MODEL, Edit::By(steps::laid_by_columns))
            .unless(no_tiles, "no tiles")
            .impossible_if(!facts.has_newlines, "tiles follow each other, whatever the grid")
            .unless(one_line, "tiles in one line have one order"),
        fault("newline at the start of a row", rows, MODEL.named("newlines"), Edit::By(steps::joined_backwards))
            .impossible_if(!facts.has_newlines, "rows end with no newline"),
        fault("newline rows empty", rows, MODEL.named("newlines"), Edit::By(steps::last_part_empty))
            .impossible_if(!facts.has_newlines, "rows end with no newline"),
        fault("separator row empty", rows, MODEL.named("rows"), Edit::By(steps::last_part_empty)),
        fault("separator before the global view", rows, MODEL.named("rows"), Edit::By(steps::last_parts_exchanged)),
        fault("the global view before the tiles", rows, MODEL.named("rows"), Edit::By(steps::last_but_one_first))
            .unless(no_tiles, "no tiles"),
        fault("image rows off by one", rows, MODEL.named("rows"), Edit::By(steps::rows_off_by_one)),
    ]
}

/// Tokens of a chunk where a fault needs the cache to show.
const CHUNK: i32 = 7;

/// The decoder.
pub(super) fn decoder(facts: &ModelShape) -> Vec<Mutant> {
    let Some(language) = &facts.language else { return Vec::new() };
    let attention = "model.layers.0.self_attn";
    let fault = |name, planted_in: &str, at, edit| Mutant::steps(name, planted_in, at, edit);
    let dense = facts.dense_layer().map_or_else(|| experts(facts), |layer| format!("model.layers.{layer}.mlp"));
    let first = if facts.dense_layer() == Some(0) { dense } else { "model.layers.0.mlp".into() };
    let mut all = vec![
        fault("no causal mask", attention, ATTENTION, Edit::By(steps::mask_missing)),
        fault("mask off by one: the next token is seen", attention, ATTENTION, Edit::By(steps::mask_sees_next)),
        fault("mask hides the first token", attention, ATTENTION, Edit::By(steps::mask_hides_first)),
        fault("rotation pairs neighbours", attention, ATTENTION, Edit::By(steps::rotated_neighbours)),
        fault("rotation the other way round", attention, ATTENTION, Edit::By(steps::rotated_reversed)),
        fault("queries not rotated", attention, ATTENTION, Edit::By(steps::queries_not_rotated)),
        fault("positions from one", facts.junction.positions, MODEL, Edit::By(steps::numbered_from_one)).rounds_if(
            !facts.attention_is_recorded,
            "scores depend on differences of positions, and nothing inside attention was recorded",
        ),
        fault("key heads tiled, not repeated", attention, ATTENTION, Edit::By(steps::key_heads_tiled)).unless(
            !facts.has_groups() || language.num_key_value_heads == 1,
            "each key head has one query head, or all",
        ),
        fault("scores not scaled", attention, ATTENTION, Edit::By(steps::scores_unscaled)),
        fault(
            "the decoder's residual taken after the norm",
            "model.layers.0",
            LAYERS.named("attention"),
            Edit::By(steps::residual_from_norm),
        ),
        fault("GELU for SiLU", &first, Modules::below("model.layers.", ".act_fn"), Edit::Function(Operation::Gelu)),
        fault("the last norm left out", "model.norm", Modules::is("model.norm"), Edit::By(steps::norm_missing)),
    ];
    all.extend(caching(facts));
    all.extend(routing(facts, language));
    all
}

fn caching(facts: &ModelShape) -> Vec<Mutant> {
    // A prompt that is one chunk would not come through the cache.
    let through_cache = if facts.prompt_len > CHUNK as usize { Driver::InChunks(CHUNK) } else { Driver::InHalves };
    let stale = "a stale cache: the last token's place keeps the one before";
    let (attention, positions) = ("model.layers.0.self_attn", facts.junction.positions);
    vec![
        Mutant::steps(stale, attention, ATTENTION, Edit::By(steps::cache_stale)).with(through_cache),
        Mutant::steps("positions start anew in every chunk", positions, MODEL, Edit::By(steps::numbered_anew))
            .with(through_cache),
    ]
}

fn experts(facts: &ModelShape) -> String {
    format!("model.layers.{}.mlp", facts.moe_layer().unwrap_or(0))
}

fn routing(facts: &ModelShape, language: &LanguageConfig) -> Vec<Mutant> {
    let chosen = language.num_experts_per_tok.unwrap_or(1);
    let all_chosen = Some(chosen) == language.n_routed_experts;
    let renormalized = language.norm_topk_prob && chosen > 1 && language.scoring_func == Scoring::Softmax;
    let fault = |name, at, edit| {
        Mutant::steps(name, experts(facts), at, edit).impossible_if(facts.moe_layer().is_none(), "no layer has experts")
    };
    vec![
        fault("the router in bfloat16", Modules::below("model.layers.", ".gate"), Edit::By(steps::product_in_bf16)),
        fault(
            "softmax after the choice",
            Modules::below("model.layers.", ".gate"),
            Edit::By(steps::softmax_of_the_chosen),
        )
        .rounds_if(renormalized, "softmax over the chosen is the softmax over all, renormalized")
        .rounds_if(all_chosen, "every expert is chosen"),
        fault("weights on the experts' input", EXPERTS, Edit::By(steps::weights_on_input)),
        fault("experts not weighted", EXPERTS, Edit::By(steps::experts_unweighted)),
        fault(
            "the best expert passed over",
            Modules::below("model.layers.", ".gate"),
            Edit::By(steps::best_passed_over),
        )
        .impossible_if(all_chosen, "every expert is chosen"),
        fault("shared experts left out", EXPERTS, Edit::By(steps::shared_missing))
            .impossible_if(language.n_shared_experts.unwrap_or(0) == 0, "no shared experts"),
    ]
}
