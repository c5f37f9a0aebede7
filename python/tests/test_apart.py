"""Processes side by side: in order, what is there is not run, what takes too long is stopped and says so."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from mlxport import apart


def work(folder: Path, kind: str) -> None:
    if kind == "slow":
        time.sleep(60)
    if kind == "breaks":
        raise ValueError("no such thing")
    (folder / "made").write_text(kind)


def test_everything_comes_to_something_in_order(tmp_path: Path) -> None:
    def ended(kind: str, process: Any, stopped: str | None) -> dict[str, Any]:
        if stopped or not (tmp_path / kind / "made").is_file():
            return {"reason": stopped or apart.why(tmp_path / kind, process)}
        return {"made": (tmp_path / kind / "made").read_text()}

    found = apart.side_by_side(
        ["slow", "quick", "breaks", "held"],
        jobs=2,
        timeout=3,
        held=lambda kind: {"held": True} if kind == "held" else None,
        start=lambda kind: apart.fork(tmp_path / kind, lambda _place: work(tmp_path / kind, kind)),
        ended=ended,
    )
    assert found == [
        {"reason": "not done in 3 s"},
        {"made": "quick"},
        {"reason": "the process ended with 1: ValueError: no such thing"},
        {"held": True},
    ]
