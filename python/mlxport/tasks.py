"""Models that are no language models: small configs, what both sides are given, and which part of them is run."""

from __future__ import annotations

import copy
from typing import Any

import mlx.core as mx
import numpy as np

from mlxport import encoders
from mlxport.task import Task
from mlxport.vision_types import TEXT


def _sam3_inputs(config: dict[str, Any], drawn: np.random.Generator) -> dict[str, np.ndarray]:
    """A square picture and what is looked for, in words."""
    detector = config["detector_config"]
    size = int(detector["vision_config"]["backbone_config"]["image_size"])
    words = int(detector["text_config"]["vocab_size"])
    return {
        "pixel_values": drawn.standard_normal((1, 3, size, size)).astype(np.float32),
        "input_ids": drawn.integers(3, words, size=(1, 7), dtype=np.int64),
        "attention_mask": np.ones((1, 7), np.int64),
    }


_WIDTH = 24
_VIT: dict[str, Any] = {
    "model_type": "sam3_vit_model",
    "hidden_size": 40,
    "intermediate_size": 60,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 7,
    "window_size": 4,
    "global_attn_indexes": [1],
    "pretrain_image_size": 28,
}
_SAM3_VISION: dict[str, Any] = {
    "backbone_config": _VIT,
    "fpn_hidden_size": _WIDTH,
    "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
    "num_feature_levels": 3,
}
# The scores' inner width is eight times the model's in every release, and in the port.
_DETR: dict[str, Any] = {
    "hidden_size": _WIDTH,
    "num_attention_heads": 4,
    "intermediate_size": 8 * _WIDTH,
    "num_layers": 2,
}
_SAM3: dict[str, Any] = {
    "detector_config": {
        "image_size": 56,
        "vision_config": _SAM3_VISION,
        "text_config": {
            "hidden_size": 20,
            "intermediate_size": 44,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "vocab_size": 199,
            "max_position_embeddings": 32,
            "projection_dim": _WIDTH,
            "hidden_act": "gelu",
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
        },
        "geometry_encoder_config": {**_DETR, "num_layers": 1, "roi_size": 3},
        "detr_encoder_config": _DETR,
        # One layer: boxes that are refined through logarithms make rounding grow from layer to layer.
        "detr_decoder_config": {**_DETR, "num_layers": 1, "num_queries": 10},
        "mask_decoder_config": {"hidden_size": _WIDTH, "num_attention_heads": 4, "num_upsampling_stages": 3},
    },
    "tracker_config": {
        "image_size": 56,
        "vision_config": _SAM3_VISION,
        "memory_attention_hidden_size": _WIDTH,
        "memory_attention_feed_forward_hidden_size": 36,
        "memory_attention_num_layers": 1,
        "memory_encoder_hidden_size": 256,
        "memory_encoder_output_channels": 64,
        "memory_fuser_embed_dim": 256,
        "memory_fuser_intermediate_dim": 36,
        "mask_downsampler_embed_dim": 256,
        "mask_decoder_config": {
            "hidden_size": _WIDTH,
            "iou_head_hidden_dim": _WIDTH,
            "mlp_dim": 36,
            "num_attention_heads": 2,
        },
        "prompt_encoder_config": {"hidden_size": _WIDTH, "image_size": 56, "patch_size": 7},
    },
}

_AUDIO_TOKEN = 190
_GRANITE_SPEECH: dict[str, Any] = {
    "text_config": {
        **TEXT,
        "model_type": "granite",
        "embedding_multiplier": 3.0,
        "logits_scaling": 2.0,
        "residual_multiplier": 0.5,
        "attention_multiplier": 0.2,
    },
    "encoder_config": {
        "input_dim": 20,
        "num_layers": 2,
        "hidden_dim": 32,
        "num_heads": 4,
        "dim_head": 8,
        "output_dim": 14,
        "context_size": 10,
        "max_pos_emb": 12,
        "conv_kernel_size": 5,
    },
    "projector_config": {
        "model_type": "blip_2_qformer",
        "hidden_size": 40,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "intermediate_size": 44,
        "encoder_hidden_size": 32,
        "cross_attention_frequency": 1,
    },
    "audio_token_index": _AUDIO_TOKEN,
    "has_lora_adapter": False,
    "tie_word_embeddings": False,
}


def _granite_inputs(config: dict[str, Any], drawn: np.random.Generator) -> dict[str, np.ndarray]:
    """Frames of sound, no whole number of windows, and a text with a token for each of their features."""
    frames = 43
    window, rate = int(config["window_size"]), int(config["downsample_rate"])
    count = -(-frames // window) * (window // rate)
    ids = [*drawn.integers(3, _AUDIO_TOKEN, size=5), *[_AUDIO_TOKEN] * count, *drawn.integers(3, _AUDIO_TOKEN, size=9)]
    return {
        "input_ids": np.array([ids], np.int64),
        "input_features": drawn.standard_normal((1, frames, config["encoder_config"]["input_dim"])).astype(np.float32),
    }


def _granite_speech(model: Any, given: dict[str, mx.array]) -> mx.array:
    """As the port's own generation calls it."""
    heard = model.get_audio_features(given["input_features"])
    return model(given["input_ids"], input_embeddings=model._build_inputs_embeds(given["input_ids"][0], heard))


TASKS: dict[str, Task] = {
    "granite_speech": Task(
        _GRANITE_SPEECH, _granite_inputs, "", "logits", called=_granite_speech, port_name="mlx-audio"
    ),
    "sam3_video": Task(_SAM3, _sam3_inputs, "detector_model", "pred_masks", ("pixel_values",)),
    **encoders.TASKS,
}


def of(model_type: str | None) -> Task | None:
    """The task of a model type, where it is one of these."""
    return TASKS.get(model_type or "")


def config(model_type: str, fields: dict[str, Any]) -> Any:
    """The small config of a type in TASKS; `fields` (dotted names of nested ones) go before what it has."""
    import transformers

    given = copy.deepcopy(TASKS[model_type].fields)
    put(given, fields)
    return transformers.CONFIG_MAPPING[model_type](**given)


def put(given: dict[str, Any], fields: dict[str, Any]) -> None:
    """Sets fields by their dotted names."""
    for name, value in fields.items():
        *parts, last = name.split(".")
        held = given
        for part in parts:
            held = held.setdefault(part, {})
        held[last] = value
