"""What one run left: every call of every module, what it was given and what it returned, in the order in which calls ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# No activation is this large; what fills an attention mask is.
HUGE = 1e30


@dataclass
class Call:
    """One call of one module. `given` and `returned` are its tensors in order; `args` is kept where the call is to be repeated."""

    path: str
    number: int
    given: list[np.ndarray]
    returned: list[np.ndarray]
    args: tuple[tuple, dict] | None = None
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass
class Run:
    """The calls of one run, in the order in which they ended."""

    calls: list[Call] = field(default_factory=list)
    _counts: dict[str, int] = field(default_factory=dict)
    _by_name: dict[tuple[str, int], Call] = field(default_factory=dict)

    def number(self, path: str) -> int:
        """The number of the call of `path` that begins now."""
        self._counts[path] = self._counts.get(path, -1) + 1
        return self._counts[path]

    def add(self, call: Call) -> None:
        """Notes a call that has ended."""
        self.calls.append(call)
        self._by_name[(call.path, call.number)] = call

    def find(self, path: str, number: int = 0) -> Call | None:
        """The call of this name, if there was one."""
        return self._by_name.get((path, number))

    def count(self, path: str) -> int:
        """How often a module was called."""
        return self._counts.get(path, -1) + 1

    def of(self, path: str) -> Iterator[Call]:
        """All calls of a module, in order."""
        return (self._by_name[(path, n)] for n in range(self.count(path)) if (path, n) in self._by_name)


@dataclass
class Fed:
    """What one scenario left: the port's calls, and how many positions each pass had."""

    run: Run
    lengths: list[int]
    alone: Run | None = None
    failed: dict[str, str] | None = None


def is_data(array: np.ndarray) -> bool:
    """Floats that are no mask."""
    return array.dtype.kind == "f" and array.size > 0 and bool((np.abs(array) < HUGE).all())


def relative_rms(ours: np.ndarray, truth: np.ndarray) -> float:
    """RMS of the difference over the RMS of the truth: the error that verdicts are made of."""
    exact = truth.astype(np.float64)
    size = float(np.sqrt(np.mean(np.square(exact)))) if exact.size else 0.0
    error = float(np.sqrt(np.mean(np.square(ours.astype(np.float64) - exact)))) if exact.size else 0.0
    return error / size if size else (0.0 if error == 0.0 else float("inf"))
