"""A port under development: a class in a person's own file, loaded strictly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlxport import class_file

# So many names are listed of each kind of misfit.
_LISTED = 6


class Misfit(ValueError):
    """The checkpoint and the port's parameters do not fit: names and shapes, of both sides."""


def load(name: str, directory: Path) -> nn.Module:
    """`Class` of FILE.py:Class, made of `ModelArgs.from_dict(config)` where the file has it, else of the config.

    A file or class that cannot be used is class_file.NoSuchClass; weights that do not fit are a Misfit.
    """
    flag = "--port"
    module, kind = class_file.load(flag, name, expected="mlx-lm, mlx-vlm, mlx-audio or FILE.py:Class")
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise class_file.NoSuchClass(f"{flag} {name}: expected a class made of mlx.nn.Module, found {kind!r}")
    config = _untagged(json.loads((directory / "config.json").read_text()))
    make: Any = kind
    with class_file.told(flag, name, "the model cannot be made"):
        model: Any = make(module.ModelArgs.from_dict(config) if hasattr(module, "ModelArgs") else config)
    weights: dict[str, mx.array] = {}
    for shard in sorted(directory.glob("model*.safetensors")):
        weights.update(mx.load(str(shard)))  # type: ignore[arg-type]
    if hasattr(model, "sanitize"):
        weights = model.sanitize(weights)
    require_fit(model, weights)
    model.load_weights(list(weights.items()), strict=True)
    return model


def require_fit(model: nn.Module, weights: dict[str, mx.array]) -> None:
    """A Misfit with all that does not fit at once; MLX's own loader names one side of it."""
    own: dict[str, mx.array] = dict(tree_flatten(model.parameters()))  # type: ignore[arg-type]
    shapes = [
        f"{name}: {weights[name].shape} in the checkpoint, {array.shape} in the port"
        for name, array in own.items()
        if name in weights and weights[name].shape != array.shape
    ]
    wrong = [
        ("in the checkpoint, not in the port", [name for name in weights if name not in own]),
        ("in the port, not in the checkpoint", [name for name in own if name not in weights]),
        ("of another shape", shapes),
    ]
    if any(names for _, names in wrong):
        told = [f"{what} ({len(names)}): {_some(names)}" for what, names in wrong if names]
        raise Misfit("\n  ".join(["checkpoint and parameters do not fit", *told]))


def _some(names: list[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f", and {more} more" if more > 0 else "")


def _untagged(value: Any) -> Any:
    """A config with infinities as numbers: transformers writes them as {"__float__": "Infinity"}, for JSON has none."""
    if isinstance(value, dict):
        if set(value) == {"__float__"}:
            return float(value["__float__"])
        return {name: _untagged(part) for name, part in value.items()}
    return [_untagged(part) for part in value] if isinstance(value, list) else value
