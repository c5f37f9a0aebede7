"""A PyTorch module of one's own, held against a class in a file, from reference to recordings."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from mlxport import apart
from mlxport.check.run import InputError, run

REFERENCE = """
import torch
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.up = torch.nn.Linear(6, 10)
    @staticmethod
    def inputs(seed):
        return {"x": torch.randn(3, 6, generator=torch.Generator().manual_seed(seed))}
    def forward(self, x):
        return torch.nn.functional.silu(self.up(x))
"""
PORT = """
import mlx.nn as nn
class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.up = nn.Linear(6, 10)
    def __call__(self, x):
        return nn.ACTIVATION(self.up(x))
"""


def asked(place: Path, activation: str, **more: str) -> argparse.Namespace:
    """A check of the two files."""
    (place / "reference.py").write_text(REFERENCE)
    (place / f"port_{activation}.py").write_text(PORT.replace("ACTIVATION", activation))
    given = {"reference": f"{place / 'reference.py'}:Model", "port": f"{place / f'port_{activation}.py'}:Model", **more}
    return apart.wanted(scenarios="prefill", out=place / f"out_{activation}", **given)


def test_a_module_of_ones_own_is_recorded_beside_its_port(tmp_path: Path) -> None:
    said = run(asked(tmp_path, "silu"), tmp_path / "work")
    assert said["scenarios"]["prefill"]["status"] == "ran" and not said["unmapped"]
    assert [leaf["point"] for leaf in said["leaves"]] == ["up"] and "reason" not in said["leaves"][0]


def test_another_scenario_is_told_not_failed(tmp_path: Path) -> None:
    said = run(
        argparse.Namespace(**{**vars(asked(tmp_path, "silu")), "scenarios": "prefill,decode"}), tmp_path / "work"
    )
    assert said["scenarios"]["decode"]["status"] == "not_run"


def test_a_class_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no class Other"):
        run(asked(tmp_path, "silu", reference=f"{tmp_path / 'reference.py'}:Other"), tmp_path / "work")
