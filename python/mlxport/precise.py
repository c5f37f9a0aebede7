"""PyTorch's own code in float64: what it casts to float32 on the way (norms, softmax, routers, rotary tables) stays float64.

Without this a float64 run rounds to float32 at every such cast, and is no truth past the first one. Parameters stay float32 in memory
and are widened where they are used: a second copy of a trained model, twice as large, would not fit beside the first.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_NARROW = (torch.float32, torch.bfloat16, torch.float16)
# What only asks a parameter something, by name: no number is computed.
_ASKED = frozenset(
    ("size", "dim", "ndimension", "numel", "nelement", "stride", "element_size", "data_ptr", "is_contiguous")
    + ("is_floating_point", "is_complex", "is_quantized", "get_device", "__len__")
)
# What only picks or reorders numbers of a parameter: what is picked is widened, not all of it.
_PICKED = frozenset(
    ("embedding", "__getitem__", "select", "index_select", "narrow", "unbind", "chunk", "split", "transpose", "t")
    + ("permute", "view", "reshape", "flatten", "expand", "squeeze", "unsqueeze")
)


class Float64(TorchFunctionMode):
    """While it is entered, every cast to a narrower float is one to float64, and so is what is made in a narrower one."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func in (torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16):
            return args[0].double()
        args = tuple(torch.float64 if _narrow(arg) else arg for arg in args) if _has_dtype(args) else args
        kwargs = {name: torch.float64 if _narrow(value) else value for name, value in kwargs.items()} if kwargs else {}
        if not (any(_holds_parameter(arg) for arg in args) or any(_holds_parameter(arg) for arg in kwargs.values())):
            return func(*args, **kwargs)
        return _of_parameters(func, args, kwargs)

    def __enter__(self) -> Float64:
        self._default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        super().__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        super().__exit__(*exc)
        torch.set_default_dtype(self._default)


def share(exact: torch.nn.Module, model: torch.nn.Module) -> None:
    """`exact` takes the parameters of `model`, made of the same config: it is a float64 model while `Float64` is entered.

    What it made itself in float64 (rotary tables) stays; buffers that are saved have the values of `model`.
    """
    ours = dict(model.named_modules())
    saved = model.state_dict()
    for path, module in exact.named_modules():
        for name in module._parameters:
            module._parameters[name] = ours[path]._parameters[name]
        for name, buffer in module._buffers.items():
            if buffer is None:
                continue
            full = f"{path}.{name}" if path else name
            kept = saved.get(full) if name not in module._non_persistent_buffers_set else None
            held = buffer if kept is None else kept
            module._buffers[name] = held.double() if held.is_floating_point() else held.clone()


def _of_parameters(func: Any, args: tuple, kwargs: dict) -> Any:
    """An operation on parameters: in float64, whatever they are kept in."""
    name = getattr(func, "__name__", "")
    if name in _ASKED:
        return func(*args, **kwargs)
    if name == "__get__" or name in _PICKED:
        made = func(*args, **kwargs)
        return torch.float64 if _narrow(made) else _widened(made, all_tensors=True)
    return func(*_widened(args), **_widened(kwargs))


def _holds_parameter(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(_holds_parameter(part) for part in value)
    return isinstance(value, torch.nn.Parameter) and value.dtype == torch.float32


def _widened(value: Any, *, all_tensors: bool = False) -> Any:
    """The same with parameters in float64; with `all_tensors`, every float32 tensor."""
    if type(value) in (tuple, list):
        parts = [_widened(part, all_tensors=all_tensors) for part in value]
        return tuple(parts) if type(value) is tuple else parts
    if type(value) is dict:
        return {name: _widened(part, all_tensors=all_tensors) for name, part in value.items()}
    fits = isinstance(value, torch.Tensor) if all_tensors else isinstance(value, torch.nn.Parameter)
    return value.detach().double() if fits and value.dtype == torch.float32 else value


def _has_dtype(args: tuple) -> bool:
    return any(isinstance(arg, torch.dtype) for arg in args)


def _narrow(value: Any) -> bool:
    return isinstance(value, torch.dtype) and value in _NARROW
