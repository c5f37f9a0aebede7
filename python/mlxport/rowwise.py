"""One sequence's part of what a port computed for several at once, without its padding."""

from __future__ import annotations

import numpy as np

from mlxport.heard import Call, Fed, Run


def of(fed: Fed, row: int, kept: list[slice], lengths: list[int], rows: int) -> Fed:
    """The part of `row` of `rows`. `kept`: which positions of each pass are its own; `lengths`: how many those are."""
    run = Run()
    for heard in fed.run.calls:
        passes = fed.run.count(heard.path)
        # A module that every pass calls once: its calls are the passes. One that a single pass calls more often: all are that pass.
        nth = heard.number if passes == len(kept) else 0 if len(kept) == 1 else None
        if nth is None:
            continue
        width = fed.lengths[nth]
        cut = lambda arrays, width=width, nth=nth: [_part(a, row, rows, width, kept[nth]) for a in arrays]  # noqa: E731
        given, returned = cut(heard.given), cut(heard.returned)
        if any(array is None for array in returned):
            continue
        call = Call(
            heard.path,
            run.number(heard.path),
            [a for a in given if a is not None],
            [a for a in returned if a is not None],
            None,
            heard.meta,
        )
        run.add(call)
    return Fed(run, lengths)


def _part(array: np.ndarray, row: int, rows: int, width: int, kept: slice) -> np.ndarray | None:
    """[rows, …, width, …] → [1, …, kept, …]; [rows * width, …] → [kept, …]. Nothing where no axis is the positions'."""
    if array.ndim and array.shape[0] == rows * width:
        return array.reshape(rows, width, *array.shape[1:])[row, kept]
    if not array.ndim or array.shape[0] != rows:
        return None
    axis = next((a for a in range(1, array.ndim) if array.shape[a] == width), None)
    if axis is None:
        return None
    taken = [slice(row, row + 1)] + [slice(None)] * (array.ndim - 1)
    taken[axis] = kept
    return array[tuple(taken)]
