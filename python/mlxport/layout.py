"""Layouts by rule: which reordering of axes, if any, makes a port's tensor PyTorch's.

The rules in order: as it is; leading axes folded ([tokens, C] and [1, tokens, C]); heads before or after length; channels last. A
tensor whose shape is PyTorch's already is never reordered, so a transposed square cannot be hidden.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

AS_IS = "as it is"
FOLDED = "leading axes folded"
HEADS = "heads before or after length"
CHANNELS = "channels last"


def to_shape(array: np.ndarray, shape: Sequence[int], *, convolution: bool = False) -> tuple[np.ndarray, str] | None:
    """`array` in `shape`, and by which rule; nothing where no rule fits. `convolution`: the module keeps channels last."""
    shape = tuple(shape)
    if array.size != int(np.prod(shape)):
        return None
    if convolution and array.ndim >= 3:
        moved = np.moveaxis(array, -1, 1)
        if _folds(moved.shape, shape):
            return np.ascontiguousarray(moved).reshape(shape), CHANNELS
    if array.shape == shape:
        return array, AS_IS
    if _folds(array.shape, shape):
        return array.reshape(shape), FOLDED
    if array.ndim >= 3:
        for axis in range(array.ndim - 2):
            swapped = np.swapaxes(array, axis, axis + 1)
            if _folds(swapped.shape, shape):
                return np.ascontiguousarray(swapped).reshape(shape), HEADS
        moved = np.moveaxis(array, -1, 1)
        if _folds(moved.shape, shape):
            return np.ascontiguousarray(moved).reshape(shape), CHANNELS
    return None


def channels_last(array: np.ndarray, shape: Sequence[int]) -> tuple[np.ndarray, str] | None:
    """`array`, whose channels are its second axis, in a shape that has them last; nothing where it does not fit."""
    if array.ndim < 3 or array.size != int(np.prod(shape)):
        return None
    moved = np.moveaxis(array, 1, -1)
    return (np.ascontiguousarray(moved).reshape(tuple(shape)), CHANNELS) if _folds(moved.shape, shape) else None


def _folds(a: Sequence[int], b: Sequence[int]) -> bool:
    """Whether one shape is the other with neighbouring axes folded into one; row-major order stays."""
    cuts_a, cuts_b = _cuts(a), _cuts(b)
    return cuts_a <= cuts_b or cuts_b <= cuts_a


def _cuts(shape: Sequence[int]) -> set[int]:
    total, cuts = 1, {1}
    for axis in reversed(shape):
        total *= axis
        cuts.add(total)
    return cuts


def joined(parts: list[np.ndarray], lengths: Sequence[int]) -> np.ndarray | None:
    """The outputs of several calls, each of so many positions, as those of one call; nothing where no axis is the positions'."""
    if len(parts) == 1:
        return parts[0]
    if len(parts) != len(lengths) or len({p.ndim for p in parts}) != 1:
        return None
    for axis in range(parts[0].ndim):
        scale = parts[0].shape[axis] // lengths[0] if parts[0].shape[axis] % lengths[0] == 0 else 0
        if scale == 0 or any(p.shape[axis] != scale * n for p, n in zip(parts, lengths, strict=True)):
            continue
        others = {tuple(n for a, n in enumerate(p.shape) if a != axis) for p in parts}
        if len(others) == 1 and scale == 1:
            return np.concatenate(parts, axis)
    return None
