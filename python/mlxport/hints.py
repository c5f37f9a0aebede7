"""Likely causes, each verified on recorded tensors: named only where it makes what the port made, and PyTorch's setting what PyTorch made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from mlxport import causes
from mlxport.align import Aligned, Pair, Sides
from mlxport.heard import Call, Run, relative_rms
from mlxport.layout import to_shape
from mlxport.session import Session

# What is left when a cause is the right one: float32's noise, a few operations long.
EXPLAINED = 2e-5


def found(made: Session, sides: Sides, port: Run, cumulative: Aligned, alone: Aligned) -> list[dict[str, Any]]:
    """What explains the first failures of the whole pass, in its order; at most three."""
    search = _Search(made, sides, port, cumulative)
    hints: list[dict[str, Any]] = []
    for pair in cumulative.pairs:
        if len(hints) == 3:
            break
        if pair.fails() and search.is_origin(pair):
            hints.extend(search.explain(pair))
        elif pair.kind == "out" and pair.drifts() and search.is_origin(pair):
            # An epsilon adds little, and this attempt tells settings apart that differ by little.
            hints.extend(search.explain(pair, norms_alone=True))
    return hints[:3]


class _Search:
    def __init__(self, made: Session, sides: Sides, port: Run, cumulative: Aligned) -> None:
        self.made, self.sides, self.port, self.all = made, sides, port, cumulative
        self.modules = dict(made.reference.model.named_modules())
        self._seen: set[str] = set()

    def is_origin(self, pair: Pair) -> bool:
        """Whether what reached this point is right: its module's inputs, and its sisters before it."""
        if pair.kind == "out" and not pair.point.endswith(".bare_attention"):
            given = self.all.find(f"{pair.point}#{pair.call}.in")
            return given is None or not given.fails()
        return True

    def explain(self, pair: Pair, *, norms_alone: bool = False) -> list[dict[str, Any]]:
        """The causes of one failing point; one for each kind of module is enough."""
        tries = (self._rotation, self._attention, self._activation, self._norm, self._linear, self._router)
        for attempt in (self._norm,) if norms_alone else tries:
            cause = attempt(pair)
            if cause is not None and cause[0] not in self._seen:
                self._seen.add(cause[0])
                return [
                    {
                        "point": pair.name,
                        "cause": cause[0],
                        "error_left": cause[1],
                        "within_tolerance": cause[1] < EXPLAINED,
                    }
                ]
        return []

    def _rotation(self, pair: Pair) -> tuple[str, float] | None:
        """Queries or keys that are right before the rotation and wrong after it."""
        if not pair.point.endswith(".bare_attention") or pair.kind not in ("in", "in1"):
            return None
        owner = self.sides.mapping.port_of.get(pair.point.removesuffix(".bare_attention"), "?")
        for call in self.port.calls:
            if call.path.startswith(owner + ".") and call.path.endswith(".rotation") and call.given:
                told = self._rotated(call, pair)
                if told is not None:
                    return told
        return None

    def _rotated(self, call: Call, pair: Pair) -> tuple[str, float] | None:
        laid = to_shape(pair.truth, call.given[0].shape)
        if laid is None or relative_rms(call.returned[0], to_shape(pair.theirs, call.given[0].shape)[0]) > EXPLAINED:  # type: ignore[index]
            return None
        for what, turned in causes.rotations(call, self.made.config, self._frequencies()):
            left = relative_rms(turned, laid[0])
            if left < EXPLAINED:
                return what, left
        return None

    def _frequencies(self) -> list[np.ndarray]:
        tables = (getattr(m, "inv_freq", None) for m in self.modules.values())
        return [t.float().numpy() for t in tables if isinstance(t, torch.Tensor)]

    def _attention(self, pair: Pair) -> tuple[str, float] | None:
        """Operands that are right, and an attention of them that is not."""
        owner, _, last = pair.point.rpartition(".")
        heard = self.sides.truth.find(f"{owner}.bare_attention", pair.call)
        if (
            heard is None
            or (last == "bare_attention" and pair.kind != "out")
            or (last != "bare_attention" and pair.kind != "in")
        ):
            return None
        if any(p.fails() for p in self._of(f"{owner}.bare_attention") if p.kind != "out"):
            return None
        narrow = self.sides.run.find(f"{owner}.bare_attention", pair.call)
        meta = {**(narrow.meta if narrow else {}), "config": self.made.config}
        for what, ours, theirs in causes.attentions(heard.given, meta, pair):
            if ours < EXPLAINED and theirs < EXPLAINED:
                return what, theirs
        return None

    def _of(self, point: str) -> Iterator[Pair]:
        return (pair for pair in self.all.pairs if pair.point == point)

    def _activation(self, pair: Pair) -> tuple[str, float] | None:
        """An input that is an activation of sister modules' outputs."""
        if pair.kind != "in":
            return None
        owner = pair.point.rpartition(".")[0]
        sisters = [
            p for p in self.all.pairs if p.kind == "out" and p.point.rpartition(".")[0] == owner and not p.fails()
        ]
        return causes.activation(pair, [p for p in sisters if p.truth.size >= pair.truth.size])

    def _norm(self, pair: Pair) -> tuple[str, float] | None:
        module = self.modules.get(pair.point)
        given = self.all.find(f"{pair.point}#{pair.call}.in")
        if module is None or given is None or pair.kind != "out" or "norm" not in type(module).__name__.lower():
            return None
        return causes.norm(module, given.truth, pair)

    def _linear(self, pair: Pair) -> tuple[str, float] | None:
        module = self.modules.get(pair.point)
        given = self.all.find(f"{pair.point}#{pair.call}.in")
        if not isinstance(module, torch.nn.Linear) or given is None or pair.kind != "out":
            return None
        return causes.linear(module, given.truth, pair)

    def _router(self, pair: Pair) -> tuple[str, float] | None:
        if pair.kind != "out" or pair.truth.shape[-1] != self.sides.experts:
            return None
        return causes.router(pair)
