"""Writes aligned points as two recordings, and what the candidate's runtime cannot help being off by."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from mlxport.align import Aligned
from mlxport.fixture import Fixture
from mlxport.heard import relative_rms

RUNTIME = "runtime_floors.json"
# So few numbers are a lucky draw: what they are off by is taken to be at least what the point before them is off by.
FEW = 256


def reference(
    directory: Path, found: Aligned, inputs: dict[str, np.ndarray], said: dict[str, Any], *, largest: float = math.inf
) -> None:
    """PyTorch's side, the float64 truth, and beside it `runtime_floors.json`, no floor above `largest`."""
    if directory.exists() or not found.pairs:
        return
    floors, before = {}, 0.0
    with Fixture(directory, inputs, {**said, "checkpoint_sha256": "0" * 64}, truth=True) as fixture:
        for pair in found.pairs:
            integers = pair.ours.dtype == np.int64
            name = fixture.add(pair.point, pair.call, pair.kind, pair.ours, pair.ours if integers else pair.truth)
            if not integers:
                floors[name] = relative_rms(pair.runtime, pair.truth)
                if pair.truth.size < FEW:
                    floors[name] = max(floors[name], before)
                floors[name] = min(floors[name], largest)
                before = floors[name]
    digest = hashlib.sha256((directory / "manifest.json").read_bytes()).hexdigest()
    made = {"schema": 1, "reference_manifest_sha256": digest, "floors": floors}
    (directory / RUNTIME).write_text(json.dumps(made))


def candidate(directory: Path, found: Aligned, inputs: dict[str, np.ndarray], said: dict[str, Any]) -> None:
    """The port's side, under PyTorch's names and in its layouts."""
    if not found.pairs:
        return
    with Fixture(directory, inputs, said, truth=False) as fixture:
        for pair in found.pairs:
            fixture.add(pair.point, pair.call, pair.kind, np.ascontiguousarray(pair.theirs))
