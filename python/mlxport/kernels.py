"""The candidate runtime's floors: PyTorch's own graph, each bare operation done by MLX on the operands that come.

The model under test takes no part. PyTorch's code decides what is computed; this mode only hands the operands of a bare operation
(a product, a norm, a softmax, a convolution, an activation) to MLX and takes back what it makes of them. What such a pass is off by
from float64 is what this runtime, on this device, on these very numbers, cannot help being off by.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from mlxport import compiler

# An operation of MLX's that is further off than this does not do the same; then PyTorch's is kept.
SAME = 1e-3
# The same of bfloat16, whose numbers have three digits.
SAME_BF16 = 5e-2
_KNOWN = (torch.float32, torch.bfloat16)


def to_mlx(tensor: torch.Tensor) -> mx.array:
    if tensor.dtype == torch.bfloat16:
        return mx.array(tensor.detach().float().contiguous().numpy()).astype(mx.bfloat16)
    return mx.array(tensor.detach().contiguous().numpy())


def to_torch(array: mx.array) -> torch.Tensor:
    if array.dtype == mx.bfloat16:
        return torch.from_numpy(np.array(array.astype(mx.float32))).bfloat16()
    return torch.from_numpy(np.array(array))


def _linear(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None = None) -> mx.array:
    y = to_mlx(x) @ to_mlx(w).T
    return y if b is None else y + to_mlx(b)


def _matmul(a: torch.Tensor, b: torch.Tensor) -> mx.array:
    return to_mlx(a) @ to_mlx(b)


def _softmax(x: torch.Tensor, dim: int = -1, **_: Any) -> mx.array:
    return mx.softmax(to_mlx(x), axis=dim, precise=True)


def _layer_norm(x: torch.Tensor, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> mx.array:
    wide = [None if part is None else to_mlx(part) for part in (weight, bias)]
    return mx.fast.layer_norm(to_mlx(x), wide[0], wide[1], eps)


def _group_norm(x: torch.Tensor, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> mx.array:
    y = mx.fast.layer_norm(to_mlx(x).reshape(x.shape[0], groups, -1), None, None, eps).reshape(x.shape)
    across = (1, -1, *[1] * (x.ndim - 2))
    y = y if weight is None else y * to_mlx(weight).reshape(across)
    return y if bias is None else y + to_mlx(bias).reshape(across)


def _gelu(x: torch.Tensor, approximate: str = "none") -> mx.array:
    return nn.gelu(to_mlx(x)) if approximate == "none" else nn.gelu_approx(to_mlx(x))


def _conv(
    x: torch.Tensor,
    w: torch.Tensor,
    b: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> mx.array:
    one = lambda v: tuple(v) if isinstance(v, (tuple, list)) else v  # noqa: E731
    last = lambda t: mx.moveaxis(to_mlx(t), 1, -1)  # noqa: E731
    y = mx.conv_general(
        last(x), last(w), stride=one(stride), padding=one(padding), kernel_dilation=one(dilation), groups=groups
    )
    return mx.moveaxis(y if b is None else y + to_mlx(b), -1, 1)


def _istft(
    x: torch.Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Any = None,
    center: bool = True,
    **_: Any,
) -> mx.array:
    """Transforms of frames back, their windows on them, laid over each other."""
    hop, w = hop_length or n_fft // 4, mx.ones(n_fft) if window is None else to_mlx(window)
    frames = mx.fft.irfft(to_mlx(x).swapaxes(-1, -2), axis=-1) * w
    count, length = frames.shape[-2], (frames.shape[-2] - 1) * hop + n_fft
    places = (mx.arange(count)[:, None] * hop + mx.arange(n_fft)).flatten()
    made = mx.zeros((frames.shape[0], length)).at[:, places].add(frames.reshape(frames.shape[0], -1))
    weight = mx.zeros(length).at[places].add(mx.tile(w * w, (count,)))
    start = n_fft // 2 if center else 0
    return (made / mx.where(weight > 1e-10, weight, 1.0))[:, start : length - start]


_OPERATIONS: dict[Any, Callable[..., mx.array]] = {
    F.linear: _linear,
    torch.matmul: _matmul,
    torch.Tensor.matmul: _matmul,
    torch.Tensor.__matmul__: _matmul,
    torch.bmm: _matmul,
    torch.softmax: _softmax,
    torch.Tensor.softmax: _softmax,
    F.softmax: lambda x, dim=-1, _stacklevel=3, dtype=None: _softmax(x, dim),
    F.layer_norm: _layer_norm,
    F.group_norm: _group_norm,
    F.silu: lambda x, inplace=False: nn.silu(to_mlx(x)),
    F.gelu: _gelu,
    torch.sigmoid: lambda x: mx.sigmoid(to_mlx(x)),
    torch.Tensor.sigmoid: lambda x: mx.sigmoid(to_mlx(x)),
    torch.tanh: lambda x: mx.tanh(to_mlx(x)),
    torch.exp: lambda x: mx.exp(to_mlx(x)),
    torch.Tensor.exp: lambda x: mx.exp(to_mlx(x)),
    F.softplus: lambda x, beta=1.0, threshold=20.0: nn.softplus(to_mlx(x)),
    torch.istft: _istft,
    torch.conv1d: _conv,
    torch.conv2d: _conv,
    torch.conv3d: _conv,
    F.conv1d: _conv,
    F.conv2d: _conv,
    F.conv3d: _conv,
}


class RuntimeKernels(TorchFunctionMode):
    """While it is entered, bare float32 and bfloat16 operations are MLX's. `refused` counts what MLX could not do: PyTorch's kept."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[str, int] = {}
        self.done: dict[str, int] = {}

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        made = func(*args, **(kwargs or {}))
        operation = _OPERATIONS.get(func)
        if operation is None or not isinstance(made, torch.Tensor) or made.dtype not in _KNOWN or not made.numel():
            return made
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        if any(t.is_floating_point() and t.dtype != made.dtype for t in tensors):
            return made
        name = getattr(func, "__name__", str(func))
        try:
            ours = to_torch(operation(*args, **(kwargs or {})))
        except (ValueError, TypeError, RuntimeError, IndexError) as error:
            compiler.require(error)
            self.refused[name] = self.refused.get(name, 0) + 1
            return made
        if not alike(ours, made):
            self.refused[name] = self.refused.get(name, 0) + 1
            return made
        self.done[name] = self.done.get(name, 0) + 1
        return ours


