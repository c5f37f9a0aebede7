"""Lays a port's recording beside PyTorch's: the same points, in PyTorch's names and layouts, and what could not be laid beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mlxport import layout
from mlxport.boundary import beside, gate_of, undo
from mlxport.heard import Call, Run, is_data, relative_rms
from mlxport.mapping import Mapping

# An error above this is looked at: another layout's, another boundary's or a fault's. No verdict hangs on it.
LARGE = 1e-4
UNEXPLAINED = "it differs, and what is made of it does not: something stands outside the port's module"


@dataclass
class Pair:
    """One point that both sides have. `runtime`: what MLX's bare operations made of it in PyTorch's graph."""

    point: str
    call: int
    kind: str
    ours: np.ndarray
    truth: np.ndarray
    runtime: np.ndarray
    theirs: np.ndarray
    rule: str = layout.AS_IS
    # Other tensors of the result's shape that the port's module was given.
    beside: list[np.ndarray] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.point}#{self.call}.{self.kind}"

    def error(self) -> float:
        return relative_rms(self.theirs, self.truth)

    def fails(self) -> bool:
        """Whether the error is more than rounding explains, roughly; the verdict is not made here."""
        return not self.error() <= max(LARGE, 50 * relative_rms(self.ours, self.truth))

    def drifts(self) -> bool:
        """Whether the error is more than four times what float32 itself and MLX's bare operations are off by here."""
        return self.error() > 4 * max(relative_rms(self.ours, self.truth), relative_rms(self.runtime, self.truth))


