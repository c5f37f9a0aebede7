"""Causes that only pieces over a cache show, verified as the others are: on recorded tensors, both sides made again."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import numpy as np

from mlxport import causes
from mlxport.align import Aligned, Sides
from mlxport.heard import Call, Fed, relative_rms
from mlxport.layout import to_shape

# A rotation, the position at which its piece starts, and what PyTorch has there.
_Turn = tuple[Call, int, np.ndarray]


def found(sides: Sides, fed: Fed, pieces: Aligned, whole: Aligned) -> list[dict[str, Any]]:
    """What explains the first point that fails, where it is queries or keys after their rotation, or an attention over such keys."""
    first = next((pair for pair in pieces.pairs if pair.fails()), None)
    if first is None or not first.point.endswith(".bare_attention"):
        return []
    owner = sides.mapping.port_of.get(first.point.removesuffix(".bare_attention"), "?")
    calls = [call for call in fed.run.calls if call.path.startswith(f"{owner}.") and call.path.endswith(".rotation")]
    if first.kind == "out":
        # Keys lie in the cache: only the whole pass has all of PyTorch's in one piece.
        keys = whole.find(first.name.removesuffix("out") + "in1")
        turned = [] if keys is None else _turns(calls, keys.truth, fed.lengths)
    else:
        turned = _turns(calls, first.truth, fed.lengths, first.theirs)
    told = _turned_elsewhere(turned)
    return [] if told is None else [{"point": first.name, **told}]


def _turned_elsewhere(turned: Iterator[_Turn] | list[_Turn]) -> dict[str, Any] | None:
    """A piece that the port turns as if it began at another position, and that is right once turned from its own."""
    for call, start, truth in turned:
        offset = int(np.max(call.meta.get("offset", 0)))
        if offset == start or relative_rms(call.returned[0], truth) < causes.EXPLAINED:
            continue
        left = relative_rms(causes.turned(call, {**causes.settings(call), "offset": start}), truth)
        if left < causes.EXPLAINED:
            cause = (
                f"positions: the port turns the piece that begins at position {start} with rope offset {offset}, "
                f"PyTorch with {start} (the cache's offset before the piece is added to it)"
            )
            return {"cause": cause, "error_left": left, "within_tolerance": True}
    return None


def _turns(
    calls: list[Call], truth: np.ndarray, lengths: list[int], theirs: np.ndarray | None = None
) -> Iterator[_Turn]:
    """Each rotation that may have made one piece of a tensor, where that piece starts, and PyTorch's of it. With `theirs`, the port's
    tensor, only those that did make it."""
    for length, end in zip(lengths, accumulate(lengths), strict=True):
        start = end - length
        piece = truth[..., start:end, :]
        for call in calls:
            if not call.given or call.given[0].size != piece.size:
                continue
            laid = to_shape(piece, call.given[0].shape)
            made = None if theirs is None else to_shape(theirs[..., start:end, :], call.given[0].shape)
            is_own = theirs is None or (made and relative_rms(call.returned[0], made[0]) < causes.EXPLAINED)
            if laid and is_own:
                yield call, start, laid[0]
