"""Small configs of models with pictures, by type.

Pictures are rows of patches with grids (Qwen's kind) or with places (Gemma 4's). Squares of pixels are in `vision_squares`.
"""

from __future__ import annotations

from typing import Any

from mlxport.small_types import PER_TYPE

# Tokens that mark pictures in the small vocabulary.
START, END, IMAGE, VIDEO = 190, 191, 192, 193
GRIDS = ((1, 4, 6), (1, 6, 4))
MERGE = 2
# Tokens after the last picture and its text: steps over the cache are among them.
TAIL = 8

# The text's part of a small model.
TEXT: dict[str, Any] = {
    "vocab_size": 199,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def _rope(section: list[int], **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": section, **more}}


_M_TEXT: dict[str, Any] = {**TEXT, **_rope([4, 2, 2])}
_PATCHES: dict[str, Any] = {"in_channels": 3, "patch_size": 4, "spatial_merge_size": MERGE, "temporal_patch_size": 2}
_QWEN3_VISION: dict[str, Any] = {
    **_PATCHES,
    "depth": 3,
    "hidden_size": 32,
    "num_heads": 2,
    "out_hidden_size": 64,
    "intermediate_size": 48,
    "num_position_embeddings": 64,
    "deepstack_visual_indexes": [0, 1],
}
_QWEN3_5_VISION = {name: value for name, value in _QWEN3_VISION.items() if name != "deepstack_visual_indexes"}
_QWEN3_5_TEXT: dict[str, Any] = {
    **TEXT,
    "head_dim": 16,
    "num_hidden_layers": 4,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    **_rope([1, 1, 0], mrope_interleaved=True, partial_rotary_factor=0.25),
}
_GLM_VISION: dict[str, Any] = {
    **_PATCHES,
    "depth": 2,
    "hidden_size": 32,
    "num_heads": 2,
    "image_size": 32,
    "out_hidden_size": 64,
    "intermediate_size": 48,
}
_GLM_TEXT: dict[str, Any] = {**TEXT, "head_dim": 16, **_rope([2, 2, 4], partial_rotary_factor=1.0)}
# By type: the text's part and the pictures' part.
GRID_TYPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "qwen2_vl": (
        _M_TEXT,
        {**_PATCHES, "depth": 2, "embed_dim": 32, "num_heads": 2, "hidden_size": 64, "mlp_ratio": 2},
    ),
    "qwen2_5_vl": (
        _M_TEXT,
        {
            **_PATCHES,
            "depth": 2,
            "hidden_size": 32,
            "num_heads": 2,
            "out_hidden_size": 64,
            "intermediate_size": 48,
            "window_size": 16,
            "fullatt_block_indexes": [1],
            "tokens_per_second": 2,
        },
    ),
    "qwen3_vl": ({**TEXT, "head_dim": 16, **_rope([4, 2, 2], mrope_interleaved=True)}, _QWEN3_VISION),
    "qwen3_vl_moe": (
        {
            **TEXT,
            "head_dim": 16,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            **_rope([4, 2, 2], mrope_interleaved=True),
        },
        _QWEN3_VISION,
    ),
    "qwen3_5": (_QWEN3_5_TEXT, _QWEN3_5_VISION),
    "qwen3_5_moe": (
        {
            **_QWEN3_5_TEXT,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "shared_expert_intermediate_size": 40,
        },
        _QWEN3_5_VISION,
    ),
    "qwen3_omni_moe_thinker": (
        {
            **TEXT,
            "head_dim": 16,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            **_rope([4, 2, 2], mrope_interleaved=True),
        },
        _QWEN3_VISION,
    ),
    "glm4v": (_GLM_TEXT, _GLM_VISION),
    "glm_ocr": (_GLM_TEXT, _GLM_VISION),
    "glm4v_moe": (
        {
            **TEXT,
            "head_dim": 16,
            "num_hidden_layers": 3,
            "n_routed_experts": 6,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "n_shared_experts": 1,
            "first_k_dense_replace": 1,
            "n_group": 1,
            "topk_group": 1,
            "routed_scaling_factor": 1.3,
            "use_qk_norm": False,
            **_rope([1, 1, 2], partial_rotary_factor=0.5),
        },
        _GLM_VISION,
    ),
    "paddleocr_vl": (
        # mlx-vlm's projector is 1,024 wide whatever the config says.
        {**TEXT, "hidden_size": 1024, "head_dim": 16, "use_bias": False, **_rope([4, 2, 2])},
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 48,
            "image_size": 32,
            "patch_size": 4,
            "num_channels": 3,
            "spatial_merge_size": MERGE,
        },
    ),
}
# Parts that a type has besides: ears.
MORE: dict[str, dict[str, Any]] = {
    "qwen3_omni_moe_thinker": {
        "audio_config": {
            "num_mel_bins": 16,
            "encoder_layers": 1,
            "num_hidden_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 40,
            "d_model": 32,
            "output_dim": 64,
            "downsample_hidden_size": 12,
            "n_window": 4,
            "n_window_infer": 8,
            "max_source_positions": 50,
            "conv_chunksize": 20,
        },
        "audio_token_id": 194,
        "audio_start_token_id": 195,
        "audio_end_token_id": 196,
    },
}
# Pictures as padded rows of patches with their places (Gemma 4's kind): the fields of the whole config.
PLACED_TYPES: dict[str, dict[str, Any]] = {
    "gemma4": {
        "text_config": {
            **TEXT,
            **PER_TYPE["gemma4_text"],
            "sliding_window": 8,
        },
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "global_head_dim": 16,
            "patch_size": 4,
            "position_embedding_size": 64,
            "pooling_kernel_size": 2,
            "default_output_length": 16,
            "max_position_embeddings": 64,
        },
        "audio_config": None,
        "image_token_id": IMAGE,
        "boi_token_id": START,
        "eoi_token_id": END,
    },
}
# Pictures as rows of patches, padded to the longest, with their heights and widths (SigLIP 2's kind): the fields of the whole config.
SHAPED_TYPES: dict[str, dict[str, Any]] = {
    "lfm2_vl": {
        "text_config": {**TEXT, **PER_TYPE["lfm2"], "model_type": "lfm2"},
        "vision_config": {
            "model_type": "siglip2_vision_model",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_patches": 16,
            "patch_size": 4,
            "vision_use_head": False,
        },
        "image_token_id": IMAGE,
        "projector_hidden_size": 40,
        "downsample_factor": 2,
    },
}
# What ports know by the whole's name, and which part of it is run.
PARTS = {"qwen3_omni_moe": "qwen3_omni_moe_thinker"}
# Ports of these are always told what is no padding.
MASKED = ("gemma3",)
GLM_OCR_TEXT = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "eos_token_id",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
    "attention_bias",
    "hidden_act",
    "rope_parameters",
    "pad_token_id",
    "tie_word_embeddings",
)
GLM_OCR_VISION = (*_GLM_VISION, "model_type", "rms_norm_eps", "attention_bias", "hidden_act")
