"""Small configs of models whose pictures are squares of pixels (LLaVA's kind): the fields of the whole config, and a picture's tokens."""

from __future__ import annotations

from typing import Any

from mlxport.small_types import PER_TYPE
from mlxport.vision_types import END, IMAGE, START, TEXT

SIGLIP: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}
_SIGLIP_ALONE = {**SIGLIP, "model_type": "siglip_vision_model", "vision_use_head": False}
_IDEFICS = (
    {
        "text_config": {**TEXT, "model_type": "llama"},
        "vision_config": SIGLIP,
        "image_token_id": IMAGE,
        "scale_factor": 2,
        "pad_token_id": 0,
    },
    4,
)
_COHERE: dict[str, Any] = {**TEXT, "model_type": "cohere2", "num_hidden_layers": 4, "sliding_window": 8, "head_dim": 16}

SQUARE_TYPES: dict[str, tuple[dict[str, Any], int]] = {
    "gemma3": (
        {
            "text_config": {**TEXT, "head_dim": 16, "num_hidden_layers": 6, "sliding_window": 8},
            "vision_config": {**SIGLIP, "image_size": 64, "vision_use_head": False},
            "mm_tokens_per_image": 64,
            "image_token_index": IMAGE,
            "boi_token_index": START,
            "eoi_token_index": END,
        },
        64,
    ),
    "llava": (
        {
            "text_config": {**TEXT, "model_type": "llama"},
            "vision_config": {**SIGLIP, "model_type": "clip_vision_model", "projection_dim": 32},
            "image_token_index": IMAGE,
            "image_seq_length": 16,
        },
        16,
    ),
    "idefics3": _IDEFICS,
    "smolvlm": _IDEFICS,
    "aya_vision": (
        {
            "text_config": _COHERE,
            "vision_config": _SIGLIP_ALONE,
            "image_token_index": IMAGE,
            "downsample_factor": 2,
            "alignment_intermediate_size": 40,
        },
        4,
    ),
    "cohere2_vision": (
        {
            "text_config": _COHERE,
            "vision_config": _SIGLIP_ALONE,
            "image_token_id": IMAGE,
            "downsample_factor": 2,
            "alignment_intermediate_size": 40,
        },
        4,
    ),
    "internvl": (
        {
            "text_config": {**TEXT, "model_type": "qwen3", "head_dim": 16},
            "vision_config": {**SIGLIP, "model_type": "internvl_vision"},
            "image_token_id": IMAGE,
            "image_seq_length": 4,
            "downsample_ratio": 0.5,
        },
        4,
    ),
    "llama4": (
        {
            "text_config": {**TEXT, **PER_TYPE["llama4_text"], "head_dim": 16, "num_local_experts": 6},
            "vision_config": {
                **SIGLIP,
                # Four patches become one: so wide are the layers' inner parts, too.
                "intermediate_size": 128,
                "vision_output_dim": 48,
                "projector_input_dim": 48,
                "projector_output_dim": 48,
                "pixel_shuffle_ratio": 0.5,
            },
            "image_token_index": IMAGE,
            "boi_token_index": START,
            "eoi_token_index": END,
            # By name, transformers 5.24 looks for a result that its own text model has not.
            "return_dict": False,
        },
        4,
    ),
    "mistral3": (
        {
            "text_config": {**TEXT, "model_type": "mistral", "head_dim": 16},
            "vision_config": {
                **SIGLIP,
                "model_type": "pixtral",
                "image_size": 32,
                "head_dim": 16,
                "hidden_act": "silu",
            },
            "image_token_index": IMAGE,
            "spatial_merge_size": 2,
        },
        16,
    ),
}
# The head of these is their embedding in every release.
TIED = ("gemma3", "aya_vision", "cohere2_vision")
# Both sides are told the size of every picture.
SIZED = ("mistral3",)
