"""Models with pictures: small configs, and what both sides are fed.

The pictures are two, of unlike grids, neither square nor of the table's size: what ports get wrong shows there.
"""

from __future__ import annotations

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
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]},
}
_PATCHES: dict[str, Any] = {"in_channels": 3, "patch_size": 4, "spatial_merge_size": MERGE, "temporal_patch_size": 2}
_VISION: dict[str, dict[str, Any]] = {
    "qwen2_vl": {**_PATCHES, "depth": 2, "embed_dim": 32, "num_heads": 2, "hidden_size": 64, "mlp_ratio": 2},
    "qwen2_5_vl": {
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
}
TYPES = tuple(_VISION)


def config(model_type: str) -> Any:
    """The small config of a type in TYPES."""
    import transformers

    kind: Any = transformers.CONFIG_MAPPING[model_type]
    return kind(
        text_config=dict(_TEXT),
        vision_config=dict(_VISION[model_type]),
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=START,
        vision_end_token_id=END,
        tie_word_embeddings=False,
    )


def has_pictures(config: dict[str, Any]) -> bool:
    """Whether a config is of a model with pictures."""
    return isinstance(config.get("vision_config"), dict)


def inputs(config: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    """What the PyTorch model is fed: two pictures among text, for configs of Qwen's kind."""
    vision = config["vision_config"]
    width = vision.get("in_channels", 3) * vision["patch_size"] ** 2 * vision.get("temporal_patch_size", 2)
    drawn = np.random.default_rng(seed + 1)
    limit = min(config.get("image_token_id", IMAGE), START)
    text = lambda count: list(drawn.integers(3, limit, size=count))  # noqa: E731
    ids, kinds = text(7), [0] * 7
    for grid in GRIDS:
        count = int(np.prod(grid)) // vision.get("spatial_merge_size", MERGE) ** 2
        start, end = config.get("vision_start_token_id", START), config.get("vision_end_token_id", END)
        ids += [start, *[config["image_token_id"]] * count, end, *text(3)]
        kinds += [0, *[1] * count, 0, 0, 0, 0]
    patches = sum(int(np.prod(grid)) for grid in GRIDS)
    return {
        "input_ids": np.array([ids], np.int64),
        "pixel_values": drawn.standard_normal((patches, width)).astype(np.float32),
        "image_grid_thw": np.array(GRIDS, np.int64),
        "mm_token_type_ids": np.array([kinds], np.int64),
    }


def for_port(fed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same for the port's call, its tokens aside: token kinds are PyTorch's alone."""
    return {name: array for name, array in fed.items() if name in ("pixel_values", "image_grid_thw")}


def hub_form(made: dict[str, Any]) -> dict[str, Any]:
    """Hub releases of Qwen's kind have the text's fields at the top, and the patches' channels under two names."""
    text = made.get("text_config")
    if made.get("model_type") not in TYPES or not isinstance(text, dict):
        return made
    top = {name: value for name, value in text.items() if name not in ("model_type", "architectures")}
    made = {**top, **{name: value for name, value in made.items() if value is not None}}
    made["vision_config"] = {**made["vision_config"], "model_type": made["model_type"]}
    channels = made["vision_config"].get("in_channels") or made["vision_config"].get("in_chans") or 3
    made["vision_config"].update(in_channels=channels, in_chans=channels)
    made["text_config"] = {**text, "model_type": made["model_type"], "rope_scaling": made.get("rope_scaling")}
    made["tie_word_embeddings"] = bool(made.get("tie_word_embeddings"))
    return made