@dataclass
class Aligned:
    """All points of one mode of one scenario."""

    pairs: list[Pair] = field(default_factory=list)
    rules: dict[str, str] = field(default_factory=dict)
    boundaries: list[dict[str, str]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def find(self, name: str) -> Pair | None:
        return next((pair for pair in self.pairs if pair.name == name), None)


@dataclass
class Sides:
    """What PyTorch computed (float32, float64, on MLX's bare operations), and how modules correspond."""

    run: Run
    truth: Run
    runtime: Run
    mapping: Mapping
    leaves: list[str]
    convolutions: set[str]
    experts: int = 0
    # Which tokens only hold a picture's place.
    pictures: np.ndarray | None = None
    # Which result of PyTorch's module the port's is, where it is not the first.
    returned_as: dict[str, int] = field(default_factory=dict)


def aligned(sides: Sides, port: Run, lengths: Sequence[int]) -> Aligned:
    """The points of a whole pass; `lengths`: how many positions each of the port's calls had."""
    found = Aligned()
    for heard in sides.run.calls:
        path = _port_path(sides.mapping, heard.path)
        if path is None:
            continue
        truth, runtime = sides.truth.find(heard.path, heard.number), sides.runtime.find(heard.path, heard.number)
        if truth is None or runtime is None:
            found.missing[f"{heard.path}#{heard.number}"] = "the float64 run did not call it"
            continue
        theirs = _calls(port, sides.run, path, heard, lengths)
        if isinstance(theirs, str):
            found.missing[f"{heard.path}#{heard.number}"] = theirs
            continue
        triple = (heard, truth, runtime)
        if heard.path.endswith(".bare_attention") or heard.path in sides.leaves:
            _inputs(found, sides, triple, theirs, lengths)
        _output(found, sides, triple, theirs, lengths)
    _settle(found, sides)
    return found


def _port_path(mapping: Mapping, path: str) -> str | None:
    if path == "logits":
        return path
    owner, _, last = path.rpartition(".")
    if last == "bare_attention" and owner in mapping.port_of and path not in mapping.port_of:
        return f"{mapping.port_of[owner]}.bare_attention"
    return mapping.port_of.get(path)


def _calls(port: Run, run: Run, path: str, heard: Call, lengths: Sequence[int]) -> list[Call] | str:
    """The port's calls that together are one call of PyTorch's."""
    count, expected = port.count(path), run.count(heard.path)
    if count == 0:
        return f"the port never called {path} as a module"
    if count == expected:
        found = port.find(path, heard.number)
        return [found] if found else f"the port's call {heard.number} of {path} did not end"
    if expected == 1 and count == len(lengths):
        return list(port.of(path))
    return f"PyTorch called it {expected} times, the port called {path} {count} times"


def _inputs(
    found: Aligned, sides: Sides, triple: tuple[Call, Call, Call], theirs: list[Call], lengths: Sequence[int]
) -> None:
    heard = triple[0]
    limit = 3 if heard.path.endswith(".bare_attention") else 1
    places = [at for at, a in enumerate(heard.given) if is_data(a)][:limit]
    for nth, place in enumerate(places):
        parts = [nth_float(call.given, nth) for call in theirs]
        whole = [call.given[place] for call in triple if place < len(call.given)]
        if any(p is None for p in parts) or len(whole) < 3:
            continue
        _add(found, sides, heard, f"in{nth or ''}", whole, [p for p in parts if p is not None], lengths)


def _output(
    found: Aligned, sides: Sides, triple: tuple[Call, Call, Call], theirs: list[Call], lengths: Sequence[int]
) -> None:
    heard = triple[0]
    routed = [dense(call.returned, sides.experts) for call in triple]
    ours = [dense(call.returned, sides.experts) for call in theirs]
    if all(r is not None for r in routed) and all(o is not None for o in ours):
        done = _add(
            found,
            sides,
            heard,
            "out",
            [r for r in routed if r is not None],
            [o for o in ours if o is not None],
            lengths,
        )
    elif heard.returned and heard.returned[0].dtype == np.int64:
        # Which positions are attended to, say: in an order of the port's own, and of no meaning where fewer are there.
        found.missing[f"{heard.path}#{heard.number}"] = "it returns a choice: judged at what is made of it"
        return
    else:
        parts = [call.returned[0] for call in theirs if call.returned]
        done = len(parts) == len(theirs) and _first_or_same(found, sides, triple, parts, lengths)
    if done and len(theirs) == 1:
        found.pairs[-1].beside = beside(theirs[0], found.pairs[-1].truth.shape)
    if not done:
        shapes = [list(a.shape) for a in theirs[0].returned[:2]]
        expected = [list(a.shape) for a in heard.returned[:2]]
        found.missing[f"{heard.path}#{heard.number}"] = (
            f"it returns {shapes}, PyTorch's returns {expected}: another boundary"
        )


def _first_or_same(
    found: Aligned, sides: Sides, triple: tuple[Call, Call, Call], parts: list[np.ndarray], lengths: Sequence[int]
) -> bool:
    """The port's result beside the first that PyTorch's module returned, or beside another one of its that it is."""
    heard = triple[0]
    for nth in range(min(len(call.returned) for call in triple)):
        whole = [call.returned[nth] for call in triple]
        if not _add(found, sides, heard, "out", whole, parts, lengths):
            continue
        pair = found.pairs[-1]
        if nth == 0 and not pair.fails():
            return True
        if nth and not pair.fails() and pair.truth.dtype.kind == "f":
            what = f"the port's module returns what PyTorch's returns as its result {nth + 1}"
            found.boundaries.append({"point": pair.name, "what": what, "judged_at": pair.name})
            sides.returned_as[f"{heard.path}#{heard.number}"] = nth
            return True
        found.pairs.pop()
        found.rules.pop(pair.name, None)
    return all(call.returned for call in triple) and _add(
        found, sides, heard, "out", [call.returned[0] for call in triple], parts, lengths
    )


def _add(
    found: Aligned,
    sides: Sides,
    heard: Call,
    kind: str,
    whole: list[np.ndarray],
    parts: list[np.ndarray],
    lengths: Sequence[int],
) -> bool:
    joined = layout.joined(parts, lengths)
    if joined is None:
        return False
    if (joined.dtype == np.int64) != (whole[0].dtype == np.int64):
        return False
    laid = layout.to_shape(joined, whole[0].shape, convolution=heard.path in sides.convolutions)
    if laid is None:
        return False
    pair = Pair(heard.path, heard.number, kind, whole[0], whole[1], whole[2], laid[0], laid[1])
    found.pairs.append(pair)
    if laid[1] != layout.AS_IS:
        found.rules[pair.name] = laid[1]
    return True


def nth_float(arrays: list[np.ndarray], nth: int) -> np.ndarray | None:
    """The nth tensor of floats that is no mask."""
    floats = [array for array in arrays if is_data(array)]
    return floats[nth] if nth < len(floats) else None


def dense(returned: list[np.ndarray], experts: int) -> np.ndarray | None:
    """A router's choice as a row of weights over all experts, whose order of choice is gone; nothing for other modules."""
    indices = next((a for a in returned if a.dtype == np.int64 and a.ndim >= 2), None)
    if indices is None or experts == 0:
        return None
    weights = next((a for a in returned if a.dtype.kind == "f" and a.shape == indices.shape), None)
    if weights is None or indices.max(initial=0) >= experts:
        return None
    rows = np.zeros((*indices.shape[:-1], experts), weights.dtype)
    np.put_along_axis(rows, indices, weights, axis=-1)
    return rows.reshape(-1, experts) if rows.ndim == 2 else rows


def _settle(found: Aligned, sides: Sides) -> None:
    """Undoes boundaries that differ, where that is verified and the next point that both have agrees as it is."""
    kept: list[Pair] = []
    for at, pair in enumerate(found.pairs):
        if pair.point == "logits" or not pair.fails():
            kept.append(pair)
            continue
        if (
            pair.point.endswith(".bare_attention")
            and pair.kind != "out"
            and _passes(found, f"{pair.point}#{pair.call}.out")
        ):
            found.boundaries.append(
                {
                    "point": pair.name,
                    "what": "operands differ, the attention of them does not",
                    "judged_at": f"{pair.point}#{pair.call}.out",
                }
            )
            continue
        undone = undo(pair, found, gate_of(sides.truth.find(pair.point, pair.call)), sides.pictures)
        judge = _judge(found, sides, at) if undone else None
        if undone and judge:
            found.boundaries.append({"point": pair.name, "what": undone[1], "judged_at": judge})
            pair.theirs = undone[0]
        elif not undone and pair.kind == "out" and (judge := _without_effect(found, sides, at)):
            found.boundaries.append({"point": pair.name, "what": UNEXPLAINED, "judged_at": judge})
            continue
        kept.append(pair)
    found.pairs = kept


def _without_effect(found: Aligned, sides: Sides, at: int) -> str | None:
    """The module around that agrees, where what is made of a point next agrees, too: something is done outside of the port's module."""
    here = found.pairs[at]
    if any(pair.fails() for pair in found.pairs if pair.name == f"{here.point}#{here.call}.in"):
        return None
    owner = here.point.rpartition(".")[0]
    judge, follows = _judge(found, sides, at), _next_agreeing(found, at)
    if follows is None or not follows.startswith(owner):
        return None
    if judge is not None and judge.startswith(owner):
        return judge
    # What is given to the next module of the same owner is enough: the owner's result may be wrong by what comes later.
    return follows if follows.endswith(".in") and not _was_there(found, sides, at, follows) else None


def _was_there(found: Aligned, sides: Sides, at: int, name: str) -> bool:
    """Whether PyTorch had that tensor before this point: then it is a branch beside it, which tells nothing of it."""
    here, pair = found.pairs[at], found.find(name)
    call = sides.run.find(here.point, here.call)
    before = [*(call.given if call is not None else []), *(earlier.ours for earlier in found.pairs[:at])]
    return pair is not None and any(
        pair.ours.size == array.size and np.array_equal(pair.ours.ravel(), array.ravel()) for array in before
    )


def _passes(found: Aligned, name: str) -> bool:
    pair = found.find(name)
    return pair is not None and not pair.fails()


def _judge(found: Aligned, sides: Sides, at: int) -> str | None:
    """The point that shows a boundary to be no fault, if it agrees: what a module computes goes into the output of the one around it.

    An embedding is given no numbers, and what follows it is given its rows: there the next point tells, for the module around it is
    the whole model, where something else may be wrong.
    """
    here = found.pairs[at]
    call = sides.run.find(here.point, here.call)
    owner = here.point.rpartition(".")[0]
    if call is not None and any(is_data(array) for array in call.given):
        while owner:
            around = found.find(f"{owner}#{here.call}.out")
            if around is not None:
                return None if around.fails() else around.name
            owner = owner.rpartition(".")[0]
    return _next_agreeing(found, at)


def _next_agreeing(found: Aligned, at: int) -> str | None:
    """The first point after this one, of another module, if it agrees; the first may be the enclosing module's output.

    A point with a differing boundary of its own (a second embedding, scaled outside, too) tells nothing: the one after it does.
    """
    here = found.pairs[at]
    for pair in found.pairs[at + 1 :]:
        if pair.point == here.point or pair.point.startswith(here.point + "."):
            continue
        if pair.fails() and undo(pair, found) is not None:
            continue
        return None if pair.fails() else pair.name
    return None
