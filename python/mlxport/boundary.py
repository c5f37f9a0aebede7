"""Boundaries that differ between PyTorch's module and the port's: what stands inside on one side and outside on the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlxport import layout
from mlxport.heard import Call, is_data, relative_rms

if TYPE_CHECKING:
    from mlxport.align import Aligned, Pair

# A factor closer to one than this is no boundary.
LARGE = 1e-4
# What is left when a boundary is undone: a few times float32's noise.
UNDONE = 1e-5


def beside(call: Call, shape: tuple[int, ...]) -> list[np.ndarray]:
    """The tensors of floats after the first that a module was given, those that have its result's shape."""
    floats = [array for array in call.given if is_data(array)][1:]
    laid = [layout.to_shape(array, shape) for array in floats]
    return [found[0].astype(np.float64) for found in laid if found is not None]


def gate_of(call: Call | None) -> np.ndarray | None:
    """The second tensor of floats that a module was given, if it has its result's shape: what gates it."""
    floats = [array for array in call.given if is_data(array)] if call else []
    fits = len(floats) == 2 and call is not None and call.returned and floats[1].size == call.returned[0].size
    return floats[1].reshape(call.returned[0].shape) if fits and call is not None else None


def undo(
    pair: Pair, found: Aligned | None = None, gate: np.ndarray | None = None, pictures: np.ndarray | None = None
) -> tuple[np.ndarray, str] | None:
    """The port's tensor with a differing boundary undone, and what differs; nothing where nothing simple explains it.

    `gate`: the second tensor that PyTorch's module was given. `pictures`: which tokens only hold a picture's place.
    """
    ours, truth = pair.theirs.astype(np.float64), pair.truth.astype(np.float64)
    tries: list[tuple[np.ndarray, str]] = []
    if gate is not None and gate.shape == ours.shape:
        sigmoid = 1 / (1 + np.exp(-np.clip(gate, -60, 60)))
        tries.append((ours * sigmoid, "the gate's sigmoid stands outside the port's module"))
        tries.append((ours * gate * sigmoid, "the gate's SiLU stands outside the port's module"))
    if pictures is not None and found is not None and found.find(f"{pair.point}#{pair.call}.in") is None:
        held = _without_pictures(ours, truth, pictures)
        if held is not None:
            tries += [(held, "tokens of pictures are looked up as others, and replaced"), *_scaled(held, truth)]
    tries += _scaled(ours, truth)
    tries.append((_softmax(ours), "the softmax stands outside the port's module"))
    tries.append((1 / (1 + np.exp(-np.clip(ours, -60, 60))), "the sigmoid stands outside the port's module"))
    chosen = truth != 0
    if 0 < chosen.mean() < 1:
        kept = np.where(chosen, 1 / (1 + np.exp(-np.clip(ours, -60, 60))), 0.0)
        # Only where the port's own largest logits are the chosen ones.
        count = int(chosen.sum(-1).flat[0])
        largest = np.argsort(-ours, -1)[..., :count]
        if np.take_along_axis(chosen, largest, -1).all():
            tries.append((kept, "the choice and its sigmoid stand outside the port's module"))
    for other in pair.beside:
        tries.append((ours - other, "what is given beside is added inside the port's module"))
    given = found.find(f"{pair.point}#{pair.call}.in") if found else None
    if given is not None and given.truth.shape == truth.shape:
        tries.append((ours - given.theirs, "the residual is added inside the port's module"))
        tries.append((ours + given.theirs, "the residual is added outside the port's module"))
    ordered = _same_rows(ours, truth)
    if ordered is not None:
        tries.append((ordered, "the rows of a table are looked up in another order"))
    for made, what in tries:
        if relative_rms(made, truth) <= UNDONE:
            return made.astype(np.float32), what
    return None


def _scaled(ours: np.ndarray, truth: np.ndarray) -> list[tuple[np.ndarray, str]]:
    square = float((ours * ours).sum())
    factor = float((ours * truth).sum()) / square if square else 0.0
    if not factor or not np.isfinite(factor) or abs(factor - 1) <= LARGE:
        return []
    return [(ours * factor, f"a factor of {factor:.6g} stands outside the port's module")]


def _without_pictures(ours: np.ndarray, truth: np.ndarray, pictures: np.ndarray) -> np.ndarray | None:
    """The port's rows, zero like PyTorch's where a picture takes the row's place: those rows of both are set to nothing."""
    if truth.ndim < 2 or truth.shape[-2] != pictures.size or not pictures.any():
        return None
    text = ~pictures
    square = float((ours[..., text, :] ** 2).sum())
    factor = float((ours[..., text, :] * truth[..., text, :]).sum()) / square if square else 0.0
    if not factor:
        return None
    held = ours.copy()
    held[..., pictures, :] = truth[..., pictures, :] / factor
    return held


def _same_rows(ours: np.ndarray, truth: np.ndarray) -> np.ndarray | None:
    """The port's rows in PyTorch's order, where both have the very same rows: what is looked up, and no result of arithmetic."""
    if truth.ndim < 2 or ours.shape != truth.shape:
        return None
    theirs, right = ours.reshape(-1, ours.shape[-1]), truth.reshape(-1, truth.shape[-1])
    by_theirs, by_right = np.lexsort(theirs.T), np.lexsort(right.T)
    if not np.array_equal(theirs[by_theirs].astype(np.float32), right[by_right].astype(np.float32)):
        return None
    made = np.empty_like(theirs)
    made[by_right] = theirs[by_theirs]
    return made.reshape(truth.shape)


def _softmax(array: np.ndarray) -> np.ndarray:
    raised = np.exp(array - array.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)
