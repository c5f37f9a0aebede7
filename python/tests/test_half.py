"""The port in bfloat16: right ports pass by PyTorch's own bfloat16 floors, and a fault that is larger than those is found."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mlxport import mutants, testing
from mlxport.check import half, parts

try:
    testing.binary()
except FileNotFoundError as reason:
    pytest.skip(f"not run: {reason}", allow_module_level=True)


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_a_right_port_passes(kind: str) -> None:
    said = testing.assert_port("--model-type", kind, "--scenarios", "prefill,bf16")
    assert said["scenarios"] == {"prefill": "pass", "bf16": "pass"}


def test_a_fault_is_found_in_bfloat16_too(tmp_path: Path) -> None:
    fault = next(f for f in mutants.FAULTS if f.model_type == "llama" and f.name == "scale")
    file = mutants.copied("llama", tmp_path, fault.name, [(fault.old, fault.new)])
    said, _ = testing.check("--model-type", "llama", "--port", f"{file}:Model", "--scenarios", "prefill,bf16")
    assert said["scenarios"]["bf16"] == "fail"


def test_experts_are_not_run_and_that_is_told() -> None:
    said, _ = testing.check("--model-type", "qwen3_moe", "--scenarios", "prefill,bf16")
    assert said["scenarios"]["bf16"] == "not_run" and "hangs on rounding" in said["reasons"]["bf16"]


def test_a_dtype_is_one_more_scenario() -> None:
    assert parts.wanted("prefill", "bf16") == ["prefill", "bf16"] == parts.wanted("prefill,bf16", "bf16")
    assert "bf16" not in parts.wanted("all") and parts.wanted("all,bf16")[-1] == "bf16"


def test_tables_that_a_model_works_out_stay_wide() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(4, 4)
            self.register_buffer("saved", torch.ones(4))
            self.register_buffer("table", torch.ones(4), persistent=False)

    made = half.narrowed(Model())
    assert made.linear.weight.dtype == made.saved.dtype == torch.bfloat16 and made.table.dtype == torch.float32
