"""A PyTorch module of one's own as the reference: any class in a file, held against any class in another."""

from __future__ import annotations

import copy
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import torch
from safetensors.torch import save_file

from mlxport import small, tasks
from mlxport.precise import Float64
from mlxport.reference import Reference

# What such a model's type is called.
TYPE = "own"


def loaded(name: str) -> Any:
    """The class of `FILE.py:Class`; a ValueError where there is none."""
    file, _, kind = name.rpartition(":")
    path = Path(file)
    if not file or not path.is_file():
        raise ValueError(f"--reference {name}: expected FILE.py:Class, found no such file")
    spec = importlib.util.spec_from_file_location(f"reference_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"--reference {name}: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if not hasattr(module, kind):
        raise ValueError(f"--reference {name}: {path} has no class {kind}")
    return getattr(module, kind)


def reference(name: str, seed: int) -> Reference:
    """The module in float32 and in float64. `Class()` makes it; `Class.inputs(seed)` gives what it is called with, by name.

    Parameters are drawn anew, as a small model's are.
    """
    kind = loaded(name)
    if not hasattr(kind, "inputs"):
        raise ValueError(f"--reference {name}: expected a static method inputs(seed) that gives tensors by name")
    model = kind().float().eval()
    small.fill(model, seed)
    with Float64():
        exact = kind().eval()
    exact.double()
    exact.load_state_dict({n: t.double() if t.is_floating_point() else t for n, t in model.state_dict().items()})
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
