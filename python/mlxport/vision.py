"""Models with pictures: small configs, and what both sides are fed.

Two families: pictures as rows of patches with grids (Qwen's kind), and pictures as squares of pixels (LLaVA's kind). There are two
pictures; grids are unlike, neither square nor of the table's size: what ports get wrong shows there.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxport import tasks
from mlxport import vision_squares as squares
from mlxport import vision_types as types
from mlxport.vision_types import END, GRIDS, IMAGE, MERGE, START, TAIL, VIDEO

TYPES = (*types.GRID_TYPES, *squares.SQUARE_TYPES, *types.PLACED_TYPES, *types.SHAPED_TYPES)
# What both sides are given beside the tokens; the rest is PyTorch's alone.
_GIVEN = ("pixel_values", "image_grid_thw", "image_sizes", "spatial_shapes", "pixel_attention_mask")


def config(model_type: str, fields: dict[str, Any] | None = None) -> Any:
    """The small config of a type in TYPES; `fields` (dotted names of nested ones) go before what it has."""
    import transformers

    given = _fields(model_type)
    tasks.put(given, fields or {})
    return transformers.CONFIG_MAPPING[model_type](**given)


def _fields(model_type: str) -> dict[str, Any]:
    if model_type in squares.SQUARE_TYPES:
        return {
            **copy.deepcopy(squares.SQUARE_TYPES[model_type][0]),
            "tie_word_embeddings": model_type in squares.TIED,
        }
    whole = {**types.PLACED_TYPES, **types.SHAPED_TYPES}
    if model_type in whole:
        return copy.deepcopy(whole[model_type])
    text, vision = types.GRID_TYPES[model_type]
    marks = {"image": IMAGE, "video": VIDEO, "vision_start": START, "vision_end": END}
    return {
        "text_config": {**copy.deepcopy(text), "tie_word_embeddings": False},
        "vision_config": dict(vision),
        **{f"{name}_token_id": token for name, token in marks.items()},
        **({"image_start_token_id": START, "image_end_token_id": END} if model_type.startswith("glm") else {}),
        "tie_word_embeddings": False,
        **copy.deepcopy(types.MORE.get(model_type, {})),
    }


def has_pictures(config: dict[str, Any]) -> bool:
    """Whether a config is of a model with pictures."""
    return isinstance(config.get("vision_config"), dict)


@dataclass(frozen=True)
class Pictures:
    """The pictures of one sequence. `grids`: patches as (frames, rows, columns); nothing: as the type's small config has them.

    `between`: tokens of text after each.
    """

    grids: tuple[tuple[int, int, int], ...] = ()
    between: int = 3


def inputs(config: dict[str, Any], seed: int, pictures: Pictures = Pictures()) -> dict[str, np.ndarray]:  # noqa: B008 it is frozen
    """What the PyTorch model is fed: pictures among text. A type that is not known here is fed as Qwen's kind is."""
    drawn = np.random.default_rng(seed + 1)
    if config.get("model_type") in squares.SQUARE_TYPES:
        return _squares(config, drawn, pictures)
    if config.get("model_type") in types.PLACED_TYPES:
        return _placed(config, drawn, pictures)
    if config.get("model_type") in types.SHAPED_TYPES:
        return _shaped(config, drawn, pictures)
    return _grids(config, drawn, pictures)


def own_grid(config: dict[str, Any]) -> tuple[int, int, int]:
    """A picture's patches in types whose pictures are of one size."""
    vision = config["vision_config"]
    if config.get("model_type") in types.PLACED_TYPES:
        side = int(int(vision["default_output_length"]) ** 0.5) * int(vision["pooling_kernel_size"])
    else:
        side = one_side(vision["image_size"]) // one_side(vision["patch_size"])
    return (1, side, side)


def one_side(size: Any) -> int:
    """A square's side, which some configs give as two sides."""
    return int(size[0] if isinstance(size, (list, tuple)) else size)


def _among_text(
    config: dict[str, Any], drawn: np.random.Generator, counts: list[int], between: int, limit: int = START
) -> np.ndarray:
    """[1, tokens]: text, and so many tokens for each picture, between the marks of its start and end."""
    image = config.get("image_token_id") or config.get("image_token_index") or IMAGE
    start, end = config.get("vision_start_token_id", START), config.get("vision_end_token_id", END)
    words = lambda count: list(drawn.integers(3, limit, size=count))  # noqa: E731
    ids: list[int] = words(7)
    for count in counts:
        ids += [start, *[image] * count, end, *words(between)]
    return np.array([ids + words(TAIL)], np.int64)


