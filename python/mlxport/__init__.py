"""Says with numbers whether an MLX port computes what the PyTorch model computes.

mlxport check MODEL                      the command: no script (docs/check.md)
mlxport.record(model, inputs, out)       records any PyTorch model, module by module, in the fixture format
with mlxport.listen_torch(model) as run  what a PyTorch model's modules were given and returned
with mlxport.listen_mlx(model) as run    the same of an MLX model
mlxport.testing.assert_port(...)         a pytest helper that fails with the report's text
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

__all__ = ["__version__", "listen_mlx", "listen_torch", "record"]
__version__ = "0.1.0"


def listen_torch(model: Any) -> AbstractContextManager:
    """A context in which every call of every module of a `torch.nn.Module` is noted; it yields the `Run` that is filled."""
    from mlxport.reference import Listener

    return Listener(model)


def listen_mlx(model: Any) -> AbstractContextManager:
    """A context in which every call of every module of an `mlx.nn.Module` is noted; it yields a listener whose `run` is filled."""
    from mlxport.port import Listener, Port

    return Listener(Port("mlx", model))


def record(model: Any, inputs: dict[str, Any], out: str | Path) -> int:
    """Records one pass of a PyTorch model (float32, and the float64 truth) into the directory `out`; how many points.

    `inputs` are the model's keyword arguments, tensors. `out` must not exist. The model is not changed.
    """
    from mlxport.anymodel import record_torch

    return record_torch(model, inputs, Path(out))
