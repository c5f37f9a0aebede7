"""What a check is given, looked at before anything is run: a directory that can be read, weights that are numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

_EXPECTED = "expected a Hugging Face directory (config.json and *.safetensors), a GGUF file, or a hub id"


class InputError(Exception):
    """Nothing can be compared: what was given is unusable."""


def require_model(model: str, *, trust: bool = False) -> None:
    """An InputError unless this is a file, a readable model directory, or may be a hub id. `trust`: the directory's own code may name the type."""
    place = Path(model)
    if place.is_file():
        return
    if not place.exists():
        # A hub id is NAME or OWNER/NAME.
        if model.startswith((".", "/", "~")) or model.count("/") > 1:
            raise InputError(f"{model}: {_EXPECTED}; found no such directory or file")
        return
    config = _config(place)
    if not isinstance(config.get("model_type"), str) and not (trust and "auto_map" in config):
        raise InputError(
            f"{place / 'config.json'}: expected a model_type, found none: name the architecture, "
            f'"model_type": "llama" say (transformers\' own name)'
        )
    _require_weights(place)


def _config(place: Path) -> dict[str, Any]:
    file = place / "config.json"
    if not file.is_file():
        held = ", ".join(sorted(path.name for path in place.iterdir())[:6]) or "nothing"
        raise InputError(f"{place}: {_EXPECTED}; found no config.json in it (it holds: {held})")
    try:
        config = json.loads(file.read_text())
    except (ValueError, OSError) as error:
        raise InputError(f"{file}: expected JSON: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{file}: expected a JSON object, found {type(config).__name__}")
    return config


def _require_weights(place: Path) -> None:
    files = sorted(place.glob("*.safetensors"))
    if not files and not list(place.glob("pytorch_model*.bin")):
        raise InputError(f"{place}: expected weights (model*.safetensors or pytorch_model*.bin), found none")
    for file in files:
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            size = file.stat().st_size
            raise InputError(
                f"{file}: no readable safetensors file of {size:,} bytes: {error}; it may be cut short: get it again"
            ) from error


def require_finite(model: torch.nn.Module, place: Path) -> None:
    """An InputError where a parameter holds NaN or infinity: every comparison after it would say nothing."""
    wrong = []
    for name, parameter in model.named_parameters():
        count = int((~torch.isfinite(parameter)).sum()) if parameter.is_floating_point() else 0
        if count:
            wrong.append(f"{name} ({count} of {parameter.numel()})")
    if wrong:
        more = f", and {len(wrong) - 6} more tensors" if len(wrong) > 6 else ""
        raise InputError(
            f"{place}: expected numbers, found NaN or infinity in {', '.join(wrong[:6])}{more}: "
            "no port can be compared on such weights; get or save them again"
        )
