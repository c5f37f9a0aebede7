"""No false alarm on weights as released models have them: a few channels a hundred times as large as the rest, values that bfloat16 holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mlxport import apart, small, testing

try:
    BINARY = testing.binary()
except FileNotFoundError as reason:
    pytest.skip(f"not run: {reason}", allow_module_level=True)

FILL = small.fill


def with_outliers(model: torch.nn.Module, seed: int, *, rounded: bool = True) -> None:
    """Draws parameters as ever; then three channels of the embedding and of what writes into the residual are far larger."""
    FILL(model, seed, rounded=rounded)
    chosen = torch.tensor([3, 17, 40])
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Embedding):
                module.weight[:, chosen] *= 128
            elif name.endswith(("o_proj", "down_proj", "out_proj")):
                module.weight[chosen] *= 128


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3_text", "mamba2"])
@pytest.mark.parametrize("seed", [0, 1])
def test_outlier_channels_are_no_fault(kind: str, seed: int, tmp_path: Path) -> None:
    # An interpreter of its own: PyTorch has threads by now, and a process that has threads must not be forked.
    command = [sys.executable, __file__, kind, str(seed), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path(small.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout)
    assert said.get("verdict") == "pass", said.get("first") or said


def main() -> None:
    """One check, in a fresh interpreter: `python test_outliers.py KIND SEED DIR`."""
    kind, seed, place = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    small.fill = with_outliers
    process = apart.start(apart.wanted(model_type=kind, seed=seed, scenarios="prefill,decode"), BINARY, place)
    process.join(600)
    print(json.dumps(apart.told(place, process)))


if __name__ == "__main__":
    main()
