"""The atlas's tables: the worst seed counts, a change is told, a refusal is one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mlxport.atlas import cells, pages
from mlxport.atlas.__main__ import main


def cell(kind: str, verdict: str | None, seed: int = 0, **more: Any) -> dict[str, Any]:
    """One cell as a run leaves it."""
    said: dict[str, Any] = {"port": "mlx-lm", "model_type": kind, "seed": seed, "made_by": {"mlx": "0"}}
    if verdict:
        said.update(
            verdict=verdict, coverage={"compared": 3, "recorded": 3}, scenarios={"prefill": verdict}, first=None
        )
    return {**said, **more}


def test_a_type_is_as_good_as_its_worst_seed() -> None:
    found = pages.counts([cell("a", "pass"), cell("a", "fail", 1), cell("b", None, reason="none"), cell("c", "pass")])
    assert found == {"mlx-lm": {"types": 3, "pass": 1, "fail": 1, "incomplete": 0, "none": 1}}


def test_what_changed_between_two_runs_is_told() -> None:
    before = [cell("a", "pass"), cell("b", "pass"), cell("gone", "pass")]
    told = pages.changed(before, [cell("a", "fail"), cell("b", "pass"), cell("new", "pass")])
    assert told == [
        "mlx-lm a (seed 0): was pass, is fail",
        "mlx-lm new (seed 0): new, pass",
        "mlx-lm gone (seed 0): gone",
    ]


def test_reasons_of_many_lines_stay_in_their_row() -> None:
    refused = cell("a", "fail", first={"point": "load", "cause": "ValueError: Missing\nmany | keys"})
    table = pages.markdown([refused, cell("b", None, reason="died\nat once")], None)
    assert "does not load: ValueError: Missing many / keys" in table
    assert len([line for line in table.splitlines() if line.startswith("| mlx-lm")]) == 2


def test_every_cell_is_a_type_that_both_sides_have() -> None:
    found = cells.listed(["mlx-lm"], ["llama", "no_such_type"], [0, 1])
    assert [(one.model_type, one.seed) for one in found] == [("llama", 0), ("llama", 1)]


def test_shards_are_joined_without_a_run_and_what_changed_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shard, kind in (("1", "a"), ("2", "b")):
        place = tmp_path / shard / "mlx-lm" / kind / "0"
        (place / "report").mkdir(parents=True)
        (place / "cell.json").write_text(json.dumps(cell(kind, "pass")))
        (place / "report" / "index.html").write_text("")
    (tmp_path / "before.json").write_text(json.dumps({"cells": [cell("a", "fail"), cell("b", "pass")]}))
    out, shards = tmp_path / "out", [str(tmp_path / "1"), str(tmp_path / "2")]
    asked = ["atlas", "--join", *shards, "--out", str(out), "--before", str(tmp_path / "before.json")]
    monkeypatch.setattr(sys, "argv", asked)
    assert main() == 0
    assert [one["model_type"] for one in json.loads((out / "atlas.json").read_text())["cells"]] == ["a", "b"]
    assert (out / "mlx-lm" / "b" / "0" / "report" / "index.html").is_file()
    assert (out / "changes.md").read_text().startswith("- mlx-lm a (seed 0): was fail, is pass\n")
    monkeypatch.setattr(sys, "argv", asked[:-2])
    assert main() == 0 and not (out / "changes.md").exists()
