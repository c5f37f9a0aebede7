"""Encoders of texts and pictures, as tasks: nothing is generated, every position is judged."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from mlxport.task import Task

# Tokens of the small vocabulary that a text is drawn from.
_WORDS = 190
_TEXT: dict[str, Any] = {
    "vocab_size": 199,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_PICTURE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 7,
}


def _text(length: int, padded: int = 0) -> Any:
    """Draws a text; the last `padded` tokens of it are padding."""

    def inputs(_config: dict[str, Any], drawn: np.random.Generator) -> dict[str, np.ndarray]:
        mask = np.ones((1, length), np.int64)
        mask[:, length - padded :] = 0
        return {"input_ids": drawn.integers(3, _WORDS, size=(1, length), dtype=np.int64), "attention_mask": mask}

    return inputs


def _words(length: int) -> Any:
    """Draws a text that is as long as the encoder reads."""
    return lambda _config, drawn: {"input_ids": drawn.integers(3, _WORDS, size=(1, length), dtype=np.int64)}


def _picture(config: dict[str, Any], drawn: np.random.Generator) -> dict[str, np.ndarray]:
    """Draws a picture of another size than the config's, so that the table of positions is resized, to both sides."""
    patch = int(config["patch_size"])
    side = int(config["image_size"]) // patch
    rows, columns = side // 2 + 4, side - 1
    return {"pixel_values": drawn.standard_normal((1, 3, rows * patch, columns * patch)).astype(np.float32)}


def _hidden(model: Any, given: dict[str, mx.array]) -> mx.array:
    return model(**given).last_hidden_state


def _siglip_text(model: Any, given: dict[str, mx.array]) -> mx.array:
    return model.text_model(given["input_ids"])


_DINO: dict[str, Any] = {**_PICTURE, "mlp_ratio": 2}
TASKS: dict[str, Task] = {
    "bert": Task(
        {**_TEXT, "type_vocab_size": 2},
        _text(37, padded=5),
        "bert",
        "last_hidden_state",
        called=_hidden,
        auto="AutoModelForMaskedLM",
    ),
    "modernbert": Task(
        # Windows of four to each side, one layer in three without.
        {**_TEXT, "num_hidden_layers": 4, "local_attention": 8, "cls_token_id": 1, "sep_token_id": 2},
        _text(37, padded=5),
        "",
        "last_hidden_state",
        called=_hidden,
        auto="AutoModel",
    ),
    "siglip": Task(
        {
            "text_config": {**_TEXT, "max_position_embeddings": 24, "projection_size": 40},
            "vision_config": {**_PICTURE, "intermediate_size": 48},
        },
        _words(24),
        "text_model",
        "pooler_output",
        called=_siglip_text,
        auto="AutoModel",
    ),
    "dinov2": Task(_DINO, _picture, "", "last_hidden_state", ("pixel_values",), auto="AutoModel"),
    "dinov2_with_registers": Task(
        {**_DINO, "num_register_tokens": 3},
        _picture,
        "",
        "last_hidden_state",
        ("pixel_values",),
        auto="AutoModel",
    ),
    "openai_privacy_filter": Task(
        {
            **_TEXT,
            "intermediate_size": 24,
            "head_dim": 16,
            "num_key_value_heads": 2,
            "num_local_experts": 6,
            "num_experts_per_tok": 2,
            "sliding_window": 4,
            "num_labels": 9,
        },
        _text(37, padded=5),
        "",
        "logits",
        auto="AutoModelForTokenClassification",
    ),
}