def _squares(config: dict[str, Any], drawn: np.random.Generator, pictures: Pictures) -> dict[str, np.ndarray]:
    """Pictures of pixels, all of one size; each is so many tokens in a row."""
    vision, kind = config["vision_config"], config["model_type"]
    own = own_grid(config)
    grids = pictures.grids or (own, own)
    tokens = _tokens(config, own)
    counts = [tokens * grid[1] * grid[2] // (own[1] * own[2]) for grid in grids]
    patch = one_side(vision["patch_size"])
    fed = {"input_ids": _among_text(config, drawn, counts, pictures.between)}
    pixels = drawn.standard_normal((len(grids), 3, grids[0][1] * patch, grids[0][2] * patch)).astype(np.float32)
    fed["pixel_values"] = pixels[None] if kind in ("idefics3", "smolvlm") else pixels
    if kind in squares.SIZED:
        fed["image_sizes"] = np.array([pixels.shape[2:]] * len(grids), np.int64)
    if kind == "gemma3":
        image = config.get("image_token_id") or config.get("image_token_index") or IMAGE
        fed["token_type_ids"] = (fed["input_ids"] == image).astype(np.int64)
    return fed


def _tokens(config: dict[str, Any], own: tuple[int, int, int]) -> int:
    """How many tokens a picture of the config's size has."""
    if config.get("scale_factor"):
        return own[1] * own[2] // int(config["scale_factor"]) ** 2
    return int(config.get("mm_tokens_per_image") or squares.SQUARE_TYPES[config["model_type"]][1])


def _placed(config: dict[str, Any], drawn: np.random.Generator, pictures: Pictures) -> dict[str, np.ndarray]:
    """Pictures of one size, each a row of patches with their columns and rows."""
    vision = config["vision_config"]
    grids = pictures.grids or (own_grid(config), own_grid(config))
    _, rows, columns = grids[0]
    count = rows * columns // int(vision["pooling_kernel_size"]) ** 2
    held = _among_text(config, drawn, [count] * len(grids), pictures.between)
    across, down = np.meshgrid(np.arange(columns), np.arange(rows))
    places = np.stack([across.ravel(), down.ravel()], -1)[None].repeat(len(grids), 0)
    return {
        "input_ids": held,
        "pixel_values": drawn.random((len(grids), rows * columns, 3 * vision["patch_size"] ** 2)).astype(np.float32),
        "image_position_ids": places.astype(np.int64),
        "mm_token_type_ids": (held == config["image_token_id"]).astype(np.int64),
    }


def _shaped(config: dict[str, Any], drawn: np.random.Generator, pictures: Pictures) -> dict[str, np.ndarray]:
    """Pictures as rows of patches, each padded to the longest, with their heights and widths."""
    shapes = np.array([grid[1:] for grid in pictures.grids or GRIDS], np.int64)
    counts = shapes.prod(-1)
    merged = int(config["downsample_factor"]) ** 2
    width = 3 * int(config["vision_config"]["patch_size"]) ** 2
    return {
        "input_ids": _among_text(config, drawn, [int(count) // merged for count in counts], pictures.between),
        "pixel_values": drawn.standard_normal((len(counts), counts.max(), width)).astype(np.float32),
        "spatial_shapes": shapes,
        "pixel_attention_mask": (np.arange(counts.max()) < counts[:, None]).astype(np.int64),
    }


def _grids(config: dict[str, Any], drawn: np.random.Generator, pictures: Pictures) -> dict[str, np.ndarray]:
    vision = config["vision_config"]
    channels, patch = vision.get("in_channels") or vision.get("num_channels") or 3, vision["patch_size"]
    grids = pictures.grids or GRIDS
    merged = vision.get("spatial_merge_size", MERGE) ** 2
    limit = min(config.get("image_token_id", IMAGE), START)
    ids = _among_text(config, drawn, [int(np.prod(grid)) // merged for grid in grids], pictures.between, limit)
    patches = sum(int(np.prod(grid)) for grid in grids)
    if config.get("model_type") == "paddleocr_vl":
        pixels = drawn.standard_normal((patches, channels, patch, patch))
    else:
        pixels = drawn.standard_normal((patches, channels * patch**2 * vision.get("temporal_patch_size", 2)))
    return {
        "input_ids": ids,
        "pixel_values": pixels.astype(np.float32),
        "image_grid_thw": np.array(grids, np.int64),
        "mm_token_type_ids": (ids == config["image_token_id"]).astype(np.int64),
    }


def text(config: dict[str, Any], length: int) -> np.ndarray:
    """A sequence without pictures; no token of it marks one."""
    return np.random.default_rng(5).integers(3, _first_mark(config), size=(1, length), dtype=np.int64)


def _first_mark(config: dict[str, Any]) -> int:
    """Tokens below this one mark nothing."""
    marks = [value for name, value in config.items() if name.endswith(("_token_id", "_token_index")) and value]
    high = [int(mark) for mark in marks if isinstance(mark, int) and mark > 16]
    return max(16, min([START if config.get("vocab_size", 0) <= 200 else 1 << 16, *high]))


def places(fed: dict[str, np.ndarray], config: dict[str, Any]) -> np.ndarray | None:
    """Which tokens only hold a picture's place; nothing without pictures."""
    if len(fed) == 1 or "input_ids" not in fed:
        return None
    return fed["input_ids"][0] == (config.get("image_token_id") or config.get("image_token_index") or IMAGE)


def text_after(fed: dict[str, np.ndarray], config: dict[str, Any]) -> int:
    """How many tokens come after the last picture and its mark."""
    image = config.get("image_token_id") or config.get("image_token_index") or IMAGE
    last = int(np.flatnonzero(fed["input_ids"][0] == image).max(initial=-1))
    return fed["input_ids"].shape[1] - last - 2


def for_port(fed: dict[str, np.ndarray], model_type: str = "") -> dict[str, np.ndarray]:
    """The same for the port's call, its tokens aside."""
    given = {name: array for name, array in fed.items() if name in _GIVEN}
    if "pixel_values" not in given:
        return given
    if model_type == "paddleocr_vl":
        given["pixel_values"] = given["pixel_values"][None]
    if model_type in types.MASKED:
        given["mask"] = np.ones(fed["input_ids"].shape, np.int32)
    if model_type in types.PLACED_TYPES:
        given["pixel_values"] = _unfolded(given["pixel_values"], fed["image_position_ids"])
    return given


def _unfolded(patches: np.ndarray, places: np.ndarray) -> np.ndarray:
    """[pictures, rows * columns, size * size * 3] → [pictures, 3, rows * size, columns * size]."""
    pictures, _, width = patches.shape
    columns, rows = (int(most) + 1 for most in places[0].max(0))
    size = int((width // 3) ** 0.5)
    laid = patches.reshape(pictures, rows, columns, size, size, 3).transpose(0, 5, 1, 3, 2, 4)
    return np.ascontiguousarray(laid).reshape(pictures, 3, rows * size, columns * size)


def written(made: dict[str, Any]) -> dict[str, Any]:
    """The config.json of a release, of which the model may be a part."""
    if made.get("model_type") != "qwen3_omni_moe_thinker":
        return made
    silent = {"text_config": made["text_config"], "code_predictor_config": {}}
    parts = {"thinker_config": made, "talker_config": silent, "code2wav_config": {}}
    return {"model_type": "qwen3_omni_moe", **parts, "enable_audio_output": False}


def hub_form(made: dict[str, Any]) -> dict[str, Any]:
    """Hub releases have the text's fields at the top, and the patches' channels under two names (Qwen's kind)."""
    text, kind = made.get("text_config"), made.get("model_type")
    if kind not in TYPES or not isinstance(text, dict):
        return made
    if kind in types.SHAPED_TYPES:
        return made
    if kind in types.PLACED_TYPES:
        made["vision_soft_tokens_per_image"] = made["vision_config"]["default_output_length"]
        return made
    if kind in squares.SQUARE_TYPES:
        made.setdefault("image_token_id", made.get("image_token_index"))
        made.setdefault("image_token_index", made.get("image_token_id"))
        if made.get("mm_tokens_per_image"):
            # mlx-vlm looks for it there.
            made["text_config"] = {**text, "mm_tokens_per_image": made["mm_tokens_per_image"]}
        return {**made, "vocab_size": made.get("vocab_size") or text["vocab_size"]}
    top = {name: value for name, value in text.items() if name not in ("model_type", "architectures")}
    made = {**top, **{name: value for name, value in made.items() if value is not None}}
    if kind not in types.MORE:
        made["vision_config"] = {**made["vision_config"], "model_type": kind}
    channels = made["vision_config"].get("in_channels") or made["vision_config"].get("in_chans") or 3
    made["vision_config"].update(in_channels=channels, in_chans=channels)
    made["text_config"] = {**text, "model_type": kind, "rope_scaling": made.get("rope_scaling")}
    if kind == "glm_ocr":
        # Its loader takes the fields of its releases and no others.
        made["text_config"] = {name: value for name, value in made["text_config"].items() if name in types.GLM_OCR_TEXT}
        made["vision_config"] = {
            name: value for name, value in made["vision_config"].items() if name in types.GLM_OCR_VISION
        }
    made["image_token_index"] = made.get("image_token_id")
    made["video_token_index"] = made.get("video_token_id")
    made["tie_word_embeddings"] = bool(made.get("tie_word_embeddings"))
    return made
