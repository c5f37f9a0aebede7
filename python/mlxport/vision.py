"""Models with pictures: small configs, and what both sides are fed.

Two families: pictures as rows of patches with grids (Qwen's kind), and pictures as squares of pixels (LLaVA's kind). There are two
pictures; grids are unlike, neither square nor of the table's size: what ports get wrong shows there.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

# Tokens that mark pictures in the small vocabulary.
START, END, IMAGE, VIDEO = 190, 191, 192, 193
GRIDS = ((1, 4, 6), (1, 6, 4))
MERGE = 2

_TEXT: dict[str, Any] = {
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


_M_TEXT: dict[str, Any] = {**_TEXT, **_rope([4, 2, 2])}
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
_GLM_VISION: dict[str, Any] = {
    **_PATCHES,
    "depth": 2,
    "hidden_size": 32,
    "num_heads": 2,
    "image_size": 32,
    "out_hidden_size": 64,
    "intermediate_size": 48,
}
_GLM_TEXT: dict[str, Any] = {**_TEXT, "head_dim": 16, **_rope([2, 2, 4], partial_rotary_factor=1.0)}
# By type: the text's part and the pictures' part.
_GRID_TYPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
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
    "qwen3_vl": ({**_TEXT, "head_dim": 16, **_rope([4, 2, 2], mrope_interleaved=True)}, _QWEN3_VISION),
    "qwen3_vl_moe": (
        {
            **_TEXT,
            "head_dim": 16,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            **_rope([4, 2, 2], mrope_interleaved=True),
        },
        _QWEN3_VISION,
    ),
    "qwen3_5": (
        {
            **_TEXT,
            "head_dim": 16,
            "num_hidden_layers": 4,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            **_rope([1, 1, 0], mrope_interleaved=True, partial_rotary_factor=0.25),
        },
        {name: value for name, value in _QWEN3_VISION.items() if name != "deepstack_visual_indexes"},
    ),
    "glm4v": (_GLM_TEXT, _GLM_VISION),
    "glm_ocr": (_GLM_TEXT, _GLM_VISION),
    "paddleocr_vl": (
        # mlx-vlm's projector is 1,024 wide whatever the config says.
        {**_TEXT, "hidden_size": 1024, "head_dim": 16, "use_bias": False, **_rope([4, 2, 2])},
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
_SIGLIP: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}
# By type: the fields of the whole config, and how many tokens a picture has.
_SQUARE_TYPES: dict[str, tuple[dict[str, Any], int]] = {
    "gemma3": (
        {
            "text_config": {**_TEXT, "head_dim": 16, "num_hidden_layers": 6, "sliding_window": 8},
            "vision_config": {**_SIGLIP, "image_size": 64, "vision_use_head": False},
            "mm_tokens_per_image": 64,
            "image_token_index": IMAGE,
            "boi_token_index": START,
            "eoi_token_index": END,
        },
        64,
    ),
    "llava": (
        {
            "text_config": {**_TEXT, "model_type": "llama"},
            "vision_config": {**_SIGLIP, "model_type": "clip_vision_model", "projection_dim": 32},
            "image_token_index": IMAGE,
            "image_seq_length": 16,
        },
        16,
    ),
    "idefics3": (
        {
            "text_config": {**_TEXT, "model_type": "llama"},
            "vision_config": dict(_SIGLIP),
            "image_token_id": IMAGE,
            "scale_factor": 2,
            "pad_token_id": 0,
        },
        4,
    ),
    "smolvlm": (
        {
            "text_config": {**_TEXT, "model_type": "llama"},
            "vision_config": dict(_SIGLIP),
            "image_token_id": IMAGE,
            "scale_factor": 2,
            "pad_token_id": 0,
        },
        4,
    ),
}
_GLM_OCR_TEXT = (
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
_GLM_OCR_VISION = (*_GLM_VISION, "model_type", "rms_norm_eps", "attention_bias", "hidden_act")
TYPES = (*_GRID_TYPES, *_SQUARE_TYPES)


def config(model_type: str) -> Any:
    """The small config of a type in TYPES."""
    import transformers

    kind: Any = transformers.CONFIG_MAPPING[model_type]
    if model_type in _SQUARE_TYPES:
        # Gemma 3's head is its embedding in every release.
        return kind(**copy.deepcopy(_SQUARE_TYPES[model_type][0]), tie_word_embeddings=model_type == "gemma3")
    text, vision = _GRID_TYPES[model_type]
    marks = {"image": IMAGE, "video": VIDEO, "vision_start": START, "vision_end": END}
    return kind(
        text_config={**copy.deepcopy(text), "tie_word_embeddings": False},
        vision_config=dict(vision),
        **{f"{name}_token_id": token for name, token in marks.items()},
        **({"image_start_token_id": START, "image_end_token_id": END} if model_type.startswith("glm") else {}),
        tie_word_embeddings=False,
    )


def has_pictures(config: dict[str, Any]) -> bool:
    """Whether a config is of a model with pictures."""
    return isinstance(config.get("vision_config"), dict)


def inputs(config: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    """What the PyTorch model is fed: two pictures among text. A type that is not known here is fed as Qwen's kind is."""
    drawn = np.random.default_rng(seed + 1)
    if config.get("model_type") in _SQUARE_TYPES:
        return _squares(config, drawn)
    return _grids(config, drawn)


