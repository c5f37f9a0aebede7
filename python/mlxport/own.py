"""A PyTorch module of one's own as the reference: any class in a file, held against any class in another."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import torch
from safetensors.torch import save_file

from mlxport import class_file, small, tasks
from mlxport.precise import Float64, share
from mlxport.reference import Reference

# What such a model's type is called.
TYPE = "own"


def reference(name: str, seed: int) -> Reference:
    """The module in float32 and in float64. `Class()` makes it; `Class.inputs(seed)` gives what it is called with, by name.

    Parameters are drawn anew, as a small model's are.
    """
    kind = class_file.load("--reference", name, prefix="reference_")[1]
    if not hasattr(kind, "inputs"):
        raise ValueError(f"--reference {name}: expected a static method inputs(seed) that gives tensors by name")
    model = kind().float().eval()
    small.fill(model, seed)
    with Float64():
        exact = kind().eval()
    share(exact, model)
    config = SimpleNamespace(model_type=TYPE)
    for side in (model, exact):
        side.config = copy.copy(config)
    tasks.TASKS[TYPE] = tasks.Task({}, lambda _config, _drawn: arrays(kind.inputs(seed)), "", "", called=_call)
    return Reference(model, exact, config)


def arrays(inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    """Inputs by name, whatever holds them."""
    return {
        name: value.numpy() if isinstance(value, torch.Tensor) else np.asarray(value) for name, value in inputs.items()
    }


def save(model: torch.nn.Module, directory: Path) -> None:
    """The parameters as a checkpoint, for the port to load."""
    directory.mkdir(parents=True, exist_ok=True)
    save_file({n: t.contiguous() for n, t in model.state_dict().items()}, directory / "model.safetensors")
    (directory / "config.json").write_text('{"model_type": "own"}')


def _call(model: Any, given: dict[str, mx.array]) -> mx.array:
    return model(**given)
