"""The known bugs' own tests: every bug can still be planted, and the parts that found them do what they say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from mlxport import battery, copies, extras, rowwise, scenarios
from mlxport.heard import Call, Fed, Run
from mlxport.known_bugs import pages
from mlxport.known_bugs.__main__ import BUGS
from mlxport.known_bugs.bug import Bug


@pytest.mark.parametrize("bug", [b for b in BUGS if b.undo], ids=lambda b: b.id)
def test_every_bug_can_be_planted_in_what_is_installed(bug: Bug) -> None:
    spec = importlib.util.find_spec(bug.package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"not run: {bug.port} is not installed")
    root = Path(next(iter(spec.submodule_search_locations)))
    for file in {**bug.mends, **bug.undo}:
        text = (root / file).read_text()
        mended = copies.exchanged(text, bug.mends.get(file, ()), bug.id)
        assert copies.exchanged(mended, bug.undo.get(file, ()), bug.id) != mended or file not in bug.undo


def test_a_piece_that_is_gone_is_an_error() -> None:
    with pytest.raises(SystemExit, match="no longer holds"):
        copies.exchanged("a = 1", [("b = 2", "b = 3")], "x")


def test_ids_are_unique_and_scenarios_known() -> None:
    assert len({bug.id for bug in BUGS}) == len(BUGS)
    assert all(bug.scenario in (*battery.ALL, "load") for bug in BUGS)


def test_a_mended_port_that_fails_is_no_find() -> None:
    results = [
        {"found": True, "named": True, "fixed": "pass"},
        {"found": False, "named": False, "fixed": "fail"},
        {"found": False, "named": False, "fixed": "not_run"},
    ]
    assert pages.counts(results) == {"all": 3, "found": 1, "named": 1, "alarms": 1}


@pytest.mark.parametrize("length", [29, 61, 307])
def test_pieces_and_turns_cover_a_sequence(length: int) -> None:
    for lengths in (scenarios.steps(length), scenarios.chunks(length), scenarios.turns(length)):
        assert sum(lengths) == length and min(lengths) > 0
    assert scenarios.turns(61).count(1) > 3 and max(scenarios.turns(61)[5:]) > 1


def test_a_row_is_cut_out_of_a_batch_without_its_padding() -> None:
    run = Run()
    held = np.arange(2 * 5 * 3, dtype=np.float32).reshape(2, 5, 3)
    heads = held.transpose(0, 2, 1).reshape(2, 3, 5, 1)
    flat, state = held.reshape(10, 3), np.zeros((2, 7), np.float32)
    for path, array in (("whole", held), ("heads", heads), ("folded", flat), ("state", state)):
        run.add(Call(path, run.number(path), [array], [array]))
    cut = rowwise.of(Fed(run, [5]), 1, [slice(2, 5)], [3], 2).run
    assert np.array_equal(cut.find("whole").returned[0], held[1:, 2:])  # type: ignore[union-attr]
    assert np.array_equal(cut.find("heads").returned[0], heads[1:, :, 2:])  # type: ignore[union-attr]
    assert np.array_equal(cut.find("folded").returned[0], held[1, 2:])  # type: ignore[union-attr]
    assert cut.find("state") is None


def test_what_transformers_passes_over_is_known_by_its_own_patterns() -> None:
    class Layer(torch.nn.Module):
        def __init__(self, own: bool) -> None:
            super().__init__()
            self.k_proj = torch.nn.Linear(4, 2, bias=False) if own else None

    class Model(torch.nn.Module):
        _keys_to_ignore_on_load_unexpected = [r"^mtp.*", "layers.1.k_proj"]

        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList([Layer(True), Layer(False)])
            self.config = type("Config", (), {"layer_types": ["full", "full"]})()

    found = extras.shared_layers(Model())
    assert {name: tuple(t.shape) for name, t in found.items()} == {"layers.1.k_proj.weight": (2, 4)}
    assert extras.beside(Model()) == ["mtp.norm.weight"]
