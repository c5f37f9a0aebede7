"""Causes that only pieces over a cache show, verified as the others are: on recorded tensors, both sides made again."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import numpy as np

from mlxport import causes
from mlxport.align import Aligned, Pair, Sides
from mlxport.heard import Call, Fed, relative_rms
from mlxport.layout import to_shape


def found(sides: Sides, fed: Fed, pieces: Aligned) -> list[dict[str, Any]]:
    """What explains the first point that fails, where it is queries or keys after their rotation."""
    first = next((pair for pair in pieces.pairs if pair.fails()), None)
    if first is None or not first.point.endswith(".bare_attention") or first.kind not in ("in", "in1"):
        return []
    owner = sides.mapping.port_of.get(first.point.removesuffix(".bare_attention"), "?")
    calls = [call for call in fed.run.calls if call.path.startswith(f"{owner}.") and call.path.endswith(".rotation")]
    told = _turned_elsewhere(calls, first, fed.lengths)
    return [] if told is None else [told]


def _turned_elsewhere(calls: list[Call], pair: Pair, lengths: list[int]) -> dict[str, Any] | None:
    """A piece that the port turns as if it began at another position, and that is right once turned from its own."""
    for call, start, truth in _own_calls(calls, pair, lengths):
        offset = int(np.max(call.meta.get("offset", 0)))
        if offset == start:
            continue
        left = relative_rms(causes.turned(call, {**causes.settings(call), "offset": start}), truth)
        if left < causes.EXPLAINED:
            cause = (
                f"positions: the port turns the piece that begins at position {start} with rope offset {offset}, "
                f"PyTorch with {start} (the cache's offset before the piece is added to it)"
            )
            return {"point": pair.name, "cause": cause, "error_left": left, "within_tolerance": True}
    return None


def _own_calls(calls: list[Call], pair: Pair, lengths: list[int]) -> Iterator[tuple[Call, int, np.ndarray]]:
    """Each rotation that made one piece of what the port has here, where that piece starts, and PyTorch's of it."""
    for length, end in zip(lengths, accumulate(lengths), strict=True):
        start = end - length
        theirs, truth = (side[..., start:end, :] for side in (pair.theirs, pair.truth))
        for call in calls:
            if call.given and call.given[0].size == theirs.size:
                laid = [to_shape(side, call.given[0].shape) for side in (theirs, truth)]
                if all(laid) and relative_rms(call.returned[0], laid[0][0]) < causes.EXPLAINED:  # type: ignore[index]
                    yield call, start, laid[1][0]  # type: ignore[index]
