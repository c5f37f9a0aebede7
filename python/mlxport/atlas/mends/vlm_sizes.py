"""The widths of releases at which the findings of mlx-vlm are measured, by page.

Of models with pictures: what differs from the small model's config, by dotted names. Layers and words are few, experts are fewer.
What mlx-vlm has copied from mlx-lm is measured on mlx-lm's page.
"""

from __future__ import annotations

from typing import Any

from mlxport.atlas.mends.finding import Real

_QWEN3_VISION: dict[str, Any] = {
    "vision_config.hidden_size": 1152,
    "vision_config.intermediate_size": 4304,
    "vision_config.num_heads": 16,
    "vision_config.patch_size": 16,
    "vision_config.num_position_embeddings": 2304,
    "vision_config.out_hidden_size": 2048,
}
_GLM4V = Real(
    "glm4v",
    "GLM-4.1V-9B",
    {
        "text_config.hidden_size": 4096,
        "text_config.intermediate_size": 13696,
        "text_config.num_attention_heads": 32,
        "text_config.head_dim": 128,
        "text_config.num_hidden_layers": 1,
        "text_config.rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [8, 12, 12],
            "partial_rotary_factor": 0.5,
        },
        "vision_config.hidden_size": 1536,
        "vision_config.num_heads": 12,
        "vision_config.depth": 2,
        "vision_config.out_hidden_size": 4096,
        "vision_config.intermediate_size": 13696,
        "vision_config.patch_size": 14,
        "vision_config.image_size": 336,
    },
    pictures=((1, 32, 20),),
)
_GEMMA3 = Real(
    "gemma3",
    "gemma-3-4b",
    {
        "text_config.hidden_size": 2560,
        "text_config.intermediate_size": 10240,
        "text_config.num_attention_heads": 8,
        "text_config.num_key_value_heads": 4,
        "text_config.head_dim": 256,
        "text_config.query_pre_attn_scalar": 256,
        "text_config.sliding_window": 1024,
        "text_config.num_hidden_layers": 2,
        "text_config.layer_types": ["sliding_attention", "full_attention"],
        "vision_config.hidden_size": 1152,
        "vision_config.intermediate_size": 4304,
        "vision_config.num_attention_heads": 16,
        "vision_config.patch_size": 14,
        # The release's pictures are twice as wide and high, and pooled twice as far.
        "vision_config.image_size": 448,
        "mm_tokens_per_image": 256,
    },
)
_FALCON_H1 = {
    "hidden_size": 2048,
    "intermediate_size": 4096,
    "num_hidden_layers": 2,
    "mamba_d_ssm": 3072,
    "mamba_n_heads": 48,
    "mamba_d_state": 256,
    "head_dim": 128,
}

REAL: dict[str, tuple[Real, ...]] = {
    "l2-norm-epsilon": (
        Real(
            "qwen3_next", "Qwen3-Next-80B-A3B", {"num_hidden_layers": 4, "num_experts": 12, "num_attention_heads": 16}
        ),
    ),
    "lfm2-moe-router": (
        Real(
            "lfm2_moe",
            "LFM2-8B-A1B",
            {
                "num_hidden_layers": 3,
                "num_dense_layers": 1,
                "num_experts": 8,
                "layer_types": ["conv", "full_attention", "conv"],
            },
        ),
    ),
    "internlm3-rope": (
        Real(
            "internlm3",
            "internlm3-8b",
            {
                "hidden_size": 4096,
                "intermediate_size": 10240,
                "num_attention_heads": 32,
                "num_key_value_heads": 2,
                "num_hidden_layers": 2,
                "rope_parameters": {"rope_type": "dynamic", "factor": 6.0, "rope_theta": 50000000.0},
            },
        ),
    ),
    "gated-delta-decay": (
        Real(
            "qwen3_5_text",
            "Qwen3.5-4B",
            {"hidden_size": 2560, "intermediate_size": 9216, "num_hidden_layers": 4, "num_attention_heads": 16},
        ),
    ),
    "right-padding-mask": (Real("falcon_h1", "Falcon-H1-1.5B", _FALCON_H1, padding=24, right=True),),
    "dinov2-registers-antialias": (
        Real(
            "dinov2_with_registers",
            "dinov2-with-registers-base",
            {"hidden_size": 768, "num_attention_heads": 12, "image_size": 518, "patch_size": 14, "mlp_ratio": 4},
        ),
    ),
    "glm4v-positions": (_GLM4V,),
    "gemma3-picture-scale": (_GEMMA3,),
    "gemma3-picture-mask": (_GEMMA3,),
    "last-norm-eps": (
        Real(
            "smolvlm",
            "SmolVLM-256M",
            {
                "text_config.hidden_size": 576,
                "text_config.intermediate_size": 1536,
                "text_config.num_attention_heads": 9,
                "text_config.num_key_value_heads": 3,
                "vision_config.hidden_size": 768,
                "vision_config.intermediate_size": 3072,
                "vision_config.num_attention_heads": 12,
                "vision_config.image_size": 512,
                "vision_config.patch_size": 16,
                "scale_factor": 4,
            },
        ),
    ),
    "qwen3-vl-moe-gelu": (
        Real(
            "qwen3_vl_moe",
            "Qwen3-VL-30B-A3B",
            {
                **_QWEN3_VISION,
                "text_config.hidden_size": 2048,
                "text_config.num_attention_heads": 32,
                "text_config.num_key_value_heads": 4,
                "text_config.head_dim": 128,
                "text_config.num_experts": 16,
                "text_config.num_experts_per_tok": 8,
                "text_config.moe_intermediate_size": 768,
                "text_config.rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 5000000.0,
                    "mrope_section": [24, 20, 20],
                    "mrope_interleaved": True,
                },
            },
        ),
    ),
    "paddleocr-norm-eps": (
        Real(
            "paddleocr_vl",
            "PaddleOCR-VL-0.9B",
            {
                "text_config.intermediate_size": 3072,
                "text_config.num_attention_heads": 16,
                "text_config.num_key_value_heads": 2,
                "text_config.head_dim": 128,
                "text_config.rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 500000.0,
                    "mrope_section": [16, 24, 24],
                },
                "vision_config.hidden_size": 1152,
                "vision_config.intermediate_size": 4304,
                "vision_config.num_attention_heads": 16,
                "vision_config.image_size": 384,
                "vision_config.patch_size": 14,
            },
        ),
    ),
}
