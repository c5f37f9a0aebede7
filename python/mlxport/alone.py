"""The isolated mode: each module of the port once more, on what PyTorch's module was given; who adds error, and who inherits it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import mlx.core as mx
import numpy as np

from mlxport import layout
from mlxport.align import UNEXPLAINED, Aligned, Pair, Sides, dense
from mlxport.boundary import beside, gate_of, undo
from mlxport.heard import Call, Run, is_data


class Instead:
    """Gives each module of the port PyTorch's recorded inputs. Masks, positions and caches stay as the port has them."""

    def __init__(self, run: Run, mapping: dict[str, str], wanted: set[str] | None = None) -> None:
        self._run = run
        self._torch_of = {theirs: ours for ours, theirs in mapping.items() if wanted is None or ours in wanted}
        self.refused: dict[str, str] = {}

    def __call__(self, path: str, number: int, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        heard = self._run.find(self._torch_of.get(path, ""), number)
        if heard is None:
            return None
        floats = [a for a in heard.given if is_data(a)]
        integers = [a for a in heard.given if a.dtype == np.int64 and not _counts_on(a)]
        places = [key for key, value in _numbered(args, kwargs) if _is_float(value)]
        if not floats or not places:
            return None
        held, kwargs = list(args), dict(kwargs)
        both = places if len(places) == len(floats) else places[:1]
        for place, array in zip(both, floats, strict=False):
            if not _put(held, kwargs, place, array):
                self.refused[f"{heard.path}#{number}"] = "PyTorch's input does not fit the port's"
                return None
        chosen = [key for key, value in _numbered(held, kwargs) if _is_integer(value)]
        if len(chosen) == len(integers) == 1 and not _put(held, kwargs, chosen[0], integers[0]):
            return None
        return tuple(held), kwargs


def _numbered(args: Iterable, kwargs: dict) -> list[tuple[int | str, Any]]:
    return [*enumerate(args), *kwargs.items()]


def _is_float(value: Any) -> bool:
    return (
        isinstance(value, mx.array)
        and mx.issubdtype(value.dtype, mx.floating)
        and is_data(np.array(value.astype(mx.float32)))
    )


def _counts_on(array: np.ndarray) -> bool:
    """Whether these are positions: each row goes up by one. They stay as the port has them."""
    return array.ndim > 0 and array.shape[-1] > 2 and bool((np.diff(array, axis=-1) == 1).all())


def _is_integer(value: Any) -> bool:
    return isinstance(value, mx.array) and mx.issubdtype(value.dtype, mx.integer)


def _put(args: list, kwargs: dict, place: int | str, array: np.ndarray) -> bool:
    held: Any = args if isinstance(place, int) else kwargs
    laid = layout.to_shape(array, held[place].shape) or layout.channels_last(array, held[place].shape)
    if laid is None:
        return False
    held[place] = mx.array(laid[0]).astype(held[place].dtype)
    return True


def aligned(
    sides: Sides,
    alone: Run,
    results: Iterable[tuple[Call, list[np.ndarray], list[np.ndarray]]],
    cumulative: Aligned,
    failed: dict[str, str],
) -> Aligned:
    """The points of the isolated mode. Boundaries that the whole pass showed to differ are undone here, too."""
    found = Aligned()
    differing = {b["point"]: b["what"] for b in cumulative.boundaries}
    for heard, truth, runtime in results:
        path = sides.mapping.port_of.get(heard.path)
        if path is None:
            continue
        theirs = alone.find(path, heard.number)
        name = f"{heard.path}#{heard.number}"
        if _passes_on(heard, sides.experts):
            found.missing[name] = "some of its experts only pass their input on: judged at the module around it"
            continue
        if theirs is None:
            why = failed.get(f"{path}#{heard.number}")
            found.missing[name] = (
                f"the port's module could not be run by itself: {why}" if why else "it is given nothing to compute on"
            )
            continue
        pair = _pair(sides, heard, truth, runtime, theirs)
        if pair is None or differing.get(f"{name}.out") == UNEXPLAINED:
            found.missing[name] = "its boundary differs"
            continue
        undone = undo(pair, None, gate_of(heard)) if f"{name}.out" in differing and pair.fails() else None
        if undone is not None:
            pair.theirs = undone[0]
        found.pairs.append(pair)
        if pair.rule != layout.AS_IS:
            found.rules[pair.name] = pair.rule
    return found


def _returned_as(sides: Sides, heard: Call) -> int:
    """Which of the results of PyTorch's module the port's is, as the whole pass showed."""
    return sides.returned_as.get(f"{heard.path}#{heard.number}", 0)


def _passes_on(heard: Call, experts: int) -> bool:
    """Whether experts were chosen that have no matrices: numbers past the last one."""
    chosen = next((a for a in heard.given if a.dtype == np.int64 and a.ndim >= 2), None)
    weighted = any(chosen is not None and a.dtype.kind == "f" and a.shape == chosen.shape for a in heard.given)
    return experts > 0 and chosen is not None and weighted and int(chosen.max(initial=0)) >= experts


def _pair(sides: Sides, heard: Call, truth: list[np.ndarray], runtime: list[np.ndarray], theirs: Call) -> Pair | None:
    routed = [dense(arrays, sides.experts) for arrays in (heard.returned, truth, runtime, theirs.returned)]
    dense_all = [array for array in routed if array is not None]
    if len(dense_all) == 4:
        whole, ours = [[array] for array in dense_all[:3]], dense_all[3:]
    else:
        whole, ours = [heard.returned, truth, runtime], theirs.returned
    if not ours or any(not w for w in whole):
        return None
    nth = _returned_as(sides, heard)
    if nth and all(len(w) > nth for w in whole):
        whole = [[w[nth]] for w in whole]
    shape = whole[0][0].shape
    theirs_out = _weighted(heard, ours[0], shape)
    if theirs_out.dtype.kind != "f" or whole[0][0].dtype.kind != "f":
        return None
    laid = layout.to_shape(theirs_out, shape, convolution=heard.path in sides.convolutions)
    if laid is None:
        return None
    three = (whole[0][0], whole[1][0], whole[2][0])
    return Pair(heard.path, heard.number, "out", *three, laid[0], laid[1], beside(theirs, shape))


def _weighted(heard: Call, out: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Experts that give each chosen expert's output: their sum, by the weights that PyTorch's experts were given."""
    size = int(np.prod(shape))
    indices = next((a for a in heard.given if a.dtype == np.int64), None)
    if indices is None or out.size != size * indices.shape[-1] or out.size == size:
        return out
    weights = next((a for a in heard.given if a.dtype.kind == "f" and a.shape == indices.shape), None)
    if weights is None:
        return out
    each = out.reshape(-1, indices.shape[-1], out.shape[-1]).astype(np.float64)
    return (each * weights.reshape(-1, indices.shape[-1], 1)).sum(1).astype(np.float32)