def _squares(config: dict[str, Any], drawn: np.random.Generator) -> dict[str, np.ndarray]:
    """Pictures of `image_size` by `image_size` pixels; each is so many tokens in a row."""
    vision, kind = config["vision_config"], config["model_type"]
    count, size = _SQUARE_TYPES[kind][1], int(vision["image_size"])
    image = config.get("image_token_id") or config.get("image_token_index") or IMAGE
    text = lambda n: list(drawn.integers(3, START, size=n))  # noqa: E731
    ids: list[int] = text(7)
    for _ in range(2):
        ids += [START, *[image] * count, END, *text(3)]
    pixels = drawn.standard_normal((2, 3, size, size)).astype(np.float32)
    fed: dict[str, np.ndarray] = {"input_ids": np.array([ids], np.int64)}
    fed["pixel_values"] = pixels[None] if kind in ("idefics3", "smolvlm") else pixels
    if kind == "gemma3":
        fed["token_type_ids"] = (fed["input_ids"] == image).astype(np.int64)
    return fed


def _grids(config: dict[str, Any], drawn: np.random.Generator) -> dict[str, np.ndarray]:
    vision = config["vision_config"]
    channels, patch = vision.get("in_channels") or vision.get("num_channels") or 3, vision["patch_size"]
    limit = min(config.get("image_token_id", IMAGE), START)
    text = lambda count: list(drawn.integers(3, limit, size=count))  # noqa: E731
    ids, kinds = text(7), [0] * 7
    for grid in GRIDS:
        count = int(np.prod(grid)) // vision.get("spatial_merge_size", MERGE) ** 2
        start, end = config.get("vision_start_token_id", START), config.get("vision_end_token_id", END)
        ids += [start, *[config["image_token_id"]] * count, end, *text(3)]
        kinds += [0, *[1] * count, 0, 0, 0, 0]
    patches = sum(int(np.prod(grid)) for grid in GRIDS)
    if config.get("model_type") == "paddleocr_vl":
        pixels = drawn.standard_normal((patches, channels, patch, patch))
    else:
        pixels = drawn.standard_normal((patches, channels * patch**2 * vision.get("temporal_patch_size", 2)))
    return {
        "input_ids": np.array([ids], np.int64),
        "pixel_values": pixels.astype(np.float32),
        "image_grid_thw": np.array(GRIDS, np.int64),
        "mm_token_type_ids": np.array([kinds], np.int64),
    }


def for_port(fed: dict[str, np.ndarray], model_type: str = "") -> dict[str, np.ndarray]:
    """The same for the port's call, its tokens aside: token kinds are PyTorch's alone."""
    given = {name: array for name, array in fed.items() if name in ("pixel_values", "image_grid_thw")}
    if model_type == "paddleocr_vl":
        given["pixel_values"] = given["pixel_values"][None]
    return given


def hub_form(made: dict[str, Any]) -> dict[str, Any]:
    """Hub releases have the text's fields at the top, and the patches' channels under two names (Qwen's kind)."""
    text, kind = made.get("text_config"), made.get("model_type")
    if kind not in TYPES or not isinstance(text, dict):
        return made
    if kind in _SQUARE_TYPES:
        made.setdefault("image_token_id", made.get("image_token_index"))
        return {**made, "vocab_size": made.get("vocab_size") or text["vocab_size"]}
    top = {name: value for name, value in text.items() if name not in ("model_type", "architectures")}
    made = {**top, **{name: value for name, value in made.items() if value is not None}}
    made["vision_config"] = {**made["vision_config"], "model_type": kind}
    channels = made["vision_config"].get("in_channels") or made["vision_config"].get("in_chans") or 3
    made["vision_config"].update(in_channels=channels, in_chans=channels)
    made["text_config"] = {**text, "model_type": kind, "rope_scaling": made.get("rope_scaling")}
    if kind == "glm_ocr":
        # Its loader takes the fields of its releases and no others.
        made["text_config"] = {name: value for name, value in made["text_config"].items() if name in _GLM_OCR_TEXT}
        made["vision_config"] = {
            name: value for name, value in made["vision_config"].items() if name in _GLM_OCR_VISION
        }
    made["image_token_index"] = made.get("image_token_id")
    made["video_token_index"] = made.get("video_token_id")
    made["tie_word_embeddings"] = bool(made.get("tie_word_embeddings"))
    return made
