"""Records any PyTorch model in the fixture format: float32, the float64 truth, and what each point is off by."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from mlxport.fixture import Fixture
from mlxport.heard import Run
from mlxport.precise import Float64
from mlxport.reference import Listener, array_of, changed, wide


def record_torch(model: torch.nn.Module, inputs: dict[str, torch.Tensor], out: Path) -> int:
    """Records one pass of `model` on `inputs` into `out`; the number of points. See `mlxport.record`."""
    if out.exists():
        raise FileExistsError(f"{out} is there already: remove it, or name another")
    exact = copy.deepcopy(model).eval().double()
    runs: list[Run] = []
    for subject, fed in ((model, inputs), (exact, changed(dict(inputs), wide))):
        with Listener(subject) as run, torch.no_grad():
            if subject is exact:
                with Float64():
                    subject(**fed)
            else:
                subject(**fed)
        runs.append(run)
    said: dict[str, Any] = {
        "torch": torch.__version__,
        "made_by": f"PyTorch {torch.__version__}",
        "truth_dtype": "float64",
    }
    with Fixture(out, {name: array_of(value) for name, value in inputs.items()}, said, truth=True) as fixture:
        return _written(fixture, runs[0], runs[1])


def _written(fixture: Fixture, run: Run, truth: Run) -> int:
    count = 0
    for call in run.calls:
        exact = truth.find(call.path, call.number)
        if exact is None or not call.returned:
            continue
        for nth, (ours, right) in enumerate(zip(call.given, exact.given, strict=False)):
            if ours.size and not (ours.dtype.kind == "f" and abs(ours).max() > 1e30):
                fixture.add(call.path, call.number, f"in{nth or ''}", ours, right)
                count += 1
        fixture.add(call.path, call.number, "out", call.returned[0], exact.returned[0])
        count += 1
    return count
