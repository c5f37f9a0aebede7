"""PyTorch's own code in float64: what it casts to float32 on the way (norms, softmax, routers, rotary tables) stays float64.

Without this a float64 run rounds to float32 at every such cast, and is no truth past the first one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_NARROW = (torch.float32, torch.bfloat16, torch.float16)


class Float64(TorchFunctionMode):
    """While it is entered, every cast to a narrower float is one to float64, and so is what is made in a narrower one."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func in (torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16):
            return args[0].double()
        args = tuple(torch.float64 if _narrow(arg) else arg for arg in args) if _has_dtype(args) else args
        kwargs = {name: torch.float64 if _narrow(value) else value for name, value in kwargs.items()} if kwargs else {}
        return func(*args, **kwargs)

    def __enter__(self) -> Float64:
        self._default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        super().__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        super().__exit__(*exc)
        torch.set_default_dtype(self._default)


def _has_dtype(args: tuple) -> bool:
    return any(isinstance(arg, torch.dtype) for arg in args)


def _narrow(value: Any) -> bool:
    return isinstance(value, torch.dtype) and value in _NARROW