def alike(ours: torch.Tensor, made: torch.Tensor) -> bool:
    """Whether MLX did the same operation: the guard against an argument that was read wrongly, not a tolerance."""
    if ours.shape != made.shape or ours.dtype != made.dtype:
        return False
    finite = torch.isfinite(made) & (made.abs() < 1e30)
    same = SAME_BF16 if made.dtype == torch.bfloat16 else SAME
    difference = torch.where(finite, ours - made, 0.0).double().square().mean().sqrt()
    size = torch.where(finite, made, 0.0).double().square().mean().sqrt()
    return bool(difference <= same * size)


def rms_norm(module: torch.nn.Module, args: tuple, made: Any) -> Any:
    """MLX's fused RMSNorm where `module` computes one (with its weight, or its weight + 1), else what PyTorch made."""
    weight = getattr(module, "weight", None)
    eps = next((getattr(module, n) for n in ("variance_epsilon", "eps", "epsilon") if hasattr(module, n)), None)
    floats = [a for a in args if isinstance(a, torch.Tensor) and a.is_floating_point()]
    if len(floats) != 1 or eps is None or not isinstance(made, torch.Tensor) or made.dtype not in _KNOWN:
        return made
    x = to_mlx(floats[0])
    width = x.shape[-1]
    if weight is None or weight.shape != (width,):
        choices = [mx.ones(width)]
    else:
        choices = [to_mlx(weight), to_mlx(weight) + 1.0]
    for choice in choices:
        ours = to_torch(mx.fast.rms_norm(x, choice, float(eps)))
        if alike(ours, made):
            return ours
    return made


def l2_norm(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A model file's `l2norm` as MLX has it: its fused RMSNorm, epsilon and result by the width; else what PyTorch made."""

    def normed(x: torch.Tensor, dim: int = -1, eps: float = 1e-6) -> torch.Tensor:
        made = function(x, dim=dim, eps=eps)
        if dim not in (-1, x.ndim - 1) or made.dtype not in _KNOWN:
            return made
        width = x.shape[-1]
        ours = to_torch(mx.fast.rms_norm(to_mlx(x), None, eps / width) * width**-0.5)
        return ours if alike(ours, made) else made

    return normed


def rotary(module: torch.nn.Module, args: tuple, made: Any) -> Any:
    """Cosines and sines as MLX's fused rotation computes them, where `module` returns a table of default positions."""
    frequencies = getattr(module, "inv_freq", None)
    if isinstance(made, torch.Tensor) and made.is_complex() and isinstance(frequencies, torch.Tensor):
        return _complex_table(frequencies, made)
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(frequencies, torch.Tensor)):
        return made
    cos, sin = made
    half = frequencies.shape[-1]
    if cos.ndim != 3 or cos.shape[0] != 1 or cos.shape[-1] != 2 * half or cos.dtype != torch.float32:
        return made
    scaling = float(getattr(module, "attention_scaling", 1.0))
    table = _unit_turns(frequencies, cos.shape[1]) * scaling
    ours = [torch.cat([part, part], -1) for part in (table[..., :half], table[..., half:])]
    return tuple(ours) if alike(ours[0], cos) and alike(ours[1], sin) else made


def _complex_table(frequencies: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    """Unit turns as complex numbers, as MLX's fused rotation computes them, where `made` is a table of default positions."""
    half, length = frequencies.shape[-1], made.shape[-2]
    if made.shape[-1] != half or made.dtype != torch.complex64:
        return made
    table = _unit_turns(frequencies, length)
    ours = torch.complex(table[..., :half].contiguous(), table[..., half:].contiguous()).reshape(made.shape)
    return ours if alike(ours.real, made.real) and alike(ours.imag, made.imag) else made


def _unit_turns(frequencies: torch.Tensor, length: int) -> torch.Tensor:
    """[1, length, 2 * pairs]: what MLX's fused rotation makes of (1, 0) at positions 0, 1, …: cosines, then sines."""
    half = frequencies.shape[-1]
    unit = mx.concatenate([mx.ones((1, 1, length, half)), mx.zeros((1, 1, length, half))], axis=-1)
    turned = mx.fast.rope(
        unit, 2 * half, traditional=False, base=None, scale=1.0, offset=0, freqs=1.0 / to_mlx(frequencies.float())
    )
    return to_torch(turned)[0]
