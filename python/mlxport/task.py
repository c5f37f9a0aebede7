"""One kind of model that is no language model: what both sides are given, and which part of them is run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
import torch


@dataclass(frozen=True)
class Task:
    """One kind of model. `part`: the module that is run, on both sides; `result`: which of its results stands for the logits (nothing:
    it returns one tensor).
    """

    fields: dict[str, Any]
    inputs: Callable[[dict[str, Any], np.random.Generator], dict[str, np.ndarray]]
    part: str
    result: str
    # Inputs whose channels ports keep last.
    channels_last: tuple[str, ...] = ()
    # How the port is called, where that takes more than one call.
    called: Callable[[Any, dict[str, mx.array]], mx.array] | None = None
    port_name: str = "mlx-vlm"
    # transformers' class that makes it, where that is not the one a language model has.
    auto: str = ""

    def torch(self, model: torch.nn.Module, given: dict[str, torch.Tensor]) -> torch.Tensor:
        """PyTorch's result."""
        part = model.get_submodule(self.part)
        more = {"use_cache": False} if "use_cache" in inspect.signature(part.forward).parameters else {}
        made = part(**given, **more)
        return getattr(made, self.result) if self.result else made

    def port(self, model: Any, given: dict[str, np.ndarray]) -> mx.array:
        """The port's result."""
        laid = {n: np.moveaxis(a, 1, -1) if n in self.channels_last else a for n, a in given.items()}
        arrays = {name: mx.array(np.ascontiguousarray(array)) for name, array in laid.items()}
        if self.called is not None:
            return self.called(model, arrays)
        part = model
        for name in self.part.split(".") if self.part else ():
            part = getattr(part, name)
        made = part(**arrays)
        return made[self.result] if isinstance(made, dict) else getattr(made, self.result)
